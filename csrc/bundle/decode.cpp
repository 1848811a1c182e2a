#include "decode.hpp"

#include <algorithm>
#include <numeric>
#include <stdexcept>

namespace stale {
namespace {

[[noreturn]] void refuse(const std::string& message) { throw std::runtime_error(message); }

template <typename Choice>
Choice choice(const nlohmann::json& settings, const char* key, const std::vector<std::pair<std::string, Choice>>& allowed) {
  const std::string got = text_of(settings, key);
  for (const auto& [name, value] : allowed) {
    if (name == got) return value;
  }
  refuse(std::string("decode.") + key + " is " + shown(got) + ", which this program does not know");
}

std::string said(const std::vector<std::int64_t>& shape) {
  std::string text;
  for (const std::int64_t size : shape) text += (text.empty() ? "(" : ", ") + std::to_string(size);
  return text.empty() ? "()" : text + ")";
}

// What the core reads without looking: a pointer is as good as the shape behind it.
const float* checked(const Output& output, const std::string& name, const std::vector<std::size_t>& shape) {
  const std::vector<std::int64_t> wanted(shape.begin(), shape.end());
  if (output.values == nullptr) refuse("the detector's output " + name + " must be a float32 tensor");
  if (output.shape != wanted) refuse("the detector's output " + name + " must be " + said(wanted) + "; got " + said(output.shape));
  return output.values;
}

std::vector<double> thresholds_of(const nlohmann::json& settings, const char* key) {
  const nlohmann::json& list = member(settings, key);
  const std::string name = std::string("decode.") + key, most = std::to_string(kMostThresholds);
  if (!list.is_array() || list.size() > kMostThresholds) refuse(name + " must be at most " + most + " numbers");
  std::vector<double> thresholds;
  for (const nlohmann::json& value : list) {
    if (!value.is_number()) refuse(name + " must be numbers; got " + shown(value.dump()));
    thresholds.push_back(value.get<double>());
  }
  return thresholds;
}

std::int64_t count_of(const nlohmann::json& settings, const char* key, std::size_t most) {
  return static_cast<std::int64_t>(integer_of(settings, key, 1, most));
}

SoftNmsParameters soft_nms_of(const nlohmann::json& settings) {
  SoftNmsParameters p{};
  p.method = choice<SoftNmsMethod>(
      settings, "soft_nms",
      {{"gaussian", SoftNmsMethod::gaussian}, {"linear", SoftNmsMethod::linear}, {"hard", SoftNmsMethod::hard}});
  p.sigma = number_of(settings, "sigma");
  p.tiou_threshold = number_of(settings, "tiou_threshold");
  p.min_score = number_of(settings, "min_score");
  p.top_k = count_of(settings, "max_detections", kMostDetections);
  return p;
}

Decoded paper(const nlohmann::json& settings, const std::vector<Output>& outputs, const Video& video) {
  const std::size_t K = video.class_names.size(), T = video.n_snippets;
  const std::vector<double> thresholds = thresholds_of(settings, "mask_thresholds");
  DecodeParameters p{};
  p.class_threshold = number_of(settings, "class_threshold");
  p.top_snippets = count_of(settings, "top_snippets", kMostCount);
  p.mask_thresholds = thresholds.data();
  p.n_mask_thresholds = thresholds.size();
  p.regions = choice<Regions>(settings, "regions", {{"runs", Regions::runs}, {"hull", Regions::hull}});
  p.min_snippets = count_of(settings, "min_snippets", kMostCount);
  p.soft_nms = soft_nms_of(settings);
  const float* class_logits = checked(outputs.at(0), "class_logits", {1, K + 1, T});
  return {decode_paper(class_logits, checked(outputs.at(1), "masks", {1, T, T}), K, T, p), T};
}

Decoded release(const nlohmann::json&, const std::vector<Output>& outputs, const Video& video) {
  const std::size_t K = video.class_names.size(), T = video.n_snippets;
  const float* class_logits = checked(outputs.at(0), "class_logits", {1, K + 1, T});
  return {decode_release(class_logits, checked(outputs.at(1), "masks", {1, T, T}), K, T), T};
}

// The points of each level of a video of T snippets: level l has ceil(T / 2^l).
std::vector<std::int64_t> levels_of(std::size_t n_snippets, std::size_t n_levels) {
  std::vector<std::int64_t> lengths;
  for (std::size_t level = 0; level < n_levels; ++level) {
    const std::size_t step = std::size_t{1} << level;
    lengths.push_back(static_cast<std::int64_t>((n_snippets + step - 1) / step));
  }
  return lengths;
}

// The levels that have so many points together.
std::vector<std::int64_t> split_levels(std::size_t n_points, std::size_t n_levels) {
  const auto total = [&](std::size_t n_snippets) {
    const std::vector<std::int64_t> lengths = levels_of(n_snippets, n_levels);
    return static_cast<std::size_t>(std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0}));
  };
  std::size_t low = 1, high = n_points;
  while (low < high) {  // more snippets never have fewer points
    const std::size_t middle = low + (high - low) / 2;
    if (total(middle) >= n_points) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  if (total(low) != n_points) {
    refuse("no video has " + std::to_string(n_points) + " points on " + std::to_string(n_levels) + " levels");
  }
  return levels_of(low, n_levels);
}

Decoded points(const nlohmann::json& settings, const std::vector<Output>& outputs, const Video& video) {
  constexpr std::size_t kMostLevels = 32;  // as in stale_core.hpp
  const std::size_t K = video.class_names.size(), n_levels = integer_of(settings, "n_levels", 1, kMostLevels);
  const std::vector<std::int64_t>& shape = outputs.at(0).shape;
  const std::size_t P = shape.size() == 3 && shape[1] > 0 ? static_cast<std::size_t>(shape[1]) : 0;
  const std::vector<std::int64_t> lengths = split_levels(P, n_levels);
  const float* class_logits = checked(outputs[0], "class_logits", {1, P, K});
  const float* offsets = checked(outputs.at(1), "offsets", {1, P, 2});
  const float* given = checked(outputs.at(2), "valid", {1, P});
  std::vector<std::uint8_t> valid(P);
  std::transform(given, given + P, valid.begin(), [](float value) { return value > 0.5F ? 1 : 0; });
  const auto n_valid = std::accumulate(valid.begin(), valid.begin() + lengths[0], std::size_t{0});

  PointsParameters p{};
  p.pre_nms_threshold = number_of(settings, "pre_nms_threshold");
  p.pre_nms_top_k = count_of(settings, "pre_nms_top_k", kMostDetections);
  p.duration_threshold = number_of(settings, "duration_threshold");
  if (!member(settings, "multiclass").is_boolean()) refuse("manifest.json: multiclass must be true or false");
  p.multiclass = member(settings, "multiclass").get<bool>();
  p.suppress = text_of(settings, "soft_nms") != "none";
  p.voting_threshold = number_of(settings, "voting_threshold");
  if (p.suppress) {
    p.soft_nms.method = choice<SoftNmsMethod>(
        settings, "soft_nms", {{"gaussian", SoftNmsMethod::gaussian}, {"hard", SoftNmsMethod::hard}});
  }
  p.soft_nms.sigma = number_of(settings, "sigma");
  p.soft_nms.tiou_threshold = number_of(settings, "tiou_threshold");
  p.soft_nms.min_score = number_of(settings, "min_score");
  p.soft_nms.top_k = count_of(settings, "max_detections", kMostDetections);
  p.soft_nms.length_margin = kPointsLengthMargin;
  return {decode_points({class_logits, offsets, valid.data(), P, K, lengths.data(), n_levels}, p), std::max(n_valid, std::size_t{1})};
}

Decoded runs(const nlohmann::json& settings, const std::vector<Output>& outputs, const Video& video) {
  const std::size_t K = video.class_names.size(), T = video.n_snippets;
  const std::vector<double> thresholds = thresholds_of(settings, "thresholds");
  RunsParameters p{};
  p.class_threshold = number_of(settings, "class_threshold");
  p.top_share = number_of(settings, "top_share");
  p.thresholds = thresholds.data();
  p.n_thresholds = thresholds.size();
  const bool compared = settings.contains("class_scores");  // older bundles do not say: softmax
  p.alone = compared && choice<bool>(settings, "class_scores", {{"softmax", false}, {"sigmoid", true}});
  p.scaled = choice<bool>(settings, "threshold_scale", {{"none", false}, {"video", true}});
  p.smoothing = number_of(settings, "smoothing");
  p.run_score = choice<RunScore>(
      settings, "run_score",
      {{"maximum", RunScore::maximum}, {"contrast", RunScore::contrast}, {"mean-contrast", RunScore::mean_contrast}});
  p.surroundings = number_of(settings, "surroundings");
  p.video_weight = number_of(settings, "video_weight");
  p.length_power = number_of(settings, "length_power");
  p.min_snippets = count_of(settings, "min_snippets", kMostCount);
  p.soft_nms = soft_nms_of(settings);
  const float* class_logits = checked(outputs.at(0), "class_logits", {1, K + 1, T});
  const float* attention = outputs.size() > 1 ? checked(outputs[1], "attention", {1, T}) : nullptr;
  return {decode_runs({class_logits, attention, K, T}, p), T};
}

const std::vector<Policy>& policies() {
  static const std::vector<Policy> all{
      {"paper", {"class_logits", "masks"}, {}, paper},
      {"release", {"class_logits", "masks"}, {}, release},
      {"points", {"class_logits", "offsets", "valid"}, {}, points},
      {"runs", {"class_logits"}, {"attention"}, runs},
  };
  return all;
}

}  // namespace

