// Features to detections with ONNX Runtime's C++ API: either the detector and the C++ core, or the one-file localizer.
#include <dlfcn.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

// The library is opened when the program starts, so any ONNX Runtime from the headers' version on will do.
#define ORT_API_MANUAL_INIT
#include <onnxruntime_cxx_api.h>

#include "program.hpp"

namespace {

using Values = std::vector<Ort::Value>;

std::string open_onnxruntime() {
  void* library = dlopen("libonnxruntime.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw std::runtime_error(dlerror());
  const auto get_base = reinterpret_cast<const OrtApiBase* (*)()>(dlsym(library, "OrtGetApiBase"));
  const OrtApi* api = get_base != nullptr ? get_base()->GetApi(ORT_API_VERSION) : nullptr;
  if (api == nullptr) {
    throw std::runtime_error("ONNX Runtime 1." + std::to_string(ORT_API_VERSION) + " or newer is needed");
  }
  Ort::InitApi(api);
  return get_base()->GetVersionString();
}

Ort::Session open_session(const Ort::Env& environment, const std::string& network) {
  Ort::SessionOptions options;
  options.SetIntraOpNumThreads(1);  // nothing burns all cores unasked
  options.SetInterOpNumThreads(1);
  options.SetGraphOptimizationLevel(GraphOptimizationLevel::ORT_ENABLE_ALL);
  return Ort::Session(environment, network.data(), network.size(), options);
}

// Inputs are borrowed by ONNX Runtime, which only reads them.
template <std::size_t N>
Ort::Value tensor(const std::vector<float>& values, const std::array<std::int64_t, N>& shape) {
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  return Ort::Value::CreateTensor<float>(memory, const_cast<float*>(values.data()), values.size(), shape.data(), N);
}

std::int64_t size(std::size_t value) { return static_cast<std::int64_t>(value); }

std::vector<stale::NamedDetection> detect(Ort::Session& session, const stale::Bundle& bundle,
                                          const stale::ClassBank& classes, const stale::Matrix& features,
                                          double duration_s) {
  const std::array<const char*, 2> inputs{"features", "class_embeddings"};
  const std::array<const char*, 2> outputs{"class_logits", "masks"};
  Values given;
  given.push_back(tensor<3>(features.values, {1, size(features.rows), size(features.columns)}));
  given.push_back(tensor<2>(classes.embeddings.values, {size(classes.embeddings.rows), size(classes.embeddings.columns)}));
  const Values found = session.Run(Ort::RunOptions(), inputs.data(), given.data(), given.size(), outputs.data(), 2);
  return bundle.decode(found[0].GetTensorData<float>(), found[1].GetTensorData<float>(), features.rows, classes.names,
                       duration_s);
}

std::vector<stale::NamedDetection> localize(Ort::Session& session, const stale::ClassBank& classes,
                                            const stale::Matrix& features, double duration_s) {
  const std::array<const char*, 3> inputs{"features", "class_embeddings", "duration_s"};
  const std::array<const char*, 3> outputs{"segments", "scores", "labels"};
  const std::vector<float> duration{static_cast<float>(duration_s)};
  Values given;
  given.push_back(tensor<3>(features.values, {1, size(features.rows), size(features.columns)}));
  given.push_back(tensor<2>(classes.embeddings.values, {size(classes.embeddings.rows), size(classes.embeddings.columns)}));
  given.push_back(tensor<1>(duration, {1}));
  const Values found = session.Run(Ort::RunOptions(), inputs.data(), given.data(), given.size(), outputs.data(), 3);
  const float* segments = found[0].GetTensorData<float>();  // (N, 2) in seconds
  const float* scores = found[1].GetTensorData<float>();
  const std::int64_t* labels = found[2].GetTensorData<std::int64_t>();
  std::vector<stale::NamedDetection> detections;
  for (std::size_t i = 0; i < found[1].GetTensorTypeAndShapeInfo().GetElementCount(); ++i) {
    const auto& label = classes.names.at(static_cast<std::size_t>(labels[i]));
    detections.push_back({label, scores[i], segments[2 * i], segments[2 * i + 1]});
  }
  return detections;
}

void run(const stale::Options& options) {
  if (options.graph != "detector" && options.graph != "localizer") {
    throw std::runtime_error("--graph must be detector or localizer; got " + options.graph);
  }
  const stale::Bundle bundle(options.bundle);
  const std::string network = bundle.network(options.graph, "onnxruntime", options.precision);
  const stale::ClassBank classes = bundle.class_bank();
  const stale::Matrix video = stale::read_features(options.features);
  bundle.fitted(video);  // refuses before anything is opened

  const Ort::Env environment(ORT_LOGGING_LEVEL_ERROR, "stale-edge");
  Ort::Session session = open_session(environment, network);
  stale::report(stale::stem(options.features), options.repeat, [&] {
    const stale::Matrix features = bundle.fitted(video);
    return options.graph == "detector" ? detect(session, bundle, classes, features, options.duration_s)
                                       : localize(session, classes, features, options.duration_s);
  });
}

}  // namespace

int main(int argc, char** argv) {
  std::string version;
  try {
    version = "ONNX Runtime " + open_onnxruntime();
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "error: %s\n", problem.what());
    return 1;
  }
  return stale::run_program(argc, argv, version, run);
}
