#include <limits>
#include <vector>

#include "check.hpp"
#include "made_video.hpp"
#include "stale_core.hpp"

namespace {

using stale::RunScore;
using stale::RunsParameters;

constexpr double kThresholds[] = {0.2, 0.6};

RunsParameters settings(RunScore run_score) {
  return {0.2, 0.125, kThresholds, 2,   false, true, 0.0, run_score, 0.25, 0.0,
          0.0, 1,     {stale::SoftNmsMethod::gaussian, 0.5, 0.5, 0.001, 50, 0.0}};
}

// One class with this probability in each snippet; the rest is background.
std::vector<float> logits_of(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p)));
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(1.0 - p)));
  return logits;
}

void finds_runs_the_longer_first() {
  const std::vector<float> logits = logits_of({0.1, 0.5, 0.9, 0.9, 0.5, 0.1, 0.1, 0.9, 0.1, 0.1});
  const auto found = stale::runs_proposals({logits.data(), nullptr, 1, 10}, settings(RunScore::maximum));
  CHECK(found.size() == 3);
  CHECK(found[0].start == 1.0 && found[0].end == 5.0);
  CHECK(found[1].start == 2.0 && found[1].end == 4.0);
  CHECK(found[2].start == 7.0 && found[2].end == 8.0);
  for (const auto& run : found) CHECK_NEAR(run.score, 0.9, 1e-6);
  RunsParameters p = settings(RunScore::mean_contrast);
  p.length_power = 0.5;
  // The run of four: mean 0.7, scaled inside (0.5 + 1 + 1 + 0.5) / 4, around 0; 0.4 of the video.
  CHECK_NEAR(stale::runs_proposals({logits.data(), nullptr, 1, 10}, p)[0].score, 0.7 * 0.75 * std::sqrt(0.4), 1e-6);
}

void keeps_its_promises() {
  for (unsigned seed = 0; seed < 60; ++seed) {
    const MadeVideo video = made_video(1 + seed % 5, 1 + seed % 37, seed);
    const float* attention = seed % 2 == 0 ? nullptr : video.masks.data();
    for (const RunScore run_score : {RunScore::maximum, RunScore::contrast, RunScore::mean_contrast}) {
      RunsParameters p = settings(run_score);
      p.smoothing = seed % 3 == 0 ? 0.2 : 0.0;
      p.class_threshold = seed % 4 == 0 ? 0.0 : 0.2;
      const auto found = stale::decode_runs({video.class_logits.data(), attention, video.K, video.T}, p);
      CHECK(found.size() <= 50);
      for (std::size_t i = 0; i < found.size(); ++i) {
        CHECK(found[i].start >= 0.0 && found[i].start < found[i].end && found[i].end <= static_cast<double>(video.T));
        CHECK(found[i].score >= 0.001 && found[i].score <= 1.0);
        CHECK(i == 0 || found[i].score <= found[i - 1].score);
      }
    }
  }
}

void refuses_what_makes_no_sense() {
  std::vector<float> logits = logits_of({0.5, 0.4, 0.3});
  const RunsParameters p = settings(RunScore::maximum);
  const float attention[] = {0.0F, 2.0F, 0.0F};
  CHECK_REFUSES(stale::decode_runs({logits.data(), attention, 1, 3}, p), "attention row 1 is 2");
  CHECK_REFUSES(stale::decode_runs({logits.data(), nullptr, 1, 0}, p), "T >= 1");
  logits[4] = std::numeric_limits<float>::quiet_NaN();
  CHECK_REFUSES(stale::decode_runs({logits.data(), nullptr, 1, 3}, p), "class_logits row 1, snippet 1");
  logits[4] = 0.0F;
  RunsParameters bad = p;
  bad.n_thresholds = 0;
  CHECK_REFUSES(stale::decode_runs({logits.data(), nullptr, 1, 3}, bad), "thresholds");
  for (double RunsParameters::* share :
       {&RunsParameters::smoothing, &RunsParameters::surroundings, &RunsParameters::video_weight, &RunsParameters::length_power,
        &RunsParameters::class_threshold, &RunsParameters::top_share}) {
    bad = p;
    bad.*share = 1.5;
    CHECK_REFUSES(stale::decode_runs({logits.data(), nullptr, 1, 3}, bad), "got 1.5");
  }
  bad = p;
  bad.min_snippets = 0;
  CHECK_REFUSES(stale::decode_runs({logits.data(), nullptr, 1, 3}, bad), "min_snippets");
}

}  // namespace

int main() {
  finds_runs_the_longer_first();
  keeps_its_promises();
  refuses_what_makes_no_sense();
  return 0;
}
