// From the outputs of a detector to named detections in seconds, by the decoding core.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "files.hpp"
#include "stale_core.hpp"

namespace stale {

struct NamedDetection {
  std::string label;
  double score;
  double start_s;
  double end_s;
};

// An output of a detector, borrowed from the runtime: float32, row-major; values is null where its type is another one.
struct Output {
  const float* values = nullptr;
  std::vector<std::int64_t> shape;
};

// Where snippets lie in time. By frames: (snippet * stride + num_frames / 2) / fps; else snippet / n_snippets * duration_s.
// Kept in [0, duration_s].
struct TimeGrid {
  double duration_s;
  bool by_frames = false;
  double stride = 0.0;
  double num_frames = 0.0;
  double fps = 0.0;

  double seconds(double snippet, double n_snippets) const;
};

// The grid of frames where the feature contract says how frames became the features that the network reads; else snippets share
// the video evenly.
TimeGrid grid_of(const nlohmann::json& contract, double duration_s);

// The one video that was run.
struct Video {
  const std::vector<std::string>& class_names;  // K
  std::size_t n_snippets;                       // T of the features that the detector read
  TimeGrid grid;
};

// Detections in snippets, of which the video has `n_snippets`.
struct Decoded {
  std::vector<Detection> detections;
  std::size_t n_snippets;
};

// A way to decode, named by `decode.policy` of a manifest.
struct Policy {
  std::string name;
  std::vector<std::string> reads;     // outputs of the detector
  std::vector<std::string> may_read;  // outputs that follow them where the detector has them
  Decoded (*decode)(const nlohmann::json& settings, const std::vector<Output>& outputs, const Video& video);
};

// The policy that a manifest's "decode" names. Throws std::runtime_error with a list of all policies when it is none of them.
const Policy& policy_of(const nlohmann::json& settings);

// The outputs that the policy reads, in its order, to detections, best first. Outputs of another shape or type are refused.
std::vector<NamedDetection> decode(const nlohmann::json& settings, const std::vector<Output>& outputs, const Video& video);

}  // namespace stale
