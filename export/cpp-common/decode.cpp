// From the network's outputs to named detections in seconds, by the decoding core.
#include <stdexcept>

#include "bundle.hpp"

namespace stale {
namespace {

template <typename Choice>
Choice choice(const nlohmann::json& settings, const char* key, const std::vector<std::pair<std::string, Choice>>& allowed) {
  const auto got = settings.at(key).get<std::string>();
  for (const auto& [name, value] : allowed) {
    if (name == got) return value;
  }
  throw std::runtime_error(std::string("decode.") + key + " is '" + got + "', which this program does not know");
}

std::vector<Detection> decoded(const nlohmann::json& settings, const float* class_logits, const float* masks,
                               std::size_t n_classes, std::size_t n_snippets) {
  if (choice<bool>(settings, "policy", {{"release", true}, {"paper", false}})) {
    return decode_release(class_logits, masks, n_classes, n_snippets);
  }
  const auto thresholds = settings.at("mask_thresholds").get<std::vector<double>>();
  DecodeParameters p{};
  p.class_threshold = settings.at("class_threshold");
  p.top_snippets = settings.at("top_snippets");
  p.mask_thresholds = thresholds.data();
  p.n_mask_thresholds = thresholds.size();
  p.regions = choice<Regions>(settings, "regions", {{"runs", Regions::runs}, {"hull", Regions::hull}});
  p.min_snippets = settings.at("min_snippets");
  p.soft_nms.method = choice<SoftNmsMethod>(
      settings, "soft_nms",
      {{"gaussian", SoftNmsMethod::gaussian}, {"linear", SoftNmsMethod::linear}, {"hard", SoftNmsMethod::hard}});
  p.soft_nms.sigma = settings.at("sigma");
  p.soft_nms.tiou_threshold = settings.at("tiou_threshold");
  p.soft_nms.min_score = settings.at("min_score");
  p.soft_nms.top_k = settings.at("max_detections");
  return decode_paper(class_logits, masks, n_classes, n_snippets, p);
}

}  // namespace

std::vector<NamedDetection> decode(const nlohmann::json& settings, const float* class_logits, const float* masks,
                                   std::size_t n_snippets, const std::vector<std::string>& class_names, double duration_s) {
  const auto T = static_cast<double>(n_snippets);
  std::vector<NamedDetection> named;
  for (const Detection& d : decoded(settings, class_logits, masks, class_names.size(), n_snippets)) {
    const auto& label = class_names[static_cast<std::size_t>(d.label)];
    named.push_back({label, d.score, d.start / T * duration_s, d.end / T * duration_s});
  }
  return named;
}

}  // namespace stale
