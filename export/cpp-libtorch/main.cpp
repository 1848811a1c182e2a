// Features to detections with libtorch: the TorchScript detector, then the C++ core.
#include <ATen/Parallel.h>
#include <torch/script.h>
#include <torch/version.h>

#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "program.hpp"

namespace {

// torch announces the end of its quantized tensors whenever an int8 detector is opened; this one runs until then.
struct Silence : c10::WarningHandler {
  void process(const c10::Warning&) override {}
};

// Borrowed by libtorch, which only reads inputs.
torch::Tensor tensor(const stale::Matrix& matrix) {
  return torch::from_blob(const_cast<float*>(matrix.values.data()),
                          {static_cast<std::int64_t>(matrix.rows), static_cast<std::int64_t>(matrix.columns)});
}

void run(const stale::Options& options) {
  if (options.graph != "detector") {
    throw std::runtime_error("this program runs the detector with the C++ core; got --graph " + options.graph);
  }
  const stale::Bundle bundle(options.bundle);
  std::istringstream network(bundle.network("detector", "torchscript", options.precision));
  const stale::ClassBank classes = bundle.class_bank();
  const stale::Matrix video = stale::read_features(options.features);
  bundle.fitted(video);  // refuses before anything is opened

  at::set_num_threads(1);  // nothing burns all cores unasked
  const c10::InferenceMode no_gradients;
  Silence silence;
  const c10::WarningUtils::WarningHandlerGuard quiet(&silence);
  torch::jit::Module detector = torch::jit::load(network, torch::kCPU);
  detector.eval();
  stale::report(stale::stem(options.features), options.repeat, [&] {
    const stale::Matrix features = bundle.fitted(video);
    const auto outputs = detector.forward({tensor(features).unsqueeze(0), tensor(classes.embeddings)}).toTuple();
    const torch::Tensor class_logits = outputs->elements()[0].toTensor().contiguous();  // (1, K+1, T)
    const torch::Tensor masks = outputs->elements()[1].toTensor().contiguous();         // (1, T, T)
    return bundle.decode(class_logits.data_ptr<float>(), masks.data_ptr<float>(), features.rows, classes.names,
                         options.duration_s);
  });
}

}  // namespace

int main(int argc, char** argv) { return stale::run_program(argc, argv, "libtorch " TORCH_VERSION, run); }
