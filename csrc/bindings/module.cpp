// The Python module of the core; only this folder includes pybind11.
// Each function checks shapes, releases the GIL, calls the core, and copies the result out.
#include "arrays.hpp"

PYBIND11_MODULE(_core, m, pybind11::mod_gil_not_used()) {
  m.doc() = "The compiled core of stale-edge; use it through stale_edge.decoding.";
  stale::bindings::add_suppression(m);
  stale::bindings::add_masks(m);
  stale::bindings::add_points(m);
  stale::bindings::add_runs(m);
}
