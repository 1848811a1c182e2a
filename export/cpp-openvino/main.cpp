// Features to detections with OpenVINO's C++ API: the detector on the CPU, then the C++ core.
#include <openvino/openvino.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "program.hpp"

namespace {

ov::InferRequest open_network(const std::string& network) {
  ov::Core core;
  // In bfloat16, the default where the processor has it, the foreground gate lets other snippets through.
  return core
      .compile_model(network, ov::Tensor(), "CPU", ov::hint::inference_precision(ov::element::f32),
                     ov::inference_num_threads(1), ov::num_streams(1))
      .create_infer_request();
}

// Borrowed by OpenVINO, which only reads inputs.
ov::Tensor tensor(const std::vector<float>& values, const ov::Shape& shape) {
  return {ov::element::f32, shape, const_cast<float*>(values.data())};
}

void run(const stale::Options& options) {
  if (options.graph != "detector") {
    throw std::runtime_error("this program runs the detector with the C++ core; got --graph " + options.graph);
  }
  const stale::Bundle bundle(options.bundle);
  const std::string network = bundle.network("detector", "onnxruntime", options.precision);  // the same ONNX file
  const stale::ClassBank classes = bundle.class_bank();
  const stale::Matrix video = stale::read_features(options.features);
  bundle.fitted(video);  // refuses before anything is opened

  ov::InferRequest request = open_network(network);
  stale::report(stale::stem(options.features), options.repeat, [&] {
    const stale::Matrix features = bundle.fitted(video);
    request.set_tensor("features", tensor(features.values, {1, features.rows, features.columns}));
    request.set_tensor("class_embeddings",
                       tensor(classes.embeddings.values, {classes.embeddings.rows, classes.embeddings.columns}));
    request.infer();
    return bundle.decode(request.get_tensor("class_logits").data<float>(), request.get_tensor("masks").data<float>(),
                         features.rows, classes.names, options.duration_s);
  });
}

}  // namespace

int main(int argc, char** argv) {
  const std::string build = ov::get_openvino_version().buildNumber;  // "2026.4.1-22982-..."
  return stale::run_program(argc, argv, "OpenVINO " + build.substr(0, build.find('-')), run);
}
