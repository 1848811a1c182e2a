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

// Hides the warning of torch, at each int8 detector that is opened, that quantized tensors will be removed.
struct Silence : c10::WarningHandler {
  void process(const c10::Warning&) override {}
};

// Borrowed by libtorch, which only reads inputs.
torch::Tensor tensor(const stale::Matrix& matrix) {
  return torch::from_blob(const_cast<float*>(matrix.values.data()),
                          {static_cast<std::int64_t>(matrix.rows), static_cast<std::int64_t>(matrix.columns)});
}

// An output as float32; its values are null where it is something else. Outputs are a tuple in the manifest's order.
stale::Output output_of(const c10::IValue& given, std::size_t place, std::vector<torch::Tensor>& kept) {
  if (!given.isTuple() || place >= given.toTuple()->elements().size()) return {};
  const c10::IValue& value = given.toTuple()->elements()[place];
  if (!value.isTensor() || value.toTensor().scalar_type() != torch::kFloat32) return {};
  kept.push_back(value.toTensor().contiguous());
  const torch::Tensor& tensor = kept.back();
  return {tensor.data_ptr<float>(), {tensor.sizes().begin(), tensor.sizes().end()}};
}

void run(const stale::Options& options) {
  if (options.graph != "detector") {
    throw std::runtime_error("this program runs the detector with the C++ core; got --graph " + stale::shown(options.graph));
  }
  const stale::Bundle bundle(options.bundle);
  const std::vector<stale::Read> reads = bundle.reads("torchscript", options.precision);
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
    const c10::IValue given = detector.forward({tensor(features).unsqueeze(0), tensor(classes.embeddings)});
    std::vector<torch::Tensor> kept;  // contiguous, alive until they are decoded
    std::vector<stale::Output> outputs;
    for (const stale::Read& read : reads) outputs.push_back(output_of(given, read.place, kept));
    return stale::decode(bundle.decode_settings(), outputs, {classes.names, features.rows, bundle.time_grid(options.duration_s)});
  });
}

}  // namespace

int main(int argc, char** argv) { return stale::run_program(argc, argv, "libtorch " TORCH_VERSION, run); }
