#include "order.hpp"

#include <algorithm>

namespace stale {

namespace {
constexpr std::size_t kRun = 8;  // rows sorted by insertion
}

// Merge sort whose short runs are sorted by insertion.
std::vector<std::uint32_t> rows_in_order(std::size_t n, RowBefore before, const void* context) {
  const auto row_before = [&](std::uint32_t row, std::uint32_t other) { return before(context, row, other); };
  std::vector<std::uint32_t> rows(n);
  std::vector<std::uint32_t> merged(n);
  for (std::size_t i = 0; i < n; ++i) {
    std::size_t at = i;
    for (; at % kRun != 0 && row_before(static_cast<std::uint32_t>(i), rows[at - 1]); --at) rows[at] = rows[at - 1];
    rows[at] = static_cast<std::uint32_t>(i);
  }
  for (std::size_t width = kRun; width < n; width *= 2) {
    for (std::size_t first = 0; first < n; first += 2 * width) {
      const std::uint32_t* begin = rows.data() + first;
      const std::uint32_t* middle = rows.data() + std::min(first + width, n);
      const std::uint32_t* end = rows.data() + std::min(first + 2 * width, n);
      std::uint32_t* to = merged.data() + first;
      if (middle == end || !row_before(*middle, middle[-1])) {  // already in order
        std::copy(begin, end, to);
      } else {
        std::merge(begin, middle, middle, end, to, row_before);
      }
    }
    rows.swap(merged);
  }
  return rows;
}

}  // namespace stale
