#include "checks.hpp"

#include <cmath>
#include <cstdint>
#include <limits>

namespace stale {

void check_segments(const double* segments, std::size_t n, const char* name) {
  check_aligned(segments, name);
  for (std::size_t i = 0; i < n; ++i) {
    const double start = segments[2 * i];
    const double end = segments[2 * i + 1];
    if (!std::isfinite(start) || !std::isfinite(end)) {
      fail({name, " row ", i, " is [", start, ", ", end, "]; both ends must be finite"});
    }
    if (end < start) {
      fail({name, " row ", i, " is [", start, ", ", end, "]; the end must not precede the start"});
    }
    if (!(end - start <= kLongest)) {
      fail({name, " row ", i, " is [", start, ", ", end, "]; its length must be at most ", kLongest});
    }
  }
}

void check_scores(const double* scores, std::size_t n) {
  check_aligned(scores, "scores");
  for (std::size_t i = 0; i < n; ++i) {
    if (!std::isfinite(scores[i]) || scores[i] < 0.0) {
      fail({"scores row ", i, " is ", scores[i], "; scores must be finite and >= 0"});
    }
  }
}

LabelledCopy::LabelledCopy(const Labelled& given, const char* name) {
  check_aligned(given.segments, name);
  check_aligned(given.labels, "labels");
  check_aligned(given.scores, "scores");
  segments_.assign(given.segments, given.segments + 2 * given.n);
  labels_.assign(given.labels, given.labels + given.n);
  scores_.assign(given.scores, given.scores + given.n);
  check_segments(segments_.data(), given.n, name);
  check_scores(scores_.data(), given.n);
}

LabelledCopy::LabelledCopy(const std::vector<Detection>& detections) {
  for (const Detection& detection : detections) {
    segments_.push_back(detection.start);
    segments_.push_back(detection.end);
    labels_.push_back(detection.label);
    scores_.push_back(detection.score);
  }
}

void check_soft_nms(const SoftNmsParameters& p) {
  if (!(std::isfinite(p.sigma) && p.sigma > 0.0)) {
    fail({"sigma must be a finite number > 0; got ", p.sigma});
  }
  if (!(p.tiou_threshold >= 0.0 && p.tiou_threshold <= 1.0)) {
    fail({"tiou_threshold must be in [0, 1]; got ", p.tiou_threshold});
  }
  if (!(std::isfinite(p.min_score) && p.min_score >= 0.0)) {
    fail({"min_score must be a finite number >= 0; got ", p.min_score});
  }
  if (p.top_k < 0 && p.top_k != kNoLimit) {
    fail({"top_k must be >= 0, or nothing for no limit; got ", p.top_k});
  }
  if (!(std::isfinite(p.length_margin) && p.length_margin >= 0.0)) {
    fail({"length_margin must be a finite number >= 0; got ", p.length_margin});
  }
}

void check_class_logits(const float* class_logits, std::size_t n_classes, std::size_t n_snippets) {
  if (n_classes == 0 || n_snippets == 0) {
    fail({"class_logits must have shape (K + 1, T) with K >= 1 and T >= 1; got (", n_classes + 1, ", ", n_snippets, ")"});
  }
  check_aligned(class_logits, "class_logits");
  constexpr float kLargest = std::numeric_limits<float>::max();
  const std::size_t T = n_snippets;
  for (std::size_t k = 0; k <= n_classes; ++k) {
    const float* row = class_logits + k * T;
    std::uint32_t n_bad = 0;  // a vectorised count first; the row is searched only if there is a bad one
    for (std::size_t t = 0; t < T; ++t) n_bad += static_cast<std::uint32_t>(!(std::fabs(row[t]) <= kLargest));
    if (n_bad == 0) continue;
    for (std::size_t t = 0; t < T; ++t) {
      if (!std::isfinite(row[t])) {
        fail({"class_logits row ", k, ", snippet ", t, " is ", row[t], "; logits must be finite"});
      }
    }
  }
}

void check_network_output(const float* class_logits, const float* masks, std::size_t n_classes, std::size_t n_snippets) {
  check_class_logits(class_logits, n_classes, n_snippets);
  check_aligned(masks, "masks");
  const std::size_t T = n_snippets;
  // The vectorised sigmoids of ONNX Runtime and OpenVINO can give one rounding step more than 1.
  constexpr float kMost = 1.0F + 8.0F * std::numeric_limits<float>::epsilon();
  for (std::size_t i = 0; i < T; ++i) {
    const float* row = masks + i * T;
    std::uint32_t n_bad = 0;
    for (std::size_t t = 0; t < T; ++t) n_bad += static_cast<std::uint32_t>(!(row[t] >= 0.0F) | !(row[t] <= kMost));
    if (n_bad == 0) continue;
    for (std::size_t t = 0; t < T; ++t) {
      if (!(row[t] >= 0.0F && row[t] <= kMost)) {
        fail({"masks row ", i, ", snippet ", t, " is ", row[t], "; masks must lie in [0, 1] (apply the sigmoid first)"});
      }
    }
  }
}

}  // namespace stale
