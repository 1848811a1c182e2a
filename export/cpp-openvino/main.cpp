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

// An output as float32; its values are null where it is something else.
stale::Output output_of(const ov::Tensor& tensor) {
  const ov::Shape shape = tensor.get_shape();
  return {tensor.get_element_type() == ov::element::f32 ? tensor.data<float>() : nullptr, {shape.begin(), shape.end()}};
}

void run(const stale::Options& options) {
  if (options.graph != "detector") {
    throw std::runtime_error("this program runs the detector with the C++ core; got --graph " + stale::shown(options.graph));
  }
  const stale::Bundle bundle(options.bundle);
  const std::vector<stale::Read> reads = bundle.reads("onnxruntime", options.precision);  // the same ONNX file
  const std::string network = bundle.network("detector", "onnxruntime", options.precision);
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
    std::vector<stale::Output> outputs;
    for (const stale::Read& read : reads) outputs.push_back(output_of(request.get_tensor(read.name)));
    return stale::decode(bundle.decode_settings(), outputs, {classes.names, features.rows, bundle.time_grid(options.duration_s)});
  });
}

}  // namespace

int main(int argc, char** argv) {
  const std::string build = ov::get_openvino_version().buildNumber;  // "2026.4.1-22982-..."
  return stale::run_program(argc, argv, "OpenVINO " + build.substr(0, build.find('-')), run);
}
