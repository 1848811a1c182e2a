// Shared by the timing programs: medians of processor time, which a busy machine disturbs less than wall time.
#pragma once

#include <algorithm>
#include <ctime>
#include <vector>

namespace bench {

template <typename Function>
double seconds(Function&& function) {
  const std::clock_t start = std::clock();
  function();
  return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
}

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2.0;
}

}  // namespace bench
