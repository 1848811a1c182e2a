// The smallest program on the C++ package: consumer BUNDLE prints the bundle's classes and one soft-NMS.
#include <cstdio>
#include <exception>
#include <vector>

#include "bundle.hpp"
#include "stale_core.hpp"

int main(int argc, char** argv) {
  if (argc != 2 || argv[1][0] == '-') {
    std::printf("usage: consumer BUNDLE\nPrints the class names of a bundle, and the picks of one soft-NMS.\n");
    return argc == 2 ? 0 : 2;
  }
  try {
    for (const auto& name : stale::Bundle(argv[1]).class_bank().names) std::printf("class %s\n", name.c_str());
    const std::vector<double> segments{0.0, 1.0, 0.0, 1.0, 5.0, 6.0}, scores{0.9, 0.8, 0.7};
    const stale::SoftNmsParameters hard{stale::SoftNmsMethod::hard, 0.5, 0.5, 0.1, stale::kNoLimit, 0.0};
    for (const auto& pick : stale::soft_nms(segments.data(), scores.data(), scores.size(), hard))
      std::printf("pick %d %.1f\n", static_cast<int>(pick.row), pick.score);
  } catch (const std::exception& error) {
    return std::fprintf(stderr, "error: %s\n", error.what()), 1;
  }
}
