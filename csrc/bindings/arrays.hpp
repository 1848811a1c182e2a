// What the bindings of the core share: types of arrays, checks of their shapes, detections as arrays.
// stale_edge/decoding passes contiguous arrays of the right type; .noconvert() refuses any other.
#ifndef STALE_EDGE_BINDINGS_ARRAYS_HPP
#define STALE_EDGE_BINDINGS_ARRAYS_HPP

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "checks.hpp"
#include "stale_core.hpp"

namespace stale::bindings {

namespace py = pybind11;
using namespace pybind11::literals;

using Doubles = py::array_t<double, py::array::c_style>;
using Floats = py::array_t<float, py::array::c_style>;
using Ints = py::array_t<std::int64_t, py::array::c_style>;
using Flags = py::array_t<bool, py::array::c_style>;
using DetectionArrays = std::tuple<Doubles, Ints, Doubles>;  // segments (N, 2), labels (N,), scores (N,)

std::string shape_text(const py::array& array);
std::size_t rows_of_segments(const Doubles& array, const char* name);
void require_logits(const Floats& class_logits);
SoftNmsMethod method_named(const std::string& name);
Regions regions_named(const std::string& name);
std::int64_t limit_of(const std::optional<std::int64_t>& top_k);
DetectionArrays detection_arrays(const std::vector<Detection>& detections);
Labelled labelled(const DetectionArrays& arrays, const char* name);

void add_suppression(py::module_& m);
void add_masks(py::module_& m);
void add_points(py::module_& m);
void add_runs(py::module_& m);

}  // namespace stale::bindings

#endif
