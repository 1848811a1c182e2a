// tIoU, soft-NMS, and the joining of windows.
#include <cmath>
#include <limits>

#include "arrays.hpp"

namespace stale::bindings {
namespace {

Doubles tiou(const Doubles& segments, const Doubles& others) {
  const std::size_t n = rows_of_segments(segments, "segments");
  const std::size_t m = rows_of_segments(others, "others");
  Doubles out({n, m});
  const double* a = segments.data();
  const double* b = others.data();
  double* result = out.mutable_data();
  {
    py::gil_scoped_release release;
    stale::tiou(a, n, b, m, result);
  }
  return out;
}

std::pair<Ints, Floats> soft_nms(const Doubles& segments, const Doubles& scores, const std::string& method, double sigma,
                                 double tiou_threshold, double min_score, const std::optional<std::int64_t>& top_k,
                                 double length_margin) {
  const std::size_t n = rows_of_segments(segments, "segments");
  if (scores.ndim() != 1 || static_cast<std::size_t>(scores.shape(0)) != n) {
    stale::fail({"scores must have shape (N,) with one score a segment, here (", n, ",); got ", shape_text(scores)});
  }
  const stale::SoftNmsParameters parameters{method_named(method), sigma,         tiou_threshold, min_score,
                                            limit_of(top_k),      length_margin};
  const double* segment_data = segments.data();
  const double* score_data = scores.data();
  constexpr auto kMost = static_cast<double>(std::numeric_limits<float>::max());
  for (std::size_t i = 0; i < n; ++i) {
    if (std::isfinite(score_data[i]) && score_data[i] > kMost) {
      stale::fail({"scores row ", i, " is ", score_data[i], "; scores must be at most ", kMost, ": decayed ones are float32"});
    }
  }
  std::vector<stale::Pick> picks;
  {
    py::gil_scoped_release release;
    picks = stale::soft_nms(segment_data, score_data, n, parameters);
  }
  Ints kept(static_cast<py::ssize_t>(picks.size()));
  Floats decayed(static_cast<py::ssize_t>(picks.size()));
  std::int64_t* rows = kept.mutable_data();
  float* values = decayed.mutable_data();
  for (std::size_t i = 0; i < picks.size(); ++i) {
    rows[i] = picks[i].row;
    values[i] = static_cast<float>(picks[i].score);
  }
  return {std::move(kept), std::move(decayed)};
}

std::pair<Ints, Doubles> soft_nms_by_label(const DetectionArrays& candidates, const DetectionArrays& settled,
                                           const std::string& method, double sigma, double tiou_threshold, double min_score,
                                           const std::optional<std::int64_t>& top_k) {
  const stale::SoftNmsParameters parameters{method_named(method), sigma, tiou_threshold, min_score, limit_of(top_k), 0.0};
  const stale::Labelled given = labelled(candidates, "candidates");
  const stale::Labelled before = labelled(settled, "settled");
  std::vector<stale::Pick> picks;
  {
    py::gil_scoped_release release;
    picks = stale::soft_nms_by_label(given, before, parameters);
  }
  Ints kept(static_cast<py::ssize_t>(picks.size()));
  Doubles decayed(static_cast<py::ssize_t>(picks.size()));
  std::int64_t* rows = kept.mutable_data();
  double* values = decayed.mutable_data();
  for (std::size_t i = 0; i < picks.size(); ++i) {
    rows[i] = picks[i].row;
    values[i] = picks[i].score;
  }
  return {std::move(kept), std::move(decayed)};
}

DetectionArrays join_at_seam(const DetectionArrays& earlier, const DetectionArrays& later, double zone_start, double zone_end,
                             double seam, double final_until, double same_action) {
  const stale::Labelled known = labelled(earlier, "earlier");
  const stale::Labelled coming = labelled(later, "later");
  std::vector<stale::Detection> joined;
  {
    py::gil_scoped_release release;
    joined = stale::join_at_seam(known, coming, {zone_start, zone_end, seam, final_until, same_action});
  }
  return detection_arrays(joined);
}

}  // namespace

void add_suppression(py::module_& m) {
  m.def("tiou", &tiou, "segments"_a.noconvert(), "others"_a.noconvert());
  m.def("soft_nms", &soft_nms, "segments"_a.noconvert(), "scores"_a.noconvert(), py::kw_only(), "method"_a, "sigma"_a,
        "tiou_threshold"_a, "min_score"_a, "top_k"_a, "length_margin"_a);
  m.def("soft_nms_by_label", &soft_nms_by_label, "candidates"_a.noconvert(), "settled"_a.noconvert(), py::kw_only(), "method"_a,
        "sigma"_a, "tiou_threshold"_a, "min_score"_a, "top_k"_a);
  m.def("join_at_seam", &join_at_seam, "earlier"_a.noconvert(), "later"_a.noconvert(), py::kw_only(), "zone_start"_a,
        "zone_end"_a, "seam"_a, "final_until"_a, "same_action"_a);
}

}  // namespace stale::bindings
