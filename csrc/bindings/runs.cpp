// What decodes runs of snippets above thresholds.
#include "arrays.hpp"

namespace stale::bindings {
namespace {

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

}  // namespace

void add_runs(py::module_& m) {
  m.def("decode_runs", &decode_runs, "class_logits"_a.noconvert(), "attention"_a.noconvert(), py::kw_only(), "suppress"_a);
}

}  // namespace stale::bindings
