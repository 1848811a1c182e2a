// Stable sorting of row numbers: one function sorts elements of every type, which keeps small modules small.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace stale {

using RowBefore = bool (*)(const void* context, std::uint32_t row, std::uint32_t other);

// The rows 0 to n - 1 sorted by `before`; rows that compare equal keep their order.
std::vector<std::uint32_t> rows_in_order(std::size_t n, RowBefore before, const void* context);

// `values` in the order of before(value, other).
template <typename Value, typename Before>
std::vector<Value> in_order(const std::vector<Value>& values, const Before& before) {
  struct Context {
    const std::vector<Value>& values;
    const Before& before;
  };
  const Context context{values, before};
  const RowBefore row_before = [](const void* pointer, std::uint32_t row, std::uint32_t other) {
    const auto& given = *static_cast<const Context*>(pointer);
    return static_cast<bool>(given.before(given.values[row], given.values[other]));
  };
  std::vector<Value> result;
  result.reserve(values.size());
  for (const std::uint32_t row : rows_in_order(values.size(), row_before, &context)) result.push_back(values[row]);
  return result;
}

}  // namespace stale