const Policy& policy_of(const nlohmann::json& settings) {
  const std::string name = text_of(settings, "policy");
  std::string known;
  for (const Policy& policy : policies()) {
    if (policy.name == name) return policy;
    known += (known.empty() ? "" : ", ") + policy.name;
  }
  refuse("decode.policy is " + shown(name) + "; this program decodes " + known);
}

TimeGrid grid_of(const nlohmann::json& contract, double duration_s) {
  TimeGrid grid{duration_s};
  const auto known = [&](const char* key) { return contract.find(key) != contract.end() && !contract[key].is_null(); };
  const bool as_they_are = text_of(contract, "resampling") == "none";
  if (!as_they_are || !known("num_frames") || !known("fps") || !known("stride")) return grid;  // format 1 has no num_frames
  grid.by_frames = true;
  grid.stride = static_cast<double>(integer_of(contract, "stride", 1, kMostCount));
  grid.num_frames = static_cast<double>(integer_of(contract, "num_frames", 1, kMostCount));
  grid.fps = number_of(contract, "fps");
  if (!(grid.fps > 0.0)) refuse("manifest.json: fps must be a number > 0");
  return grid;
}

double TimeGrid::seconds(double snippet, double n_snippets) const {
  const double found = by_frames ? (snippet * stride + 0.5 * num_frames) / fps : snippet / n_snippets * duration_s;
  return found > duration_s ? duration_s : found > 0.0 ? found : 0.0;
}

std::vector<NamedDetection> decode(const nlohmann::json& settings, const std::vector<Output>& outputs, const Video& video) {
  const Decoded decoded = policy_of(settings).decode(settings, outputs, video);
  const auto n = static_cast<double>(decoded.n_snippets);
  std::vector<NamedDetection> named;
  for (const Detection& d : decoded.detections) {
    const std::string& label = video.class_names.at(static_cast<std::size_t>(d.label));
    named.push_back({label, d.score, video.grid.seconds(d.start, n), video.grid.seconds(d.end, n)});
  }
  return named;
}

}  // namespace stale
