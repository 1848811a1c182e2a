// Soft-NMS that does not compute every pair.
//
// Candidates are sorted by length class, then by time, so the ones that a pick may overlap are a short range in each class.
// Ranges are updated in blocks (decay.hpp); the best candidate is found through the best keys of groups of blocks. The arrays
// are compacted when at least half of the candidates are gone.
//
// The gaussian rule multiplies exponentials. The key of a candidate is the logarithm, log(score) - sum(tiou^2) / sigma, so
// exp is called once per pick instead of once per pair.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "checks.hpp"
#include "decay.hpp"
#include "order.hpp"
#include "stale_core.hpp"

namespace stale {
namespace {

constexpr std::size_t kGroup = 16;         // blocks in a group
constexpr std::size_t kLengthClasses = 4;  // each spans a factor of four in length; the last holds all shorter ones

constexpr double kLogOfZero = -1e300;                                  // finite, to differ from kGone
constexpr double kNoFloor = std::numeric_limits<double>::lowest();  // all keys but kGone reach it

class Candidates {
 public:
  Candidates(const double* segments, const double* scores, std::size_t n, const SoftNmsParameters& parameters)
      : p_(parameters),
        scores_(scores),
        floor_(p_.min_score > 0.0 ? key_of(p_.min_score) : kNoFloor),
        decay_blocks_(fastest_decay(p_.method)) {
    // Every pair reaches a hard threshold of zero, even without overlap.
    reaches_all_ = p_.method == SoftNmsMethod::hard && p_.tiou_threshold <= 0.0;
    place(segments, n);
    summarize();
  }

  // The score of the next pick; below 0 when none is left.
  double next_score() const {
    const double best = highest(group_best_.data(), group_best_.size());
    return best == kGone ? -1.0 : score_of(best, rows_[find(best)]);
  }

  // Decays the candidates that overlap a segment which is not a candidate itself.
  void decay_by(double start, double end) {
    if (reaches_all_) {
      decay(0, block_best_.size(), start, end);
    } else {
      decay_overlapped(start, end);
    }
  }

  // Removes the next pick and decays the candidates that it overlaps. False when none is left.
  bool pick_next(Pick& pick) {
    const double best = highest(group_best_.data(), group_best_.size());
    if (best == kGone) return false;
    const std::size_t at = find(best);
    const double start = starts_[at];
    const double end = ends_[at];
    pick = {static_cast<std::int64_t>(rows_[at]), score_of(best, rows_[at])};
    keys_[at] = kGone;
    ends_[at] = starts_[at];  // length zero: it overlaps nothing and stays removed

    decay_by(start, end);
    if (--until_tidy_ == 0) tidy();
    return true;
  }

 private:
  double key_of(double score) const {
    if (p_.method != SoftNmsMethod::gaussian) return score;
    return score > 0.0 ? std::log(score) : kLogOfZero;
  }

  // An undecayed score is returned unchanged, not through log and exp.
  double score_of(double key, std::uint32_t row) const {
    if (p_.method != SoftNmsMethod::gaussian) return key;
    return key == key_of(scores_[row]) ? scores_[row] : std::exp(key);
  }

  // The time cell that holds `time`. Monotone in time, also with rounding.
  std::size_t cell_of(double time) const {
    const double cell = (time - first_) * cells_per_time_;
    return cell >= 1.0 ? static_cast<std::size_t>(std::min(cell, static_cast<double>(n_cells_ - 1))) : 0;
  }

  // Sorts candidates by length class and time cell, with one counting sort.
  void place(const double* segments, std::size_t n) {
    double last = kGone;
    double longest = 0.0;
    first_ = std::numeric_limits<double>::infinity();
    for (std::size_t i = 0; i < n; ++i) {
      first_ = std::min(first_, segments[2 * i]);
      last = std::max(last, segments[2 * i]);
      longest = std::max(longest, segments[2 * i + 1] - segments[2 * i]);
    }
    n_cells_ = 1 + n / 8;
    cells_per_time_ = last > first_ ? static_cast<double>(n_cells_) / (last - first_) : 0.0;
    std::vector<std::uint32_t> slots(n);
    begins_.assign(kLengthClasses * n_cells_ + 2, 0);
    std::size_t n_live = 0;
    for (std::size_t i = 0; i < n; ++i) {
      if (scores_[i] < p_.min_score) continue;
      const double length = segments[2 * i + 1] - segments[2 * i];
      std::size_t length_class = 0;
      for (double limit = longest / 4.0; length_class + 1 < kLengthClasses && length < limit; limit /= 4.0) ++length_class;
      const std::size_t cell = cell_of(segments[2 * i]);
      reach_[length_class] = std::max(reach_[length_class], cell_of(segments[2 * i + 1]) - cell);
      slots[i] = static_cast<std::uint32_t>(length_class * n_cells_ + cell);
      ++begins_[slots[i] + 2];
      ++n_live;
    }
    for (std::size_t s = 2; s < begins_.size(); ++s) begins_[s] += begins_[s - 1];
    resize(n_live);
    for (std::size_t i = 0; i < n; ++i) {
      if (scores_[i] < p_.min_score) continue;
      const std::size_t at = begins_[slots[i] + 1]++;  // after the loop: where the next slot begins
      starts_[at] = segments[2 * i];
      ends_[at] = segments[2 * i + 1];
      keys_[at] = key_of(scores_[i]);
      rows_[at] = static_cast<std::uint32_t>(i);
    }
  }

