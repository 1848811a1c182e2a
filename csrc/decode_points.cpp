// Inference of point detectors as in ActionFormer: from the points of the pyramid to detections.
#include <algorithm>
#include <cmath>
#include <limits>

#include "checks.hpp"
#include "order.hpp"
#include "overlap.hpp"
#include "stale_core.hpp"

namespace stale {
namespace {

constexpr std::size_t kMostLevels = 32;

struct Scored {
  double score;
  std::uint32_t point;
  std::uint32_t label;
};

bool ranks_before(const Scored& a, const Scored& b) {
  if (a.score != b.score) return a.score > b.score;
  return a.point != b.point ? a.point < b.point : a.label < b.label;
}

void check_threshold(const char* name, double value) {
  if (!(value >= 0.0 && value < 1.0)) fail({name, " must be in [0, 1); got ", value});
}

void check_suppression(const PointsParameters& p) {
  if (!p.suppress) return;
  check_soft_nms(p.soft_nms);
  if (p.soft_nms.method == SoftNmsMethod::linear) fail({"points are suppressed by 'gaussian' or 'hard'; got 'linear'"});
  if (!(p.voting_threshold >= 0.0 && p.voting_threshold <= 1.0)) {
    fail({"voting_threshold must be in [0, 1]; got ", p.voting_threshold});
  }
}

void check_parameters(const PointsParameters& p) {
  check_threshold("pre_nms_threshold", p.pre_nms_threshold);
  if (p.pre_nms_top_k < 1) fail({"pre_nms_top_k must be >= 1; got ", p.pre_nms_top_k});
  if (!(p.duration_threshold >= 0.0 && std::isfinite(p.duration_threshold))) {
    fail({"duration_threshold must be a finite number >= 0; got ", p.duration_threshold});
  }
  check_suppression(p);
}

// Checks and returns the level lengths.
std::vector<std::size_t> checked_levels(const Points& points) {
  if (points.n_points == 0 || points.n_classes == 0) {
    fail({"class_logits must have shape (P, K) with P >= 1 and K >= 1; got (", points.n_points, ", ", points.n_classes, ")"});
  }
  if (points.n_points > std::numeric_limits<std::uint32_t>::max() / points.n_classes) {
    fail({"too many points: ", points.n_points, " of ", points.n_classes, " classes"});
  }
  if (points.n_levels == 0 || points.n_levels > kMostLevels) {
    fail({"level_lengths must hold 1 to ", kMostLevels, " numbers, one a level; got ", points.n_levels});
  }
  check_aligned(points.level_lengths, "level_lengths");
  const std::vector<std::int64_t> lengths(points.level_lengths, points.level_lengths + points.n_levels);
  std::vector<std::size_t> levels;
  std::size_t left = points.n_points;
  for (std::size_t l = 0; l < lengths.size(); ++l) {
    const std::int64_t length = lengths[l];
    if (length < 1 || static_cast<std::uint64_t>(length) > left) {
      fail({"level_lengths row ", l, " is ", length, "; each level has a point at least, all together the ", points.n_points,
            " rows of class_logits"});
    }
    levels.push_back(static_cast<std::size_t>(length));
    left -= levels.back();
  }
  if (left > 0) {
    fail({"level_lengths add up to ", points.n_points - left, "; class_logits has ", points.n_points, " rows"});
  }
  return levels;
}

// Invalid points may hold any numbers.
void check_numbers(const Points& points) {
  check_aligned(points.class_logits, "class_logits");
  check_aligned(points.offsets, "offsets");
  for (std::size_t point = 0; point < points.n_points; ++point) {
    if (points.valid[point] == 0) continue;
    for (std::size_t k = 0; k < points.n_classes; ++k) {
      const float logit = points.class_logits[point * points.n_classes + k];
      if (!std::isfinite(logit)) fail({"class_logits row ", point, ", class ", k, " is ", logit, "; logits must be finite"});
    }
    for (std::size_t side = 0; side < 2; ++side) {
      const float offset = points.offsets[2 * point + side];
      if (!(std::isfinite(offset) && offset >= 0.0F)) {
        fail({"offsets row ", point, " holds ", offset, "; offsets must be finite and >= 0"});
      }
    }
  }
}

double probability(float logit) { return 1.0 / (1.0 + std::exp(-static_cast<double>(logit))); }

// Gaussian or hard suppression of proposals of one class, or of all classes together.
std::vector<Pick> picks_of(const double* segments, const double* scores, std::size_t n, const SoftNmsParameters& parameters) {
  const auto best = std::max_element(scores, scores + n);
  // ActionFormer's soft-NMS compares scores with min_score only after a decay, so it never drops the first pick.
  if (parameters.method == SoftNmsMethod::gaussian && n > 0 && *best < parameters.min_score) {
    return {{static_cast<std::int64_t>(best - scores), *best}};
  }
  std::vector<Pick> picks = soft_nms(segments, scores, n, parameters);
  // With a min_score of 0, suppressed proposals score 0 and come last; they are removed here.
  if (parameters.method == SoftNmsMethod::hard) {
    while (!picks.empty() && !(picks.back().score > parameters.min_score)) picks.pop_back();
  }
  return picks;
}

// Moves a detection to the mean of all proposals with a tIoU of at least the threshold, weighted by score times tIoU.
void vote(Detection& detection, const Labelled& proposals, double threshold) {
  double weights = 0.0;
  double start = 0.0;
  double end = 0.0;
  for (std::size_t i = 0; i < proposals.n; ++i) {
    const double* segment = proposals.segments + 2 * i;
    const double tiou = overlap(detection.start, detection.end, segment[0], segment[1]);
    if (tiou < threshold) continue;
    const double weight = proposals.scores[i] * tiou;
    weights += weight;
    start += weight * segment[0];
    end += weight * segment[1];
  }
  if (!(weights > 0.0)) return;  // all these proposals score 0
  detection.start = start / weights;
  detection.end = end / weights;
}

}  // namespace

std::vector<Detection> points_proposals(const Points& points, const PointsParameters& parameters) {
  check_parameters(parameters);
  const std::vector<std::size_t> levels = checked_levels(points);
  check_numbers(points);
  std::vector<Detection> proposals;
  std::vector<Scored> scored;
  double stride = 1.0;
  std::size_t first = 0;
  for (const std::size_t length : levels) {
    const std::size_t last = first + length;
    scored.clear();
    for (std::size_t point = first; point < last; ++point) {
      if (points.valid[point] == 0) continue;
      for (std::size_t k = 0; k < points.n_classes; ++k) {
        const double score = probability(points.class_logits[point * points.n_classes + k]);
        if (!(score > parameters.pre_nms_threshold)) continue;
        scored.push_back({score, static_cast<std::uint32_t>(point), static_cast<std::uint32_t>(k)});
      }
    }
    const auto wanted = static_cast<std::size_t>(parameters.pre_nms_top_k);
    if (scored.size() > wanted) {
      std::nth_element(scored.begin(), scored.begin() + static_cast<std::ptrdiff_t>(wanted), scored.end(), ranks_before);
      scored.resize(wanted);
    }
    for (const Scored& best : in_order(scored, ranks_before)) {
      const double time = static_cast<double>(best.point - first) * stride;
      const float* offsets = points.offsets + 2 * std::size_t{best.point};
      const double start = time - static_cast<double>(offsets[0]) * stride;
      const double end = time + static_cast<double>(offsets[1]) * stride;
      if (end - start > parameters.duration_threshold) proposals.push_back({std::int64_t{best.label}, best.score, start, end});
    }
    first = last;
    stride *= 2.0;
  }
  return proposals;
}

std::vector<Detection> suppress_points(const Labelled& given, const PointsParameters& parameters) {
  check_suppression(parameters);
  const LabelledCopy own(given, "proposals");
  const Labelled proposals = own.view();
  const SoftNmsParameters& rule = parameters.soft_nms;
  std::vector<std::size_t> rows;
  for (std::size_t row = 0; row < proposals.n; ++row) {
    const bool counts = !parameters.suppress || rule.method != SoftNmsMethod::hard || proposals.scores[row] > rule.min_score;
    if (counts) rows.push_back(row);
  }
  const auto detection_of = [&](std::size_t row, double score) {
    return Detection{proposals.labels[row], score, proposals.segments[2 * row], proposals.segments[2 * row + 1]};
  };
  std::vector<Detection> detections;
  if (!parameters.suppress) {
    for (const std::size_t row : rows) detections.push_back(detection_of(row, proposals.scores[row]));
    return in_order(detections, [](const Detection& a, const Detection& b) {
      return a.score != b.score ? a.score > b.score : a.label < b.label;
    });
  }
  const auto label_of = [&](std::size_t row) { return parameters.multiclass ? proposals.labels[row] : 0; };
  rows = in_order(rows, [&](std::size_t a, std::size_t b) { return label_of(a) < label_of(b); });
  std::vector<double> segments;
  std::vector<double> scores;
  for (std::size_t begin = 0; begin < rows.size(); begin += scores.size()) {
    segments.clear();
    scores.clear();
    for (std::size_t i = begin; i < rows.size() && label_of(rows[i]) == label_of(rows[begin]); ++i) {
      segments.push_back(proposals.segments[2 * rows[i]]);
      segments.push_back(proposals.segments[2 * rows[i] + 1]);
      scores.push_back(proposals.scores[rows[i]]);
    }
    for (const Pick& pick : picks_of(segments.data(), scores.data(), scores.size(), rule)) {
      detections.push_back(detection_of(rows[begin + static_cast<std::size_t>(pick.row)], pick.score));
    }
  }
  if (!parameters.multiclass && parameters.voting_threshold > 0.0) {
    for (Detection& detection : detections) vote(detection, proposals, parameters.voting_threshold);
  }
  detections = in_order(detections, [](const Detection& a, const Detection& b) { return a.score > b.score; });
  if (rule.top_k != kNoLimit && detections.size() > static_cast<std::size_t>(rule.top_k)) {
    detections.resize(static_cast<std::size_t>(rule.top_k));
  }
  return detections;
}

std::vector<Detection> decode_points(const Points& points, const PointsParameters& parameters) {
  return suppress_points(LabelledCopy(points_proposals(points, parameters)).view(), parameters);
}

}  // namespace stale
