#include "decode.hpp"

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

std::vector<double> thresholds_of(const nlohmann::json& settings) {
  const nlohmann::json& list = member(settings, "mask_thresholds");
  const std::string most = std::to_string(kMostThresholds);
  if (!list.is_array() || list.size() > kMostThresholds) refuse("decode.mask_thresholds must be at most " + most + " numbers");
  std::vector<double> thresholds;
  for (const nlohmann::json& value : list) {
    if (!value.is_number()) refuse("decode.mask_thresholds must be numbers; got " + shown(value.dump()));
    thresholds.push_back(value.get<double>());
  }
  return thresholds;
}

std::int64_t count_of(const nlohmann::json& settings, const char* key, std::size_t most) {
  return static_cast<std::int64_t>(integer_of(settings, key, 1, most));
}

std::vector<Detection> paper(const nlohmann::json& settings, const std::vector<Output>& outputs, const Video& video) {
  const std::size_t K = video.class_names.size(), T = video.n_snippets;
  const std::vector<double> thresholds = thresholds_of(settings);
  DecodeParameters p{};
  p.class_threshold = number_of(settings, "class_threshold");
  p.top_snippets = count_of(settings, "top_snippets", kMostCount);
  p.mask_thresholds = thresholds.data();
  p.n_mask_thresholds = thresholds.size();
  p.regions = choice<Regions>(settings, "regions", {{"runs", Regions::runs}, {"hull", Regions::hull}});
  p.min_snippets = count_of(settings, "min_snippets", kMostCount);
  p.soft_nms.method = choice<SoftNmsMethod>(
      settings, "soft_nms",
      {{"gaussian", SoftNmsMethod::gaussian}, {"linear", SoftNmsMethod::linear}, {"hard", SoftNmsMethod::hard}});
  p.soft_nms.sigma = number_of(settings, "sigma");
  p.soft_nms.tiou_threshold = number_of(settings, "tiou_threshold");
  p.soft_nms.min_score = number_of(settings, "min_score");
  p.soft_nms.top_k = count_of(settings, "max_detections", kMostDetections);
  return decode_paper(checked(outputs.at(0), "class_logits", {1, K + 1, T}), checked(outputs.at(1), "masks", {1, T, T}), K, T,
                      p);
}

std::vector<Detection> release(const nlohmann::json&, const std::vector<Output>& outputs, const Video& video) {
  const std::size_t K = video.class_names.size(), T = video.n_snippets;
  return decode_release(checked(outputs.at(0), "class_logits", {1, K + 1, T}), checked(outputs.at(1), "masks", {1, T, T}), K,
                        T);
}

const std::vector<Policy>& policies() {
  static const std::vector<Policy> all{
      {"paper", {"class_logits", "masks"}, paper},
      {"release", {"class_logits", "masks"}, release},
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

std::vector<NamedDetection> decode(const nlohmann::json& settings, const std::vector<Output>& outputs, const Video& video) {
  const auto T = static_cast<double>(video.n_snippets);
  std::vector<NamedDetection> named;
  for (const Detection& d : policy_of(settings).decode(settings, outputs, video)) {
    const std::string& label = video.class_names.at(static_cast<std::size_t>(d.label));
    named.push_back({label, d.score, d.start / T * video.duration_s, d.end / T * video.duration_s});
  }
  return named;
}

}  // namespace stale
