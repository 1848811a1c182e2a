// exp and log of the double precision that the core needs, in place of the C library's: those carry 6 kB of tables. Series, so
// within two units in the last place (stale_core.test.mjs), and alike on every machine.
#include <cstdint>
#include <cstring>
#include <limits>

namespace {

constexpr double kLn2High = 0x1.62e42fee00000p-1;  // ln 2 in two parts: times a whole number the first one is exact
constexpr double kLn2Low = 0x1.a39ef35793c76p-33;
constexpr int kExponentBias = 1023;

double power_of_two(int exponent) {
  const std::uint64_t bits = static_cast<std::uint64_t>(exponent + kExponentBias) << 52;
  double value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace

extern "C" {

// exp(x) = 2^n exp(r), |r| <= ln(2) / 2: Taylor's series.
double exp(double x) {
  if (!(x > -746.0)) return x == x ? 0.0 : x;
  if (x > 710.0) return std::numeric_limits<double>::infinity();
  const double n = __builtin_nearbyint(x * 1.4426950408889634);
  const double r = (x - n * kLn2High) - n * kLn2Low;
  double sum = 1.0;
  for (int term = 13; term > 1; --term) sum = 1.0 + sum * r / term;
  const int half = static_cast<int>(n) / 2;  // 2^n itself may be too small or too large for a double
  return (1.0 + sum * r) * power_of_two(half) * power_of_two(static_cast<int>(n) - half);
}

// log(x) = n ln(2) + log(m) and log(m) = 2 atanh((m - 1) / (m + 1)), m within a factor of sqrt(2) of 1. x > 0 and finite.
double log(double x) {
  int n = 0;
  if (x < std::numeric_limits<double>::min()) {
    x *= power_of_two(54);
    n = -54;
  }
  std::uint64_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const std::uint64_t sqrt_half = 0x3fe6a09e667f3bcd;
  const int exponent = static_cast<int>(static_cast<std::int64_t>(bits - sqrt_half) >> 52);
  n += exponent;
  const double m = x * power_of_two(-exponent / 2) * power_of_two(-exponent + exponent / 2);
  const double s = (m - 1.0) / (m + 1.0);
  double sum = 0.0;
  for (int power = 23; power > 1; power -= 2) sum = s * s * (sum + 1.0 / power);
  return n * kLn2High + (2.0 * s + (2.0 * s * sum + n * kLn2Low));
}

}  // extern "C"
