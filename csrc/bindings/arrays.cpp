// Checks of the arrays that Python passes, and detections as arrays.
#include "arrays.hpp"

namespace stale::bindings {

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

void require_logits(const Floats& class_logits) {
  if (class_logits.ndim() != 2 || class_logits.shape(0) < 2 || class_logits.shape(1) < 1) {
    stale::fail({"class_logits must have shape (K + 1, T) with K >= 1 and T >= 1; got ", shape_text(class_logits)});
  }
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

}  // namespace stale::bindings
