// Candidates of many labels: suppressed next to settled ones, and joined where two windows meet. tests/oracle.py has the slow
// twins of both; this file runs them under the sanitizers.
#include <cmath>
#include <random>
#include <vector>

#include "check.hpp"
#include "stale_core.hpp"

namespace {

using stale::Detection;
using stale::kNoLimit;
using stale::Labelled;
using stale::Pick;
using stale::SoftNmsMethod;
using stale::SoftNmsParameters;

struct Rows {
  std::vector<double> segments;
  std::vector<std::int64_t> labels;
  std::vector<double> scores;

  void add(std::int64_t label, double score, double start, double end) {
    segments.insert(segments.end(), {start, end});
    labels.push_back(label);
    scores.push_back(score);
  }
  Labelled view() const { return {segments.data(), labels.data(), scores.data(), labels.size()}; }
};

Rows made(std::mt19937_64& random, std::size_t n) {
  std::uniform_real_distribution<double> unit(0.0, 1.0);
  Rows rows;
  for (std::size_t i = 0; i < n; ++i) {
    const double start = 100.0 * unit(random);
    rows.add(static_cast<std::int64_t>(random() % 3), unit(random), start, start + 20.0 * unit(random));
  }
  return rows;
}

// Settling the first picks does not change the scores of the others, bit for bit.
void settled_picks_change_nothing() {
  std::mt19937_64 random(3);
  for (const SoftNmsMethod method : {SoftNmsMethod::gaussian, SoftNmsMethod::linear, SoftNmsMethod::hard}) {
    const SoftNmsParameters p{method, 0.5, 0.3, 0.001, kNoLimit, 0.0};
    for (int trial = 0; trial < 50; ++trial) {
      const Rows rows = made(random, random() % 300);
      const std::vector<Pick> whole = stale::soft_nms_by_label(rows.view(), Rows{}.view(), p);
      Rows settled;
      Rows rest;
      std::vector<bool> early(rows.labels.size(), false);
      std::vector<double> wanted;
      for (const Pick& pick : whole) {
        const auto row = static_cast<std::size_t>(pick.row);
        early[row] = random() % 2 == 0;
        if (early[row]) {
          settled.add(rows.labels[row], pick.score, rows.segments[2 * row], rows.segments[2 * row + 1]);
        } else {
          wanted.push_back(pick.score);
        }
      }
      for (std::size_t row = 0; row < early.size(); ++row) {
        if (!early[row]) rest.add(rows.labels[row], rows.scores[row], rows.segments[2 * row], rows.segments[2 * row + 1]);
      }
      const std::vector<Pick> again = stale::soft_nms_by_label(rest.view(), settled.view(), p);
      CHECK(again.size() == wanted.size());
      for (std::size_t i = 0; i < again.size(); ++i) CHECK(again[i].score == wanted[i]);
    }
  }
}

void joins_by_value() {
  const stale::Seam seam{60.0, 100.0, 80.0, 60.0, 0.5};
  Rows earlier;
  earlier.add(0, 0.6, 20.0, 100.0);  // cut by both windows
  earlier.add(0, 0.9, 82.0, 84.0);   // found by one window alone, where the other is preferred
  Rows later;
  later.add(1, 0.8, 60.0, 140.0);  // another label
  later.add(0, 0.9, 60.0, 140.0);
  later.add(0, 0.7, 50.0, 60.0);  // settled before
  const std::vector<Detection> joined = stale::join_at_seam(earlier.view(), later.view(), seam);
  CHECK(joined.size() == 2);
  CHECK(joined[0].label == 1 && joined[0].score == 0.8 && joined[0].start == 60.0 && joined[0].end == 140.0);
  CHECK(joined[1].label == 0 && joined[1].score == 0.9 && joined[1].start == 20.0 && joined[1].end == 140.0);
}

void takes_anything_that_is_a_segment() {
  std::mt19937_64 random(5);
  for (int trial = 0; trial < 200; ++trial) {
    const Rows earlier = made(random, random() % 40);
    const Rows later = made(random, random() % 40);
    const stale::Seam seam{40.0, 60.0, 50.0, 40.0, 0.5};
    CHECK(stale::join_at_seam(earlier.view(), later.view(), seam).size() <= earlier.labels.size() + later.labels.size());
  }
  const SoftNmsParameters p{SoftNmsMethod::gaussian, 0.5, 0.5, 0.0, 2, 0.0};
  Rows rows;
  CHECK(stale::soft_nms_by_label(rows.view(), rows.view(), p).empty());
  CHECK(stale::join_at_seam(rows.view(), rows.view(), {0.0, 0.0, 0.0, 0.0, 0.5}).empty());
  rows.add(-7, 0.5, 1.0, 1.0);
  rows.add(9, 0.0, 1.0, 2.0);
  rows.add(9, 0.25, 5.0, 6.0);
  CHECK(stale::soft_nms_by_label(rows.view(), rows.view(), p).size() == 2);  // the limit is for all labels together
}

void refuses_what_makes_no_sense() {
  Rows fine;
  fine.add(0, 0.5, 0.0, 1.0);
  Rows broken = fine;
  broken.add(0, 0.5, 2.0, 1.0);
  const SoftNmsParameters p{SoftNmsMethod::gaussian, 0.5, 0.5, 0.0, kNoLimit, 0.0};
  const stale::Seam seam{0.0, 1.0, 0.5, 0.0, 0.5};
  CHECK_REFUSES(stale::soft_nms_by_label(broken.view(), fine.view(), p), "segments row 1");
  CHECK_REFUSES(stale::soft_nms_by_label(fine.view(), broken.view(), p), "settled row 1");
  CHECK_REFUSES(stale::join_at_seam(broken.view(), fine.view(), seam), "earlier row 1");
  CHECK_REFUSES(stale::join_at_seam(fine.view(), broken.view(), seam), "later row 1");
  CHECK_REFUSES(stale::join_at_seam(fine.view(), fine.view(), {0.0, 1.0, 0.5, 0.0, 0.0}), "same_action");
}

}  // namespace

int main() {
  settled_picks_change_nothing();
  joins_by_value();
  takes_anything_that_is_a_segment();
  refuses_what_makes_no_sense();
  return 0;
}
