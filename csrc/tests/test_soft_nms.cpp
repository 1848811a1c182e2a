#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "check.hpp"
#include "decay.hpp"
#include "soft_nms_textbook.hpp"
#include "stale_core.hpp"

namespace {

using stale::kNoLimit;
using stale::Pick;
using stale::SoftNmsMethod;
using stale::SoftNmsParameters;

constexpr SoftNmsMethod kMethods[] = {SoftNmsMethod::gaussian, SoftNmsMethod::linear, SoftNmsMethod::hard};

std::vector<Pick> run(const std::vector<double>& segments, const std::vector<double>& scores, const SoftNmsParameters& p) {
  return stale::soft_nms(segments.data(), scores.data(), scores.size(), p);
}

void agrees_with_the_textbook() {
  std::mt19937_64 random(7);
  std::uniform_real_distribution<double> unit(0.0, 1.0);
  for (int trial = 0; trial < 600; ++trial) {
    const std::size_t n = random() % (trial % 20 == 0 ? 2000 : 200);  // also more than a few groups of blocks
    const double span = std::pow(10.0, 4.0 * unit(random) - 1.0);
    const bool grid = random() % 3 == 0;  // ties of scores and of places, zero lengths
    std::vector<double> segments;
    std::vector<double> scores;
    for (std::size_t i = 0; i < n; ++i) {
      double start = unit(random) * span;
      double length = std::pow(10.0, 3.0 * unit(random) - 1.0);
      double score = unit(random);
      if (grid) {
        start = std::floor(start);
        length = std::floor(length) - 1.0 < 0.0 ? 0.0 : std::floor(length) - 1.0;
        score = std::floor(4.0 * score) / 4.0;
      }
      segments.push_back(start);
      segments.push_back(start + length);
      scores.push_back(score);
    }
    const double thresholds[] = {0.0, 0.3, 0.5, 1.0};
    const double floors[] = {0.0, 0.001, 0.25};
    const SoftNmsParameters p{kMethods[random() % 3], 0.1 + unit(random), thresholds[random() % 4], floors[random() % 3],
                              random() % 2 == 0 ? kNoLimit : static_cast<std::int64_t>(random() % 50), random() % 4 == 0 ? 1e-6 : 0.0};
    const std::vector<Pick> fast = run(segments, scores, p);
    const std::vector<Pick> slow = bench::soft_nms_textbook(segments.data(), scores.data(), n, p);
    CHECK(fast.size() == slow.size());
    for (std::size_t i = 0; i < fast.size(); ++i) {
      CHECK_NEAR(fast[i].score, slow[i].score, 1e-12);
      // On the grid, sums in another order may differ in the last bit and swap a tie.
      if (!grid || p.method != SoftNmsMethod::gaussian) CHECK(fast[i].row == slow[i].row);
    }
  }
}

// Times so far apart, or so close, that their differences are rounded, infinite or denormal.
void agrees_at_the_ends_of_the_number_line() {
  std::mt19937_64 random(11);
  for (const double unit : {1e-323, 1e-310, 0.125, 1e300, 8e304}) {
    for (const double origin : {0.0, 1e15, -1.7e308}) {
      std::vector<double> segments;
      std::vector<double> scores;
      for (int i = 0; i < 300; ++i) {
        const double offset = static_cast<double>(random() % 2000) * unit;
        const double start = origin < 0.0 ? origin + offset + offset : origin + offset;
        segments.push_back(start);
        segments.push_back(start + static_cast<double>(random() % 40) * unit);
        scores.push_back(static_cast<double>(1 + random() % 1000) / 1000.0);
      }
      for (const SoftNmsMethod method : {SoftNmsMethod::linear, SoftNmsMethod::hard}) {
        const SoftNmsParameters p{method, 0.5, 0.3, 0.001, kNoLimit, 0.0};
        const std::vector<Pick> fast = run(segments, scores, p);
        const std::vector<Pick> slow = bench::soft_nms_textbook(segments.data(), scores.data(), scores.size(), p);
        CHECK(fast.size() == slow.size());
        for (std::size_t i = 0; i < fast.size(); ++i) CHECK(fast[i].row == slow[i].row);
      }
    }
  }
}

// The loop for this processor gives the same bits as the portable one.
template <SoftNmsMethod method>
void decays_alike_with_any_instructions() {
  constexpr std::size_t kBlocks = 40;
  std::mt19937_64 random(13);
  std::uniform_real_distribution<double> unit(0.0, 1.0);
  std::vector<double> starts;
  std::vector<double> ends;
  std::vector<double> keys;
  for (std::size_t i = 0; i < kBlocks * stale::kBlock; ++i) {
    starts.push_back(100.0 * unit(random));
    ends.push_back(starts.back() + (i % 17 == 0 ? 0.0 : 30.0 * unit(random)));
    keys.push_back(i % 5 == 0 ? stale::kGone : unit(random));
  }
  std::vector<double> best(kBlocks, stale::kGone);
  std::vector<double> other_keys = keys;
  std::vector<double> other_best = best;
  const SoftNmsParameters p{method, 0.3, 0.4, 0.001, kNoLimit, 0.0};
  for (int pick = 0; pick < 50; ++pick) {
    const double start = 100.0 * unit(random);
    const stale::Decaying decaying{start, start + 20.0 * unit(random), 0.1};
    const std::size_t from = random() % kBlocks;
    const std::size_t to = from + 1 + random() % (kBlocks - from);
    stale::fastest_decay(method)({starts.data(), ends.data(), keys.data(), best.data()}, from, to, decaying, p);
    stale::decay_anywhere<method>({starts.data(), ends.data(), other_keys.data(), other_best.data()}, from, to, decaying, p);
    CHECK(std::memcmp(keys.data(), other_keys.data(), keys.size() * sizeof(double)) == 0);
    CHECK(std::memcmp(best.data(), other_best.data(), best.size() * sizeof(double)) == 0);
  }
}

void keeps_undecayed_scores_to_the_last_bit() {
  const std::vector<double> segments{0, 1, 2, 3, 4, 5};
  const std::vector<double> scores{0.1, 0.7, 0.3};
  const std::vector<Pick> picks = run(segments, scores, {SoftNmsMethod::gaussian, 0.5, 0.5, 0.001, kNoLimit, 0.0});
  CHECK(picks.size() == 3);
  CHECK(picks[0].row == 1 && picks[0].score == 0.7);
  CHECK(picks[1].row == 2 && picks[1].score == 0.3);
  CHECK(picks[2].row == 0 && picks[2].score == 0.1);
}

void takes_the_smallest_inputs() {
  for (const SoftNmsMethod method : kMethods) {
    const SoftNmsParameters p{method, 0.5, 0.5, 0.001, kNoLimit, 0.0};
    CHECK(run({}, {}, p).empty());
    CHECK(run({3, 3}, {0.5}, p).size() == 1);  // zero length
    CHECK(run({3, 4}, {0.0}, p).empty());
    CHECK(run({3, 4}, {0.0}, {method, 0.5, 0.5, 0.0, kNoLimit, 0.0}).size() == 1);
    CHECK(run({3, 4}, {0.5}, {method, 0.5, 0.5, 0.0, 0, 0.0}).empty());
  }
}

void refuses_what_makes_no_sense() {
  const SoftNmsParameters p{SoftNmsMethod::gaussian, 0.5, 0.5, 0.001, kNoLimit, 0.0};
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  CHECK_REFUSES(run({0, 1, 2, nan}, {0.5, 0.5}, p), "segments row 1");
  CHECK_REFUSES(run({0, 1, -infinity, 2}, {0.5, 0.5}, p), "segments row 1");
  CHECK_REFUSES(run({0, 1, 3, 2}, {0.5, 0.5}, p), "segments row 1");
  CHECK_REFUSES(run({-1.7e308, 1.7e308}, {0.5}, p), "its length must be at most 4.49423e+307");
  CHECK_REFUSES(run({0, 1, 2, 3}, {0.5, nan}, p), "scores row 1");
  CHECK_REFUSES(run({0, 1, 2, 3}, {-0.5, 0.5}, p), "scores row 0");
  CHECK_REFUSES(run({0, 1}, {infinity}, p), "scores row 0");
  CHECK_REFUSES(run({}, {}, {SoftNmsMethod::gaussian, 0.0, 0.5, 0.0, kNoLimit, 0.0}), "sigma");
  CHECK_REFUSES(run({}, {}, {SoftNmsMethod::gaussian, nan, 0.5, 0.0, kNoLimit, 0.0}), "sigma");
  CHECK_REFUSES(run({}, {}, {SoftNmsMethod::hard, 0.5, 1.5, 0.0, kNoLimit, 0.0}), "tiou_threshold");
  CHECK_REFUSES(run({}, {}, {SoftNmsMethod::hard, 0.5, 0.5, -1.0, kNoLimit, 0.0}), "min_score");
  CHECK_REFUSES(run({}, {}, {SoftNmsMethod::hard, 0.5, 0.5, 0.0, -2, 0.0}), "top_k");
}

}  // namespace

int main() {
  agrees_with_the_textbook();
  agrees_at_the_ends_of_the_number_line();
  decays_alike_with_any_instructions<SoftNmsMethod::gaussian>();
  decays_alike_with_any_instructions<SoftNmsMethod::linear>();
  decays_alike_with_any_instructions<SoftNmsMethod::hard>();
  keeps_undecayed_scores_to_the_last_bit();
  takes_the_smallest_inputs();
  refuses_what_makes_no_sense();
  return 0;
}