  // Makes room for n candidates in whole groups; unused places of the last group are marked as gone.
  void resize(std::size_t n) {
    const std::size_t n_groups = std::max<std::size_t>(1, (n + kGroup * kBlock - 1) / (kGroup * kBlock));
    group_best_.assign((n_groups + 3) / 4 * 4, kGone);
    block_best_.resize(n_groups * kGroup);
    starts_.resize(n_groups * kGroup * kBlock);
    ends_.resize(starts_.size());
    keys_.resize(starts_.size());
    rows_.resize(starts_.size());
    for (std::size_t i = n; i < keys_.size(); ++i) {
      starts_[i] = ends_[i] = 0.0;
      keys_[i] = kGone;
    }
    // Counting the remaining candidates takes as long as some picks, so it is done rarely.
    until_tidy_ = picks_between_tidying_ = std::max<std::size_t>(16, keys_.size() / 256);
  }

  void summarize() {
    for (std::size_t b = 0; b < block_best_.size(); ++b) block_best_[b] = highest(&keys_[b * kBlock], kBlock);
    for (std::size_t b = 0; b < block_best_.size(); b += kGroup) group_best_[b / kGroup] = highest(&block_best_[b], kGroup);
  }

  // Position of an existing key; of equal ones, that of the lowest row.
  std::size_t find(double key) const {
    std::size_t at = keys_.size();
    for (std::size_t g = 0; g * kGroup < block_best_.size(); ++g) {
      if (group_best_[g] < key) continue;
      for (std::size_t b = g * kGroup; b < (g + 1) * kGroup; ++b) {
        if (block_best_[b] < key) continue;
        for (std::size_t i = b * kBlock; i < (b + 1) * kBlock; ++i) {
          if (keys_[i] == key && (at == keys_.size() || rows_[i] < rows_[at])) at = i;
        }
      }
    }
    return at;
  }

  // Compacts the arrays if at least half of the candidates are gone; otherwise doubles the time to the next check.
  void tidy() {
    std::size_t n_live = 0;
    for (const double key : keys_) n_live += static_cast<std::size_t>(key != kGone);
    if (2 * n_live > keys_.size()) {
      until_tidy_ = picks_between_tidying_ *= 2;
      return;
    }
    std::size_t to = 0;
    std::size_t i = 0;
    for (std::size_t slot = 0; slot + 1 < begins_.size(); ++slot) {
      const std::size_t end = begins_[slot + 1];
      begins_[slot] = static_cast<std::uint32_t>(to);
      for (; i < end; ++i) {
        if (keys_[i] == kGone) continue;
        starts_[to] = starts_[i];
        ends_[to] = ends_[i];
        keys_[to] = keys_[i];
        rows_[to] = rows_[i];
        ++to;
      }
    }
    begins_.back() = static_cast<std::uint32_t>(to);
    resize(n_live);
    summarize();
  }

  // A candidate that overlaps [start, end) starts no later than in the cell of `end` and ends no earlier than in the cell of
  // `start`, so it starts at most the reach of its class before the cell of `start`.
  void decay_overlapped(double start, double end) {
    const std::size_t first_cell = cell_of(start);
    const std::size_t last_cell = cell_of(end);
    std::size_t done = 0;  // blocks already decayed: a block may hold two classes
    for (std::size_t c = 0; c < kLengthClasses; ++c) {
      const std::uint32_t* begins = begins_.data() + c * n_cells_;
      const std::size_t from = std::max<std::size_t>(done, begins[first_cell - std::min(first_cell, reach_[c])] / kBlock);
      const std::size_t to = (begins[last_cell + 1] + kBlock - 1) / kBlock;
      if (from >= to) continue;
      decay(from, to, start, end);
      done = to;
    }
  }

  // Decays the blocks in [from, to), at least one, by the pick [start, end).
  void decay(std::size_t from, std::size_t to, double start, double end) {
    decay_blocks_({starts_.data(), ends_.data(), keys_.data(), block_best_.data()}, from, to, {start, end, floor_}, p_);
    for (std::size_t g = from / kGroup; g <= (to - 1) / kGroup; ++g) {
      group_best_[g] = highest(&block_best_[g * kGroup], kGroup);
    }
  }

