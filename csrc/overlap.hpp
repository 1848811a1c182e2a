// Two small functions that all decoders use, in a header so that callers inline them.
#pragma once

#include <algorithm>
#include <cstddef>

#include "stale_core.hpp"

namespace stale {

// tIoU of [start, end) and [other_start, other_end); 0 where they do not overlap or the union is empty.
inline double overlap(double start, double end, double other_start, double other_end) {
  const double intersection = std::min(end, other_end) - std::max(start, other_start);
  if (intersection <= 0.0) return 0.0;
  return intersection / ((end - start) + (other_end - other_start) - intersection);
}

// Calls visit(start, end) for each region of the mask above the threshold, in time order.
template <typename Value, typename Visit>
void for_each_region(const Value* mask, std::size_t length, Value threshold, Regions regions, Visit&& visit) {
  if (regions == Regions::hull) {
    std::size_t start = 0;
    while (start < length && !(mask[start] > threshold)) ++start;
    if (start == length) return;
    std::size_t end = length;
    while (end > start + 1 && !(mask[end - 1] > threshold)) --end;
    visit(start, end);
    return;
  }
  std::size_t t = 0;
  while (t < length) {
    while (t < length && !(mask[t] > threshold)) ++t;
    const std::size_t start = t;
    while (t < length && mask[t] > threshold) ++t;
    if (t > start) visit(start, t);
  }
}

}  // namespace stale
