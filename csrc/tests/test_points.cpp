#include <limits>
#include <random>
#include <vector>

#include "check.hpp"
#include "stale_core.hpp"

namespace {

using stale::PointsParameters;
using stale::SoftNmsMethod;

struct MadePoints {
  std::size_t n_classes;
  std::vector<float> class_logits;
  std::vector<float> offsets;
  std::vector<std::uint8_t> valid;
  std::vector<std::int64_t> level_lengths;

  stale::Points view() const {
    return {class_logits.data(), offsets.data(), valid.data(), valid.size(), n_classes, level_lengths.data(), level_lengths.size()};
  }
};

MadePoints made_points(std::size_t n_classes, std::int64_t length, std::size_t n_levels, unsigned seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0.0F, 2.0F);
  MadePoints made{n_classes, {}, {}, {}, {}};
  for (std::size_t l = 0; l < n_levels; ++l) {
    made.level_lengths.push_back(length);
    for (std::int64_t i = 0; i < length; ++i) {
      for (std::size_t k = 0; k < n_classes; ++k) made.class_logits.push_back(normal(random));
      made.offsets.push_back(std::fabs(normal(random)));
      made.offsets.push_back(std::fabs(normal(random)));
      made.valid.push_back(i * 5 < length * 4 ? 1 : 0);
    }
    length = (length + 1) / 2;
  }
  return made;
}

PointsParameters settings(bool multiclass, SoftNmsMethod method) {
  return {0.001, 2000, 0.05, multiclass, true, 0.9, {method, 0.5, 0.3, 0.001, 200, stale::kPointsLengthMargin}};
}

void finds_one_segment() {
  // Two levels of two points; the second point of level 1 lies at time 2.
  MadePoints made{1, {-20, -20, -20, 3}, {0, 0, 0, 0, 0, 0, 0.75F, 1.25F}, {1, 1, 1, 1}, {2, 2}};
  const auto found = stale::decode_points(made.view(), settings(true, SoftNmsMethod::gaussian));
  CHECK(found.size() == 1);
  CHECK_NEAR(found[0].score, 1.0 / (1.0 + std::exp(-3.0)), 1e-12);
  CHECK(found[0].start == 0.5 && found[0].end == 4.5 && found[0].label == 0);
  made.valid[3] = 0;
  CHECK(stale::decode_points(made.view(), settings(true, SoftNmsMethod::gaussian)).empty());
}

void keeps_its_promises() {
  for (unsigned seed = 0; seed < 60; ++seed) {
    const MadePoints made = made_points(1 + seed % 4, 1 + static_cast<std::int64_t>(seed % 40), 1 + seed % 6, seed);
    for (const bool multiclass : {true, false}) {
      for (const SoftNmsMethod method : {SoftNmsMethod::gaussian, SoftNmsMethod::hard}) {
        PointsParameters p = settings(multiclass, method);
        p.soft_nms.top_k = 1 + seed % 20;
        const auto found = stale::decode_points(made.view(), p);
        CHECK(found.size() <= static_cast<std::size_t>(p.soft_nms.top_k));
        for (std::size_t i = 0; i < found.size(); ++i) {
          CHECK(found[i].end > found[i].start && found[i].score >= 0.001 && found[i].score <= 1.0);
          CHECK(i == 0 || found[i].score <= found[i - 1].score);
        }
      }
    }
  }
}

void votes_by_score_and_overlap() {
  const double segments[] = {0, 10, 0, 8, 40, 50};
  const std::int64_t labels[] = {0, 1, 0};
  const double scores[] = {0.8, 0.5, 0.3};
  PointsParameters p = settings(false, SoftNmsMethod::hard);
  p.voting_threshold = 0.7;
  const auto found = stale::suppress_points({segments, labels, scores, 3}, p);
  CHECK(found.size() == 2 && found[1].end == 50.0);
  CHECK_NEAR(found[0].end, (0.8 * 10.0 + 0.5 * 0.8 * 8.0) / (0.8 + 0.5 * 0.8), 1e-12);
}

void refuses_what_makes_no_sense() {
  const PointsParameters p = settings(true, SoftNmsMethod::gaussian);
  MadePoints made = made_points(2, 8, 2, 1);
  made.class_logits[3] = std::numeric_limits<float>::infinity();
  CHECK_REFUSES(stale::decode_points(made.view(), p), "class_logits row 1, class 1 is inf");
  made.class_logits[3] = 0.0F;
  made.offsets[5] = -1.0F;
  CHECK_REFUSES(stale::decode_points(made.view(), p), "offsets row 2 holds -1");
  made.valid[2] = 0;  // not read
  CHECK(!stale::decode_points(made.view(), p).empty());
  made.level_lengths = {8, 5};
  CHECK_REFUSES(stale::decode_points(made.view(), p), "level_lengths row 1 is 5");
  made.level_lengths = {8, 3};
  CHECK_REFUSES(stale::decode_points(made.view(), p), "level_lengths add up to 11");
  made.level_lengths = {std::numeric_limits<std::int64_t>::max(), 4};
  CHECK_REFUSES(stale::decode_points(made.view(), p), "level_lengths row 0");
  made.level_lengths = {8, 4};
  CHECK_REFUSES(stale::decode_points(made.view(), settings(true, SoftNmsMethod::linear)), "'gaussian' or 'hard'");
  PointsParameters bad = p;
  bad.duration_threshold = -1.0;
  CHECK_REFUSES(stale::decode_points(made.view(), bad), "duration_threshold");
  bad = p;
  bad.voting_threshold = 1.5;
  CHECK_REFUSES(stale::decode_points(made.view(), bad), "voting_threshold");
  bad = p;
  bad.pre_nms_threshold = 1.0;
  CHECK_REFUSES(stale::decode_points(made.view(), bad), "pre_nms_threshold");
  bad = p;
  bad.pre_nms_top_k = 0;
  CHECK_REFUSES(stale::decode_points(made.view(), bad), "pre_nms_top_k");
}

}  // namespace

int main() {
  finds_one_segment();
  keeps_its_promises();
  votes_by_score_and_overlap();
  refuses_what_makes_no_sense();
  return 0;
}
