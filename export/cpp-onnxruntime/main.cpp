// Features to detections with ONNX Runtime's C++ API: either the detector and the C++ core, or the pipeline.
#include <dlfcn.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
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
  setenv("ORT_DISABLE_TELEMETRY", "1", 0);  // from 1.29 on it sends usage data unless told otherwise
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

// An output as float32; its values are null where it is something else.
stale::Output output_of(const Ort::Value& value) {
  stale::Output output;
  if (!value.IsTensor()) return output;
  const auto info = value.GetTensorTypeAndShapeInfo();
  output.shape = info.GetShape();
  if (info.GetElementType() == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) output.values = value.GetTensorData<float>();
  return output;
}

std::vector<stale::NamedDetection> detect(Ort::Session& session, const stale::Bundle& bundle,
                                          const std::vector<stale::Read>& reads, const stale::ClassBank& classes,
                                          const stale::Matrix& features, double duration_s) {
  const std::array<const char*, 2> inputs{"features", "class_embeddings"};
  std::vector<const char*> outputs;
  for (const stale::Read& read : reads) outputs.push_back(read.name.c_str());
  Values given;
  given.push_back(tensor<3>(features.values, {1, size(features.rows), size(features.columns)}));
  given.push_back(tensor<2>(classes.embeddings.values, {size(classes.embeddings.rows), size(classes.embeddings.columns)}));
  const Values found =
      session.Run(Ort::RunOptions(), inputs.data(), given.data(), given.size(), outputs.data(), outputs.size());
  std::vector<stale::Output> read;
  for (const Ort::Value& value : found) read.push_back(output_of(value));
  return stale::decode(bundle.decode_settings(), read, {classes.names, features.rows, bundle.time_grid(duration_s)});
}

std::vector<stale::NamedDetection> run_pipeline(Ort::Session& session, const stale::ClassBank& classes,
                                                const stale::Matrix& features, double duration_s) {
  const std::array<const char*, 3> inputs{"features", "class_embeddings", "duration_s"};
  const std::array<const char*, 3> outputs{"segments", "scores", "labels"};
  const std::vector<float> duration{static_cast<float>(duration_s)};
  Values given;
  given.push_back(tensor<3>(features.values, {1, size(features.rows), size(features.columns)}));
  given.push_back(tensor<2>(classes.embeddings.values, {size(classes.embeddings.rows), size(classes.embeddings.columns)}));
  given.push_back(tensor<1>(duration, {1}));
  const Values found = session.Run(Ort::RunOptions(), inputs.data(), given.data(), given.size(), outputs.data(), 3);
  const stale::Output segments = output_of(found[0]), scores = output_of(found[1]), labels = output_of(found[2]);
  const std::vector<std::int64_t> one_each = scores.shape;  // N
  const bool integers = found[2].IsTensor() && found[2].GetTensorTypeAndShapeInfo().GetElementType() ==
                                                   ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
  if (one_each.size() != 1 || segments.shape != std::vector<std::int64_t>{one_each[0], 2} || labels.shape != one_each ||
      segments.values == nullptr || scores.values == nullptr || !integers) {
    throw std::runtime_error("the pipeline must give segments (N, 2) and scores (N,), float32, and labels (N,), int64");
  }
  std::vector<stale::NamedDetection> detections;
  const auto* rows = found[2].GetTensorData<std::int64_t>();
  for (std::int64_t i = 0; i < one_each[0]; ++i) {
    const float *segment = segments.values + 2 * i, score = scores.values[i];
    if (rows[i] < 0 || rows[i] >= size(classes.names.size())) {
      throw std::runtime_error("the pipeline gave label " + std::to_string(rows[i]) + " of " +
                               std::to_string(classes.names.size()) + " classes");
    }
    if (!std::isfinite(score) || !std::isfinite(segment[0]) || !std::isfinite(segment[1])) {
      throw std::runtime_error("the pipeline gave a score or a segment that is not finite");
    }
    detections.push_back({classes.names[static_cast<std::size_t>(rows[i])], score, segment[0], segment[1]});
  }
  return detections;
}

void run(const stale::Options& options) {
  const bool whole = options.graph == "pipeline";
  if (!whole && options.graph != "detector") {
    throw std::runtime_error("--graph must be detector or pipeline; got " + stale::shown(options.graph));
  }
  const stale::Bundle bundle(options.bundle);
  const std::vector<stale::Read> reads =
      whole ? std::vector<stale::Read>() : bundle.reads("onnxruntime", options.precision);
  const std::string network = bundle.network(whole ? "localizer" : "detector", "onnxruntime", options.precision);
  const stale::ClassBank classes = bundle.class_bank();
  const stale::Matrix video = stale::read_features(options.features);
  bundle.fitted(video);  // refuses before anything is opened

  const Ort::Env environment(ORT_LOGGING_LEVEL_ERROR, "stale-edge");
  Ort::Session session = open_session(environment, network);
  stale::report(stale::stem(options.features), options.repeat, [&] {
    const stale::Matrix features = bundle.fitted(video);
    return whole ? run_pipeline(session, classes, features, options.duration_s)
                 : detect(session, bundle, reads, classes, features, options.duration_s);
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