  SoftNmsParameters p_;
  const double* scores_;
  double floor_;
  DecayBlocks* decay_blocks_;
  bool reaches_all_;            // a pick decays all candidates, overlapping or not
  std::size_t until_tidy_ = 0;  // picks until the next count of removed candidates
  std::size_t picks_between_tidying_ = 0;
  // Cells of equal duration from the first start to the last one.
  std::size_t n_cells_ = 1;
  double first_ = 0.0;
  double cells_per_time_ = 0.0;
  std::array<std::size_t, kLengthClasses> reach_{};  // largest number of cells from start to end, by class
  std::vector<std::uint32_t> begins_;                // where each cell of each class begins; the last is the end
  std::vector<double> starts_;
  std::vector<double> ends_;
  std::vector<double> keys_;
  std::vector<std::uint32_t> rows_;
  std::vector<double> block_best_;  // the highest key in each block
  std::vector<double> group_best_;  // the highest key in each group of blocks
};

// Soft-NMS of checked candidates next to settled ones, best first.
std::vector<Pick> picks_beside(const Labelled& settled, const double* segments, const double* scores, std::size_t n,
                               const SoftNmsParameters& parameters) {
  if (n >= std::numeric_limits<std::uint32_t>::max()) fail({"too many candidates: ", n});
  std::vector<Pick> picks;
  if (n == 0 || parameters.top_k == 0) return picks;
  Candidates candidates(segments, scores, n, parameters);
  std::size_t turn = 0;
  Pick pick{};
  while (parameters.top_k == kNoLimit || picks.size() < static_cast<std::size_t>(parameters.top_k)) {
    for (; turn < settled.n && settled.scores[turn] >= candidates.next_score(); ++turn) {
      candidates.decay_by(settled.segments[2 * turn], settled.segments[2 * turn + 1]);
    }
    if (!candidates.pick_next(pick)) break;
    picks.push_back(pick);
  }
  return picks;
}

// Groups rows by label, with buffers for the segments and scores of a group.
struct ByLabel {
  explicit ByLabel(const Labelled& given, bool best_first) {
    struct Context {
      const Labelled& given;
      bool best_first;
    };
    const Context context{given, best_first};
    rows = rows_in_order(
        given.n,
        [](const void* pointer, std::uint32_t row, std::uint32_t other) {
          const auto& [all, by_score] = *static_cast<const Context*>(pointer);
          if (all.labels[row] != all.labels[other]) return all.labels[row] < all.labels[other];
          return by_score && all.scores[row] > all.scores[other];
        },
        &context);
    for (const std::uint32_t row : rows) {
      segments.push_back(given.segments[2 * row]);
      segments.push_back(given.segments[2 * row + 1]);
      labels.push_back(given.labels[row]);
      scores.push_back(given.scores[row]);
    }
  }

  // The rows of a label, the first of which is `first`.
  Labelled of(std::int64_t label, std::size_t first) const {
    std::size_t last = first;
    while (last < labels.size() && labels[last] == label) ++last;
    return {segments.data() + 2 * first, labels.data() + first, scores.data() + first, last - first};
  }

  std::vector<std::uint32_t> rows;
  std::vector<double> segments;
  std::vector<std::int64_t> labels;
  std::vector<double> scores;
};

}  // namespace

std::vector<Pick> soft_nms(const double* segments, const double* scores, std::size_t n, const SoftNmsParameters& parameters) {
  check_soft_nms(parameters);
  check_aligned(segments, "segments");
  check_aligned(scores, "scores");
  const std::vector<double> own_segments(segments, segments + 2 * n);
  const std::vector<double> own_scores(scores, scores + n);
  check_segments(own_segments.data(), n, "segments");
  check_scores(own_scores.data(), n);
  return picks_beside({nullptr, nullptr, nullptr, 0}, own_segments.data(), own_scores.data(), n, parameters);
}

std::vector<Pick> soft_nms_by_label(const Labelled& candidates, const Labelled& settled, const SoftNmsParameters& parameters) {
  check_soft_nms(parameters);
  const LabelledCopy own_candidates(candidates, "segments");
  const LabelledCopy own_settled(settled, "settled");
  const ByLabel sorted(own_candidates.view(), false);
  const ByLabel before(own_settled.view(), true);
  std::vector<Pick> picks;
  std::size_t first_settled = 0;
  for (std::size_t first = 0; first < sorted.labels.size();) {
    const std::int64_t label = sorted.labels[first];
    const Labelled own = sorted.of(label, first);
    while (first_settled < before.labels.size() && before.labels[first_settled] < label) ++first_settled;
    for (const Pick& pick : picks_beside(before.of(label, first_settled), own.segments, own.scores, own.n, parameters)) {
      picks.push_back({std::int64_t{sorted.rows[first + static_cast<std::size_t>(pick.row)]}, pick.score});
    }
    first += own.n;
  }
  picks = in_order(picks, [](const Pick& a, const Pick& b) { return a.score > b.score; });
  if (parameters.top_k != kNoLimit && picks.size() > static_cast<std::size_t>(parameters.top_k)) {
    picks.resize(static_cast<std::size_t>(parameters.top_k));
  }
  return picks;
}

}  // namespace stale
