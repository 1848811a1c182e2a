// Soft-NMS that does not touch every pair.
//
// Candidates of similar length that lie close in time share a block. A pick changes only candidates it overlaps, so only
// blocks whose span it overlaps are updated, each by one straight loop that the compiler turns into vector instructions;
// the best candidate is found through the blocks' best keys. When most candidates are gone, the rest moves together.
//
// The gaussian rule is a product of exponentials; its logarithm is a sum, so the key of a candidate is
// log(score) - sum(tiou^2) / sigma, and exp is called once a pick instead of once a pair.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "checks.hpp"
#include "stale_core.hpp"

namespace stale {
namespace {

constexpr std::size_t kBlock = 16;  // candidates; of 16, 32 and 64 the fastest for some thousand candidates
constexpr std::size_t kLanes = 8;   // independent maxima in the loop over a block, for any vector width
constexpr int kLengthClasses = 8;   // each holds lengths within a factor of two, the last all shorter ones

constexpr double kGone = -std::numeric_limits<double>::infinity();
constexpr double kLogOfZero = -1e300;  // finite, so that it is not kGone

template <SoftNmsMethod method>
class Candidates {
 public:
  Candidates(const double* segments, const double* scores, std::size_t n, const SoftNmsParameters& parameters)
      : p_(parameters), scores_(scores), floor_(method == SoftNmsMethod::gaussian ? log_of(p_.min_score) : p_.min_score) {
    place(segments, n);
    summarize();
  }

  // The next pick; gone afterwards, and everything it overlaps decayed. False when nothing is left.
  bool pick_next(Pick& pick) {
    if (best_ == kGone) return false;
    const std::size_t at = find_best();
    const double start = starts_[at];
    const double end = ends_[at];
    pick = {static_cast<std::int64_t>(rows_[at]), score_of(best_, rows_[at])};
    keys_[at] = kGone;
    ends_[at] = starts_[at];  // of zero length, it overlaps nothing and stays gone

    // A hard threshold of zero is reached by every pair, also by those that do not overlap.
    const bool every_block = method == SoftNmsMethod::hard && p_.tiou_threshold <= 0.0;
    best_ = kGone;
    for (std::size_t b = 0; b < block_best_.size(); ++b) {
      const bool overlaps = (block_start_[b] < end) & (start < block_end_[b]);
      if (overlaps || every_block || b == at / kBlock) block_best_[b] = decay(b, start, end);
      best_ = std::max(best_, block_best_[b]);
    }
    if (--until_tidy_ == 0) tidy();
    return true;
  }

 private:
  static double log_of(double score) { return score > 0.0 ? std::log(score) : kLogOfZero; }

  // Where the best key is; of equal ones the lowest row.
  std::size_t find_best() const {
    std::size_t at = keys_.size();
    for (std::size_t b = 0; b < block_best_.size(); ++b) {
      if (block_best_[b] != best_) continue;
      for (std::size_t i = b * kBlock; i < (b + 1) * kBlock; ++i) {
        if (keys_[i] == best_ && (at == keys_.size() || rows_[i] < rows_[at])) at = i;
      }
    }
    return at;
  }

  // Undecayed scores come back as they went in, not through log and exp.
  double score_of(double key, std::uint32_t row) const {
    if constexpr (method != SoftNmsMethod::gaussian) return key;
    return key == log_of(scores_[row]) ? scores_[row] : std::exp(key);
  }

  // Puts candidates into the order of blocks: by class of length, and inside a class by time. One counting sort.
  void place(const double* segments, std::size_t n) {
    double first = std::numeric_limits<double>::infinity();
    double last = -first;
    double longest = 0.0;
    for (std::size_t i = 0; i < n; ++i) {
      first = std::min(first, segments[2 * i]);
      last = std::max(last, segments[2 * i]);
      longest = std::max(longest, segments[2 * i + 1] - segments[2 * i]);
    }
    const std::size_t n_cells = 1 + n / 8;
    const double per_cell = last > first ? static_cast<double>(n_cells) / (last - first) : 0.0;
    const int longest_exponent = exponent(longest);
    const auto cell_of = [&](std::size_t i) {
      const double start = segments[2 * i];
      const int shorter = longest_exponent - exponent(segments[2 * i + 1] - start);
      const auto length_class = static_cast<std::size_t>(std::min(shorter, kLengthClasses - 1));
      const auto cell = static_cast<std::size_t>((start - first) * per_cell);
      return length_class * n_cells + std::min(cell, n_cells - 1);
    };
    std::vector<std::uint32_t> cells(n);
    std::vector<std::uint32_t> begins(kLengthClasses * n_cells + 1, 0);
    std::size_t n_live = 0;
    for (std::size_t i = 0; i < n; ++i) {
      if (scores_[i] < p_.min_score) continue;
      cells[i] = static_cast<std::uint32_t>(cell_of(i));
      ++begins[cells[i] + 1];
      ++n_live;
    }
    for (std::size_t c = 1; c < begins.size(); ++c) begins[c] += begins[c - 1];
    resize(n_live);
    for (std::size_t i = 0; i < n; ++i) {
      if (scores_[i] < p_.min_score) continue;
      const std::size_t at = begins[cells[i]]++;
      starts_[at] = segments[2 * i];
      ends_[at] = segments[2 * i + 1];
      keys_[at] = method == SoftNmsMethod::gaussian ? log_of(scores_[i]) : scores_[i];
      rows_[at] = static_cast<std::uint32_t>(i);
    }
  }

  static int exponent(double length) {
    int result = 0;
    std::frexp(length, &result);
    return length > 0.0 ? result : std::numeric_limits<int>::min() / 2;
  }

