// Makes arguments of the core from the bytes of a fuzzer, and checks what comes back.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <vector>

#include "stale_core.hpp"

#define CHECK(condition)                                                             \
  do {                                                                               \
    if (!(condition)) {                                                              \
      std::fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                  \
    }                                                                                \
  } while (false)

namespace fuzz {

// Reads an input from its start; after its end every byte is 0.
class Bytes {
 public:
  Bytes(const std::uint8_t* data, std::size_t size) : next_(data), left_(size) {}

  std::uint8_t byte() {
    if (left_ == 0) return 0;
    --left_;
    return *next_++;
  }

  std::size_t below(std::size_t n) { return byte() % n; }

  bool flag() { return byte() % 2 == 1; }

  template <typename Value>
  Value raw() {
    Value value{};
    const std::size_t size = std::min(left_, sizeof(Value));
    if (size > 0) std::memcpy(&value, next_, size);
    next_ += size;
    left_ -= size;
    return value;
  }

  // Mostly small and equal numbers, so that ties and overlaps are frequent; sometimes any number, NaN and infinity too.
  double number() {
    const std::uint8_t kind = byte();
    if (kind < 100) return static_cast<double>(kind % 25) / 2.0;
    if (kind < 200) return static_cast<double>(byte()) / 255.0;
    if (kind < 220) return -static_cast<double>(byte()) / 8.0;
    if (kind < 245) return kEdges[kind % (sizeof(kEdges) / sizeof(kEdges[0]))];
    return raw<double>();
  }

  // In [0, 1), mostly.
  double share() { return byte() < 250 ? static_cast<double>(byte()) / 256.0 : number(); }

  std::int64_t count() {
    const std::uint8_t kind = byte();
    if (kind < 240) return kind % 12;
    return kind < 250 ? -1 : raw<std::int64_t>();
  }

  std::vector<double> numbers(std::size_t n) { return made<double>(n, [this] { return number(); }); }
  std::vector<float> reals(std::size_t n) { return made<float>(n, [this] { return real(number()); }); }
  std::vector<float> shares(std::size_t n) { return made<float>(n, [this] { return real(share()); }); }
  std::vector<double> thresholds(std::size_t n) { return made<double>(n, [this] { return share(); }); }
  std::vector<std::int64_t> counts(std::size_t n) { return made<std::int64_t>(n, [this] { return count(); }); }

  // Pairs (start, end), mostly with start <= end.
  std::vector<double> segments(std::size_t n) {
    std::vector<double> values(2 * n);
    for (std::size_t i = 0; i < n; ++i) {
      values[2 * i] = number();
      values[2 * i + 1] = byte() < 250 ? values[2 * i] + std::fabs(number()) : number();
    }
    return values;
  }

 private:
  // A finite double beyond the largest float becomes infinite: the conversion itself would be undefined.
  static float real(double value) {
    if (std::fabs(value) <= static_cast<double>(std::numeric_limits<float>::max()) || std::isnan(value)) return static_cast<float>(value);
    return value > 0 ? std::numeric_limits<float>::infinity() : -std::numeric_limits<float>::infinity();
  }

  template <typename Value, typename Make>
  std::vector<Value> made(std::size_t n, Make&& make) {
    std::vector<Value> values(n);
    for (Value& value : values) value = make();
    return values;
  }

  static constexpr double kEdges[] = {0.5,     1.0,   1e-6, 5.6e-309, 5e-324, 1e300, 1.6e308, std::numeric_limits<double>::max(),
                                      -0.0,    1e16,  0.001, std::numeric_limits<double>::infinity(),
                                      -std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()};

  const std::uint8_t* next_;
  std::size_t left_;
};

inline stale::SoftNmsParameters soft_nms_parameters(Bytes& bytes) {
  const auto method = static_cast<stale::SoftNmsMethod>(bytes.below(3));
  const double sigma = bytes.number();
  const double tiou_threshold = bytes.share();
  const double min_score = bytes.flag() ? 0.0 : bytes.share();
  const std::int64_t top_k = bytes.flag() ? stale::kNoLimit : bytes.count();
  return {method, sigma, tiou_threshold, min_score, top_k, bytes.flag() ? 0.0 : stale::kPointsLengthMargin};
}

// Segments with labels and scores that own their numbers.
struct Rows {
  explicit Rows(Bytes& bytes)
      : n(bytes.below(12)), segments(bytes.segments(n)), labels(bytes.counts(n)), scores(bytes.numbers(n)) {}
  stale::Labelled view() const { return {segments.data(), labels.data(), scores.data(), n}; }

  std::size_t n;
  std::vector<double> segments;
  std::vector<std::int64_t> labels;
  std::vector<double> scores;
};

// Runs a call of the core: it succeeds, or refuses with std::invalid_argument and a message. Anything else ends the process.
template <typename Call>
void call(Call&& function) {
  try {
    function();
  } catch (const std::invalid_argument& problem) {
    CHECK(std::strlen(problem.what()) > 0 && std::strlen(problem.what()) < 2000);
  }
}

// Detections of a decoder: a known class, a finite score >= 0, a segment that does not end before it starts; best first.
inline void check_detections(const std::vector<stale::Detection>& found, std::size_t n_classes, std::int64_t top_k) {
  CHECK(top_k == stale::kNoLimit || found.size() <= static_cast<std::size_t>(top_k));
  for (std::size_t i = 0; i < found.size(); ++i) {
    CHECK(found[i].label >= 0 && static_cast<std::size_t>(found[i].label) < n_classes);
    CHECK(std::isfinite(found[i].score) && found[i].score >= 0.0);
    CHECK(found[i].start <= found[i].end);
    CHECK(i == 0 || found[i - 1].score >= found[i].score);
  }
}

}  // namespace fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
