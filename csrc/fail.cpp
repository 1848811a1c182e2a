// The only file of the core that throws or writes numbers as text. Builds without exceptions and streams use
// export/wasm/host.cpp instead.
#include <cmath>
#include <locale>
#include <sstream>
#include <stdexcept>

#include "checks.hpp"

namespace stale {

void fail(std::initializer_list<Part> message) {
  constexpr double kAllDigits = 1e15;  // smaller whole numbers are written in full: rows, counts
  std::ostringstream out;
  out.imbue(std::locale::classic());
  for (const Part& part : message) {
    if (part.words != nullptr) {
      out << part.words;
    } else if (std::fabs(part.number) < kAllDigits && part.number == std::floor(part.number)) {
      out << static_cast<long long>(part.number);
    } else {
      out << part.number;
    }
  }
  throw std::invalid_argument(out.str());
}

}  // namespace stale