  // Makes room for n candidates in whole blocks; the rest of the last block is gone from the start.
  void resize(std::size_t n) {
    const std::size_t size = (n + kBlock - 1) / kBlock * kBlock;
    starts_.resize(size);
    ends_.resize(size);
    keys_.resize(size);
    rows_.resize(size);
    block_start_.resize(size / kBlock);
    block_end_.resize(size / kBlock);
    block_best_.resize(size / kBlock);
    until_tidy_ = picks_between_tidying();
    for (std::size_t i = n; i < size; ++i) {
      starts_[i] = ends_[i] = n > 0 ? starts_[n - 1] : 0.0;
      keys_[i] = kGone;
      rows_[i] = 0;
    }
  }

  void summarize() {
    best_ = kGone;
    for (std::size_t b = 0; b < block_best_.size(); ++b) {
      block_start_[b] = std::numeric_limits<double>::infinity();
      block_end_[b] = -std::numeric_limits<double>::infinity();
      block_best_[b] = kGone;
      for (std::size_t i = b * kBlock; i < (b + 1) * kBlock; ++i) {
        if (keys_[i] == kGone) continue;
        block_start_[b] = std::min(block_start_[b], starts_[i]);
        block_end_[b] = std::max(block_end_[b], ends_[i]);
        block_best_[b] = std::max(block_best_[b], keys_[i]);
      }
      best_ = std::max(best_, block_best_[b]);
    }
  }

  // Counting what is left takes as long as some picks; seldom enough, it does not show.
  std::size_t picks_between_tidying() const { return std::max<std::size_t>(16, block_best_.size() / 8); }

  // Moves what is left together once more than half is gone.
  void tidy() {
    std::size_t n_live = 0;
    for (const double key : keys_) n_live += static_cast<std::size_t>(key != kGone);
    until_tidy_ = picks_between_tidying();
    if (2 * n_live > keys_.size()) return;
    std::size_t to = 0;
    for (std::size_t i = 0; i < keys_.size(); ++i) {
      if (keys_[i] == kGone) continue;
      starts_[to] = starts_[i];
      ends_[to] = ends_[i];
      keys_[to] = keys_[i];
      rows_[to] = rows_[i];
      ++to;
    }
    resize(n_live);
    summarize();
  }

  // Decays one block by the pick [start, end) and returns its best key.
  double decay(std::size_t b, double start, double end) {
    const double* starts = starts_.data() + b * kBlock;
    const double* ends = ends_.data() + b * kBlock;
    double* keys = keys_.data() + b * kBlock;
    const double length = end - start;
    const double threshold = p_.tiou_threshold;
    const double sharpness = 1.0 / p_.sigma;
    const double floor = floor_;
    std::array<double, kLanes> best;
    best.fill(kGone);
    for (std::size_t i = 0; i < kBlock; i += kLanes) {
      for (std::size_t lane = 0; lane < kLanes; ++lane) {
        const double s = starts[i + lane];
        const double e = ends[i + lane];
        double shared = (e < end ? e : end) - (s > start ? s : start);
        shared = shared > 0.0 ? shared : 0.0;
        double either = (e - s) + length - shared;
        constexpr double tiny = std::numeric_limits<double>::min();
        either = either > tiny ? either : tiny;
        const double tiou = shared / either;
        double key = keys[i + lane];
        if constexpr (method == SoftNmsMethod::gaussian) {
          key -= tiou * tiou * sharpness;
        } else if constexpr (method == SoftNmsMethod::linear) {
          const double lost = tiou >= threshold ? tiou : 0.0;
          key *= 1.0 - lost;
        } else {
          const double suppressed = key < 0.0 ? key : 0.0;
          key = tiou >= threshold ? suppressed : key;
        }
        key = key < floor ? kGone : key;
        keys[i + lane] = key;
        best[lane] = key > best[lane] ? key : best[lane];
      }
    }
    return *std::max_element(best.begin(), best.end());
  }

  SoftNmsParameters p_;
  const double* scores_;
  double floor_;
  double best_ = kGone;         // the highest key of all
  std::size_t until_tidy_ = 0;  // picks until the next look at what is gone
  std::vector<double> starts_;
  std::vector<double> ends_;
  std::vector<double> keys_;
  std::vector<std::uint32_t> rows_;
  std::vector<double> block_start_;  // the earliest start and the latest end in each block
  std::vector<double> block_end_;
  std::vector<double> block_best_;  // the highest key in each block
};

template <SoftNmsMethod method>
std::vector<Pick> soft_nms_of(const double* segments, const double* scores, std::size_t n, const SoftNmsParameters& p) {
  std::vector<Pick> picks;
  if (n == 0 || p.top_k == 0) return picks;
  Candidates<method> candidates(segments, scores, n, p);
  Pick pick{};
  while ((p.top_k == kNoLimit || picks.size() < static_cast<std::size_t>(p.top_k)) && candidates.pick_next(pick)) {
    picks.push_back(pick);
  }
  return picks;
}

}  // namespace

std::vector<Pick> soft_nms(const double* segments, const double* scores, std::size_t n, const SoftNmsParameters& parameters) {
  check_soft_nms(parameters);
  check_segments(segments, n, "segments");
  check_scores(scores, n);
  if (n >= std::numeric_limits<std::uint32_t>::max()) fail("too many candidates: " + std::to_string(n));
  switch (parameters.method) {
    case SoftNmsMethod::gaussian:
      return soft_nms_of<SoftNmsMethod::gaussian>(segments, scores, n, parameters);
    case SoftNmsMethod::linear:
      return soft_nms_of<SoftNmsMethod::linear>(segments, scores, n, parameters);
    case SoftNmsMethod::hard:
      return soft_nms_of<SoftNmsMethod::hard>(segments, scores, n, parameters);
  }
  fail("method must be gaussian, linear or hard");
}

}  // namespace stale
