// The loop in which soft-NMS spends its time: a pick decays blocks of candidates. The compiler vectorises it. On x86-64 it is
// compiled twice, for every processor and for AVX2; both give the same bits.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>

#include "stale_core.hpp"

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define STALE_CORE_AVX2 1
#define STALE_CORE_INLINE [[gnu::always_inline]] inline
#else
#define STALE_CORE_AVX2 0
#define STALE_CORE_INLINE inline
#endif

namespace stale {

constexpr std::size_t kBlock = 8;  // candidates in a block; enough for any vector width

// Largest 1 / sigma: four thousand million decays of a key add up to less than the key of a score of zero (soft_nms.cpp).
constexpr double kSharpest = 1e290;

constexpr double kGone = -std::numeric_limits<double>::infinity();  // key of a candidate that was removed

// Candidates in blocks of kBlock: segments [starts, ends), keys, and the highest key of each block.
struct Blocks {
  const double* starts;
  const double* ends;
  double* keys;
  double* best;
};

struct Decaying {
  double start;
  double end;
  double floor;  // candidates whose key falls below are removed
};

// The highest of n values, n a multiple of four. Four maxima are independent; a single one would make each step wait.
STALE_CORE_INLINE double highest(const double* values, std::size_t n) {
  std::array<double, 4> best{values[0], values[1], values[2], values[3]};
  for (std::size_t i = 4; i < n; i += 4) {
    for (std::size_t lane = 0; lane < 4; ++lane) best[lane] = std::max(best[lane], values[i + lane]);
  }
  return std::max(std::max(best[0], best[1]), std::max(best[2], best[3]));
}

template <SoftNmsMethod method>
STALE_CORE_INLINE void decay_blocks(const Blocks& blocks, std::size_t from, std::size_t to, const Decaying& pick,
                                    const SoftNmsParameters& parameters) {
  const double start = pick.start;
  const double end = pick.end;
  const double floor = pick.floor;
  const double length = (end - start) + 2.0 * parameters.length_margin;
  const double threshold = parameters.tiou_threshold;
  const double sharpness = std::min(1.0 / parameters.sigma, kSharpest);
  for (std::size_t b = from; b < to; ++b) {
    const double* starts = blocks.starts + b * kBlock;
    const double* ends = blocks.ends + b * kBlock;
    double* keys = blocks.keys + b * kBlock;
    for (std::size_t i = 0; i < kBlock; ++i) {
      const double s = starts[i];
      const double e = ends[i];
      double shared = (e < end ? e : end) - (s > start ? s : start);
      shared = shared > 0.0 ? shared : 0.0;
      double either = (e - s) + length - shared;
      either = shared > 0.0 ? either : 1.0;  // avoids a division by zero
      const double tiou = shared / either;
      double key = keys[i];
      if constexpr (method == SoftNmsMethod::gaussian) {
        key -= tiou * tiou * sharpness;
      } else if constexpr (method == SoftNmsMethod::linear) {
        const double lost = tiou >= threshold ? tiou : 0.0;
        key *= 1.0 - lost;
      } else {
        const double suppressed = key < 0.0 ? key : 0.0;
        key = tiou >= threshold ? suppressed : key;
      }
      key = key >= floor ? key : kGone;  // also removes what became NaN
      keys[i] = key;
    }
    blocks.best[b] = highest(keys, kBlock);
  }
}

// Decays the blocks in [from, to) by a pick.
using DecayBlocks = void(const Blocks& blocks, std::size_t from, std::size_t to, const Decaying& pick,
                         const SoftNmsParameters& parameters);

template <SoftNmsMethod method>
void decay_anywhere(const Blocks& blocks, std::size_t from, std::size_t to, const Decaying& pick,
                    const SoftNmsParameters& parameters) {
  decay_blocks<method>(blocks, from, to, pick, parameters);
}

#if STALE_CORE_AVX2
template <SoftNmsMethod method>
[[gnu::target("avx2")]] void decay_avx2(const Blocks& blocks, std::size_t from, std::size_t to, const Decaying& pick,
                                        const SoftNmsParameters& parameters) {
  decay_blocks<method>(blocks, from, to, pick, parameters);
}
#endif

template <SoftNmsMethod method>
DecayBlocks* fastest_decay() {
#if STALE_CORE_AVX2
  if (__builtin_cpu_supports("avx2")) return decay_avx2<method>;
#endif
  return decay_anywhere<method>;
}

inline DecayBlocks* fastest_decay(SoftNmsMethod method) {
  switch (method) {
    case SoftNmsMethod::gaussian:
      return fastest_decay<SoftNmsMethod::gaussian>();
    case SoftNmsMethod::linear:
      return fastest_decay<SoftNmsMethod::linear>();
    case SoftNmsMethod::hard:
      break;
  }
  return fastest_decay<SoftNmsMethod::hard>();
}

}  // namespace stale
