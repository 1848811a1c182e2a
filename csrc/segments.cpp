#include <algorithm>
#include <cmath>
#include <limits>

#include "checks.hpp"
#include "overlap.hpp"
#include "stale_core.hpp"

namespace stale {

void tiou(const double* segments, std::size_t n, const double* others, std::size_t m, double* out) {
  check_segments(segments, n, "segments");
  check_segments(others, m, "others");
  check_aligned(out, "out");
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < m; ++j) {
      out[i * m + j] = overlap(segments[2 * i], segments[2 * i + 1], others[2 * j], others[2 * j + 1]);
    }
  }
}

std::vector<SnippetSegment> mask_segments(const float* mask, std::size_t length, double threshold, Regions regions,
                                          std::int64_t min_snippets) {
  constexpr auto kLargest = static_cast<double>(std::numeric_limits<float>::max());
  if (!(std::fabs(threshold) <= kLargest)) fail({"threshold must be finite, also in float32; got ", threshold});
  if (min_snippets < 1) fail({"min_snippets must be >= 1; got ", min_snippets});
  check_aligned(mask, "mask");
  for (std::size_t t = 0; t < length; ++t) {
    if (!std::isfinite(mask[t])) {
      fail({"mask row ", t, " is ", mask[t], "; it must be finite"});
    }
  }
  std::vector<SnippetSegment> found;
  for_each_region(mask, length, static_cast<float>(threshold), regions, [&](std::size_t start, std::size_t end) {
    if (static_cast<std::int64_t>(end - start) >= min_snippets) {
      found.push_back({static_cast<std::int64_t>(start), static_cast<std::int64_t>(end)});
    }
  });
  return found;
}

}  // namespace stale
