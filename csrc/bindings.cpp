// Python bindings of the core, the only file that includes pybind11: check shapes, release the GIL, call, copy out.
// stale_edge/decoding passes contiguous arrays of the right type; .noconvert() refuses any other.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "checks.hpp"
#include "stale_core.hpp"

namespace py = pybind11;
using namespace pybind11::literals;

namespace {

using Doubles = py::array_t<double, py::array::c_style>;
using Floats = py::array_t<float, py::array::c_style>;
using Ints = py::array_t<std::int64_t, py::array::c_style>;
using Flags = py::array_t<bool, py::array::c_style>;

std::string shape_text(const py::array& array) {
  std::string result = "(";
  for (py::ssize_t i = 0; i < array.ndim(); ++i) result += (i > 0 ? ", " : "") + std::to_string(array.shape(i));
  return result + (array.ndim() == 1 ? ",)" : ")");
}

std::size_t rows_of_segments(const Doubles& array, const char* name) {
  if (array.ndim() != 2 || array.shape(1) != 2) {
    stale::fail({name, " must have shape (N, 2), [start, end) a row; got ", shape_text(array)});
  }
  return static_cast<std::size_t>(array.shape(0));
}

stale::SoftNmsMethod method_named(const std::string& name) {
  if (name == "gaussian") return stale::SoftNmsMethod::gaussian;
  if (name == "linear") return stale::SoftNmsMethod::linear;
  if (name == "hard") return stale::SoftNmsMethod::hard;
  stale::fail({"method must be 'gaussian', 'linear' or 'hard'; got '", name, "'"});
}

stale::Regions regions_named(const std::string& name) {
  if (name == "runs") return stale::Regions::runs;
  if (name == "hull") return stale::Regions::hull;
  stale::fail({"regions must be 'runs' or 'hull'; got '", name, "'"});
}

std::int64_t limit_of(const std::optional<std::int64_t>& top_k) {
  if (top_k && *top_k < 0) stale::fail({"top_k must be >= 0, or None for no limit; got ", *top_k});
  return top_k.value_or(stale::kNoLimit);
}

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

Ints mask_segments(const Floats& mask, double threshold, const std::string& regions, std::int64_t min_snippets) {
  if (mask.ndim() != 1) stale::fail({"mask must have shape (T,); got ", shape_text(mask)});
  const stale::Regions kind = regions_named(regions);
  const float* data = mask.data();
  const auto length = static_cast<std::size_t>(mask.shape(0));
  std::vector<stale::SnippetSegment> found;
  {
    py::gil_scoped_release release;
    found = stale::mask_segments(data, length, threshold, kind, min_snippets);
  }
  Ints out({found.size(), std::size_t{2}});
  std::int64_t* values = out.mutable_data();
  for (std::size_t i = 0; i < found.size(); ++i) {
    values[2 * i] = found[i].start;
    values[2 * i + 1] = found[i].end;
  }
  return out;
}

struct Outputs {
  const float* class_logits;
  const float* masks;
  std::size_t n_classes;
  std::size_t n_snippets;
};

void require_logits(const Floats& class_logits) {
  if (class_logits.ndim() != 2 || class_logits.shape(0) < 2 || class_logits.shape(1) < 1) {
    stale::fail({"class_logits must have shape (K + 1, T) with K >= 1 and T >= 1; got ", shape_text(class_logits)});
  }
}

Outputs network_outputs(const Floats& class_logits, const Floats& masks) {
  require_logits(class_logits);
  const py::ssize_t T = class_logits.shape(1);
  if (masks.ndim() != 2 || masks.shape(0) != T || masks.shape(1) != T) {
    stale::fail({"masks must have shape (T, T) with the T = ", T, " of class_logits; got ", shape_text(masks)});
  }
  return {class_logits.data(), masks.data(), static_cast<std::size_t>(class_logits.shape(0) - 1),
          static_cast<std::size_t>(T)};
}

using DetectionArrays = std::tuple<Doubles, Ints, Doubles>;

DetectionArrays detection_arrays(const std::vector<stale::Detection>& detections) {
  const std::size_t n = detections.size();
  Doubles segments({n, std::size_t{2}});
  Ints labels(static_cast<py::ssize_t>(n));
  Doubles scores(static_cast<py::ssize_t>(n));
  double* segment_data = segments.mutable_data();
  std::int64_t* label_data = labels.mutable_data();
  double* score_data = scores.mutable_data();
  for (std::size_t i = 0; i < n; ++i) {
    segment_data[2 * i] = detections[i].start;
    segment_data[2 * i + 1] = detections[i].end;
    label_data[i] = detections[i].label;
    score_data[i] = detections[i].score;
  }
  return {std::move(segments), std::move(labels), std::move(scores)};
}

stale::DecodeParameters decode_parameters(double class_threshold, std::int64_t top_snippets,
                                          const std::vector<double>& mask_thresholds, const std::string& regions,
                                          std::int64_t min_snippets, const stale::SoftNmsParameters& soft_nms) {
  return {class_threshold,        top_snippets, mask_thresholds.data(), mask_thresholds.size(), regions_named(regions),
          min_snippets, soft_nms};
}

DetectionArrays decode_paper(const Floats& class_logits, const Floats& masks, double class_threshold, std::int64_t top_snippets,
                             const std::vector<double>& mask_thresholds, const std::string& regions, std::int64_t min_snippets,
                             const std::string& soft_nms_method, double sigma, double tiou_threshold, double min_score,
                             std::int64_t max_detections) {
  const Outputs outputs = network_outputs(class_logits, masks);
  const stale::DecodeParameters parameters =
      decode_parameters(class_threshold, top_snippets, mask_thresholds, regions, min_snippets,
                        {method_named(soft_nms_method), sigma, tiou_threshold, min_score, limit_of(max_detections), 0.0});
  std::vector<stale::Detection> detections;
  {
    py::gil_scoped_release release;
    detections = stale::decode_paper(outputs.class_logits, outputs.masks, outputs.n_classes, outputs.n_snippets, parameters);
  }
  return detection_arrays(detections);
}

DetectionArrays paper_proposals(const Floats& class_logits, const Floats& masks, double class_threshold,
                                std::int64_t top_snippets, const std::vector<double>& mask_thresholds, const std::string& regions,
                                std::int64_t min_snippets, double min_score) {
  const Outputs outputs = network_outputs(class_logits, masks);
  // Of the soft-NMS settings only min_score is read; the others are any allowed values.
  const stale::DecodeParameters parameters =
      decode_parameters(class_threshold, top_snippets, mask_thresholds, regions, min_snippets,
                        {stale::SoftNmsMethod::hard, 1.0, 1.0, min_score, stale::kNoLimit, 0.0});
  std::vector<stale::Detection> found;
  {
    py::gil_scoped_release release;
    found = stale::paper_proposals(outputs.class_logits, outputs.masks, outputs.n_classes, outputs.n_snippets, parameters);
  }
  return detection_arrays(found);
}

stale::Labelled labelled(const DetectionArrays& arrays, const char* name) {
  const auto& [segments, labels, scores] = arrays;
  const std::size_t n = rows_of_segments(segments, name);
  if (labels.ndim() != 1 || scores.ndim() != 1 || static_cast<std::size_t>(labels.shape(0)) != n ||
      static_cast<std::size_t>(scores.shape(0)) != n) {
    stale::fail({name, " must have one label and one score a segment, here (", n, ",); got ", shape_text(labels), " and ",
                 shape_text(scores)});
  }
  return {segments.data(), labels.data(), scores.data(), n};
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

std::vector<std::int64_t> voting_snippets(const Floats& class_logits, double class_threshold, std::int64_t top_snippets) {
  require_logits(class_logits);
  const float* data = class_logits.data();
  const auto n_classes = static_cast<std::size_t>(class_logits.shape(0) - 1);
  const auto n_snippets = static_cast<std::size_t>(class_logits.shape(1));
  py::gil_scoped_release release;
  return stale::voting_snippets(data, n_classes, n_snippets, class_threshold, top_snippets);
}

Floats mask_rows(const Floats& networks, const Floats& features, const std::vector<std::int64_t>& rows) {
  if (features.ndim() != 2 || features.shape(0) < 3 || features.shape(1) < 1) {
    stale::fail({"features must have shape (width + 2, T) with width >= 1 and T >= 1; got ", shape_text(features)});
  }
  const auto width = static_cast<std::size_t>(features.shape(0)) - 2;
  const auto n_snippets = static_cast<std::size_t>(features.shape(1));
  const std::size_t size = stale::mask_network_size(width);
  if (networks.ndim() != 2 || networks.shape(0) != features.shape(1) || static_cast<std::size_t>(networks.shape(1)) != size) {
    stale::fail({"networks must have shape (", n_snippets, ", ", size, ") for features of ", width, " channels; got ",
                 shape_text(networks)});
  }
  Floats out({rows.size(), n_snippets});
  const float* network_data = networks.data();
  const float* feature_data = features.data();
  float* result = out.mutable_data();
  {
    py::gil_scoped_release release;
    stale::mask_rows(network_data, feature_data, width, n_snippets, rows.data(), rows.size(), result);
  }
  return out;
}

DetectionArrays decode_release(const Floats& class_logits, const Floats& masks) {
  const Outputs outputs = network_outputs(class_logits, masks);
  std::vector<stale::Detection> detections;
  {
    py::gil_scoped_release release;
    detections = stale::decode_release(outputs.class_logits, outputs.masks, outputs.n_classes, outputs.n_snippets);
  }
  return detection_arrays(detections);
}

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

stale::RunScore run_score_named(const std::string& name) {
  if (name == "maximum") return stale::RunScore::maximum;
  if (name == "contrast") return stale::RunScore::contrast;
  if (name == "mean-contrast") return stale::RunScore::mean_contrast;
  stale::fail({"run_score must be 'maximum', 'contrast' or 'mean-contrast'; got '", name, "'"});
}

// The settings of stale_edge/config/runs.py, by their names there.
DetectionArrays decode_runs(const Floats& class_logits, const std::optional<Floats>& attention, bool suppress,
                            const py::kwargs& settings) {
  require_logits(class_logits);
  if (attention && (attention->ndim() != 1 || attention->shape(0) != class_logits.shape(1))) {
    stale::fail({"attention must have shape (T,) with the T = ", class_logits.shape(1), " of class_logits; got ",
                 shape_text(*attention)});
  }
  const stale::Snippets snippets{class_logits.data(), attention ? attention->data() : nullptr,
                                 static_cast<std::size_t>(class_logits.shape(0) - 1),
                                 static_cast<std::size_t>(class_logits.shape(1))};
  const auto number = [&](const char* name) { return settings[name].cast<double>(); };
  const auto count = [&](const char* name) { return settings[name].cast<std::int64_t>(); };
  const auto thresholds = settings["thresholds"].cast<std::vector<double>>();
  const stale::RunsParameters parameters{number("class_threshold"),
                                         number("top_share"),
                                         thresholds.data(),
                                         thresholds.size(),
                                         settings["class_scores"].cast<std::string>() == "sigmoid",
                                         settings["threshold_scale"].cast<std::string>() == "video",
                                         number("smoothing"),
                                         run_score_named(settings["run_score"].cast<std::string>()),
                                         number("surroundings"),
                                         number("video_weight"),
                                         number("length_power"),
                                         count("min_snippets"),
                                         {method_named(settings["soft_nms"].cast<std::string>()), number("sigma"),
                                          number("tiou_threshold"), number("min_score"), count("max_detections"), 0.0}};
  std::vector<stale::Detection> found;
  {
    py::gil_scoped_release release;
    found = suppress ? stale::decode_runs(snippets, parameters) : stale::runs_proposals(snippets, parameters);
  }
  return detection_arrays(found);
}

// Rows of (start, end, class score, mask score, label); start and end in snippets, `end` is the last snippet.
std::vector<std::tuple<std::int64_t, std::int64_t, double, double, std::int64_t>> release_proposals(const Floats& class_logits,
                                                                                                   const Floats& masks) {
  const Outputs outputs = network_outputs(class_logits, masks);
  std::vector<stale::ReleaseProposal> proposals;
  {
    py::gil_scoped_release release;
    proposals = stale::release_proposals(outputs.class_logits, outputs.masks, outputs.n_classes, outputs.n_snippets);
  }
  std::vector<std::tuple<std::int64_t, std::int64_t, double, double, std::int64_t>> rows;
  rows.reserve(proposals.size());
  for (const stale::ReleaseProposal& p : proposals) rows.emplace_back(p.start, p.end, p.class_score, p.mask_score, p.label);
  return rows;
}

}  // namespace

PYBIND11_MODULE(_core, m, py::mod_gil_not_used()) {
  m.doc() = "The compiled core of stale-edge; use it through stale_edge.decoding.";
  m.def("tiou", &tiou, "segments"_a.noconvert(), "others"_a.noconvert());
  m.def("soft_nms", &soft_nms, "segments"_a.noconvert(), "scores"_a.noconvert(), py::kw_only(), "method"_a, "sigma"_a,
        "tiou_threshold"_a, "min_score"_a, "top_k"_a, "length_margin"_a);
  m.def("mask_segments", &mask_segments, "mask"_a.noconvert(), py::kw_only(), "threshold"_a, "regions"_a, "min_snippets"_a);
  m.def("decode_paper", &decode_paper, "class_logits"_a.noconvert(), "masks"_a.noconvert(), py::kw_only(), "class_threshold"_a,
        "top_snippets"_a, "mask_thresholds"_a, "regions"_a, "min_snippets"_a, "soft_nms"_a, "sigma"_a, "tiou_threshold"_a,
        "min_score"_a, "max_detections"_a);
  m.def("paper_proposals", &paper_proposals, "class_logits"_a.noconvert(), "masks"_a.noconvert(), py::kw_only(),
        "class_threshold"_a, "top_snippets"_a, "mask_thresholds"_a, "regions"_a, "min_snippets"_a, "min_score"_a);
  m.def("soft_nms_by_label", &soft_nms_by_label, "candidates"_a.noconvert(), "settled"_a.noconvert(), py::kw_only(), "method"_a,
        "sigma"_a, "tiou_threshold"_a, "min_score"_a, "top_k"_a);
  m.def("join_at_seam", &join_at_seam, "earlier"_a.noconvert(), "later"_a.noconvert(), py::kw_only(), "zone_start"_a,
        "zone_end"_a, "seam"_a, "final_until"_a, "same_action"_a);
  m.def("voting_snippets", &voting_snippets, "class_logits"_a.noconvert(), py::kw_only(), "class_threshold"_a, "top_snippets"_a);
  m.def("mask_rows", &mask_rows, "networks"_a.noconvert(), "features"_a.noconvert(), "rows"_a);
  m.def("decode_release", &decode_release, "class_logits"_a.noconvert(), "masks"_a.noconvert());
  m.def("points_proposals", &points_proposals, "class_logits"_a.noconvert(), "offsets"_a.noconvert(), "valid"_a.noconvert(),
        "level_lengths"_a, py::kw_only(), "pre_nms_threshold"_a, "pre_nms_top_k"_a, "duration_threshold"_a);
  m.def("suppress_points", &suppress_points, "proposals"_a.noconvert(), py::kw_only(), "multiclass"_a, "method"_a, "sigma"_a,
        "tiou_threshold"_a, "min_score"_a, "voting_threshold"_a, "max_detections"_a);
  m.def("decode_runs", &decode_runs, "class_logits"_a.noconvert(), "attention"_a.noconvert(), py::kw_only(), "suppress"_a);
  m.def("release_proposals", &release_proposals, "class_logits"_a.noconvert(), "masks"_a.noconvert());
}
