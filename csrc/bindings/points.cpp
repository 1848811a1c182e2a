// What decodes points with offsets, such as ActionFormer's.
#include "arrays.hpp"

namespace stale::bindings {
namespace {

DetectionArrays points_proposals(const Floats& class_logits, const Floats& offsets, const Flags& valid,
                                 const std::vector<std::int64_t>& level_lengths, double pre_nms_threshold,
                                 std::int64_t pre_nms_top_k, double duration_threshold) {
  if (class_logits.ndim() != 2) stale::fail({"class_logits must have shape (P, K); got ", shape_text(class_logits)});
  const py::ssize_t P = class_logits.shape(0);
  if (offsets.ndim() != 2 || offsets.shape(0) != P || offsets.shape(1) != 2) {
    stale::fail({"offsets must have shape (P, 2) with the P = ", P, " of class_logits; got ", shape_text(offsets)});
  }
  if (valid.ndim() != 1 || valid.shape(0) != P) {
    stale::fail({"valid must have shape (P,) with the P = ", P, " of class_logits; got ", shape_text(valid)});
  }
  static_assert(sizeof(bool) == sizeof(std::uint8_t));
  const stale::Points points{class_logits.data(),
                             offsets.data(),
                             reinterpret_cast<const std::uint8_t*>(valid.data()),
                             static_cast<std::size_t>(P),
                             static_cast<std::size_t>(class_logits.shape(1)),
                             level_lengths.data(),
                             level_lengths.size()};
  const stale::PointsParameters parameters{pre_nms_threshold, pre_nms_top_k, duration_threshold, false, false, 0.0, {}};
  std::vector<stale::Detection> found;
  {
    py::gil_scoped_release release;
    found = stale::points_proposals(points, parameters);
  }
  return detection_arrays(found);
}

DetectionArrays suppress_points(const DetectionArrays& proposals, bool multiclass, const std::string& method, double sigma,
                                double tiou_threshold, double min_score, double voting_threshold, std::int64_t max_detections) {
  const stale::Labelled given = labelled(proposals, "proposals");
  stale::PointsParameters parameters{0.0, 1, 0.0, multiclass, method != "none", voting_threshold, {}};
  if (parameters.suppress) {
    parameters.soft_nms = {method_named(method),     sigma, tiou_threshold, min_score, limit_of(max_detections),
                           stale::kPointsLengthMargin};
  }
  std::vector<stale::Detection> found;
  {
    py::gil_scoped_release release;
    found = stale::suppress_points(given, parameters);
  }
  return detection_arrays(found);
}

}  // namespace

void add_points(py::module_& m) {
  m.def("points_proposals", &points_proposals, "class_logits"_a.noconvert(), "offsets"_a.noconvert(), "valid"_a.noconvert(),
        "level_lengths"_a, py::kw_only(), "pre_nms_threshold"_a, "pre_nms_top_k"_a, "duration_threshold"_a);
  m.def("suppress_points", &suppress_points, "proposals"_a.noconvert(), py::kw_only(), "multiclass"_a, "method"_a, "sigma"_a,
        "tiou_threshold"_a, "min_score"_a, "voting_threshold"_a, "max_detections"_a);
}

}  // namespace stale::bindings
