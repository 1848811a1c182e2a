// What decodes the class logits and masks of STALE.
#include "arrays.hpp"

namespace stale::bindings {
namespace {

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

Outputs network_outputs(const Floats& class_logits, const Floats& masks) {
  require_logits(class_logits);
  const py::ssize_t T = class_logits.shape(1);
  if (masks.ndim() != 2 || masks.shape(0) != T || masks.shape(1) != T) {
    stale::fail({"masks must have shape (T, T) with the T = ", T, " of class_logits; got ", shape_text(masks)});
  }
  return {class_logits.data(), masks.data(), static_cast<std::size_t>(class_logits.shape(0) - 1),
          static_cast<std::size_t>(T)};
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

void add_masks(py::module_& m) {
  m.def("mask_segments", &mask_segments, "mask"_a.noconvert(), py::kw_only(), "threshold"_a, "regions"_a, "min_snippets"_a);
  m.def("decode_paper", &decode_paper, "class_logits"_a.noconvert(), "masks"_a.noconvert(), py::kw_only(), "class_threshold"_a,
        "top_snippets"_a, "mask_thresholds"_a, "regions"_a, "min_snippets"_a, "soft_nms"_a, "sigma"_a, "tiou_threshold"_a,
        "min_score"_a, "max_detections"_a);
  m.def("paper_proposals", &paper_proposals, "class_logits"_a.noconvert(), "masks"_a.noconvert(), py::kw_only(),
        "class_threshold"_a, "top_snippets"_a, "mask_thresholds"_a, "regions"_a, "min_snippets"_a, "min_score"_a);
  m.def("voting_snippets", &voting_snippets, "class_logits"_a.noconvert(), py::kw_only(), "class_threshold"_a, "top_snippets"_a);
  m.def("mask_rows", &mask_rows, "networks"_a.noconvert(), "features"_a.noconvert(), "rows"_a);
  m.def("decode_release", &decode_release, "class_logits"_a.noconvert(), "masks"_a.noconvert());
  m.def("release_proposals", &release_proposals, "class_logits"_a.noconvert(), "masks"_a.noconvert());
}

}  // namespace stale::bindings
