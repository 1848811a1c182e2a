// The only file of the core that throws or writes numbers as text: where there are no exceptions and no streams, another one
// takes its place (export/wasm/host.cpp).
#include <locale>
#include <sstream>
#include <stdexcept>

#include "checks.hpp"

namespace stale {

void fail(const std::string& message) { throw std::invalid_argument(message); }

std::string text(double value) {
  std::ostringstream out;
  out.imbue(std::locale::classic());
  out << value;
  return out.str();
}

}  // namespace stale
