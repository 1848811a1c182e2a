// A bundle, checked before anything is computed: format version, file hashes, feature contract, settings of the decoder.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "decode.hpp"
#include "npy.hpp"

namespace stale {

struct ClassBank {
  std::vector<std::string> names;  // K, distinct
  Matrix embeddings;               // (K, D), finite
};

// An output of a detector that is read: its name, and its place among the detector's outputs, which TorchScript gives as a tuple.
struct Read {
  std::string name;
  std::size_t place;
};

// The manifest of a bundle, and what it says. Everything throws std::runtime_error with one line for people.
class Bundle {
 public:
  explicit Bundle(std::string folder);

  // The bytes of a network, after its size and sha256 were found equal to the manifest's.
  // role: "detector", or "localizer" for the pipeline; runtime: "onnxruntime" or "torchscript"; precision: "fp32" or "int8".
  std::string network(const std::string& role, const std::string& runtime, const std::string& precision) const;

  // What the decode policy reads of a detector, in its order. A detector that does not list all of it is refused.
  std::vector<Read> reads(const std::string& runtime, const std::string& precision) const;

  // The "decode" object of the manifest.
  const nlohmann::json& decode_settings() const { return member(manifest_, "decode"); }

  // Where snippets of a video lie in time.
  TimeGrid time_grid(double duration_s) const { return grid_of(member(manifest_, "feature_contract"), duration_s); }

  ClassBank class_bank() const;

  // Features (T, C) of a whole video, checked against the feature contract and resampled where it says so.
  Matrix fitted(const Matrix& features) const;

 private:
  const nlohmann::json& file(const std::string& role, const std::string& runtime, const std::string& precision) const;
  std::string checked_file(const nlohmann::json& entry) const;

  std::string folder_;
  nlohmann::json manifest_;
};

// Linear interpolation between the centres of snippets, held constant before the first and after the last.
Matrix resampled(const Matrix& features, std::size_t length);

}  // namespace stale
