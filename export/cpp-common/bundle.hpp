// A bundle, checked before anything is computed: format version, file hashes, feature contract, settings of the decoder.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "npy.hpp"
#include "stale_core.hpp"

namespace stale {

struct ClassBank {
  std::vector<std::string> names;  // K
  Matrix embeddings;               // (K, D)
};

struct NamedDetection {
  std::string label;
  double score;
  double start_s;
  double end_s;
};

// The manifest of a bundle, and what it says. Everything throws std::runtime_error with one line for people.
class Bundle {
 public:
  explicit Bundle(std::string folder);

  // The bytes of a network, after its size and sha256 were found equal to the manifest's.
  // role: "detector" or "localizer"; runtime: "onnxruntime" or "torchscript"; precision: "fp32", "fp16" or "int8".
  std::string network(const std::string& role, const std::string& runtime, const std::string& precision) const;

  ClassBank class_bank() const;

  // Features (T, C) of a whole video, checked against the feature contract and resampled where it says so.
  Matrix fitted(const Matrix& features) const;

  // What a detector gave for one video, to detections, best first. class_logits (K+1, T), background last; masks (T, T).
  std::vector<NamedDetection> decode(const float* class_logits, const float* masks, std::size_t n_snippets,
                                     const std::vector<std::string>& class_names, double duration_s) const;

 private:
  std::string checked_file(const nlohmann::json& entry) const;

  std::string folder_;
  nlohmann::json manifest_;
};

// The same with settings out of any "decode" object of a manifest.
std::vector<NamedDetection> decode(const nlohmann::json& settings, const float* class_logits, const float* masks,
                                   std::size_t n_snippets, const std::vector<std::string>& class_names, double duration_s);

// Linear interpolation between the centres of snippets, held constant before the first and after the last.
Matrix resampled(const Matrix& features, std::size_t length);

}  // namespace stale
