#include <algorithm>
#include <iterator>
#include <limits>
#include <vector>

#include "check.hpp"
#include "made_video.hpp"
#include "stale_core.hpp"

namespace {

constexpr double kThresholds[] = {0.7, 0.3, 0.5};

stale::DecodeParameters parameters(stale::Regions regions = stale::Regions::runs) {
  return {0.1, 20, kThresholds, 3, regions, 1, {stale::SoftNmsMethod::gaussian, 0.5, 0.5, 0.001, 50, 0.0}};
}

std::vector<stale::Detection> paper(const MadeVideo& v, const stale::DecodeParameters& p) {
  return stale::decode_paper(v.class_logits.data(), v.masks.data(), v.K, v.T, p);
}

// One snippet has class 1 with probability 1 / (1 + 2 e^-10); its mask has two bumps.
void decodes_a_video_by_hand() {
  MadeVideo v{2, 4, std::vector<float>(12, 0.0F), std::vector<float>(16, 0.0F)};
  v.class_logits = {0, 0, 0, 0, 0, 10, 0, 0, 10, 0, 10, 10};  // snippets 0, 2, 3 are background
  const float row[] = {0.4F, 0.9F, 0.1F, 0.6F};
  for (std::size_t t = 0; t < 4; ++t) v.masks[4 + t] = row[t];
  const double p = 1.0 / (1.0 + 2.0 * std::exp(-10.0));

  const std::vector<stale::Detection> runs = paper(v, parameters());
  // [0, 2) at 0.3, [1, 2) at 0.5 and 0.7 with tIoU 1/2, [3, 4) at 0.3 and 0.5.
  CHECK(runs.size() == 3);
  CHECK(runs[0].label == 1 && runs[0].start == 1.0 && runs[0].end == 2.0);
  CHECK_NEAR(runs[0].score, p * 0.9F, 1e-7);
  CHECK(runs[1].start == 3.0 && runs[1].end == 4.0);
  CHECK_NEAR(runs[1].score, p * 0.6F, 1e-7);
  CHECK(runs[2].start == 0.0 && runs[2].end == 2.0);
  CHECK_NEAR(runs[2].score, p * 0.9F * std::exp(-0.25 / 0.5), 1e-7);

  const std::vector<stale::Detection> hulls = paper(v, parameters(stale::Regions::hull));
  CHECK(hulls.size() == 3);  // [0, 4), [1, 4), [1, 2)
  CHECK_NEAR(hulls[0].score, p * 0.9F, 1e-7);
  CHECK(hulls[0].start == 1.0 && hulls[0].end == 2.0);  // of equal scores the earlier end first

  stale::DecodeParameters longer = parameters();
  longer.min_snippets = 2;
  const std::vector<stale::Detection> long_runs = paper(v, longer);
  CHECK(long_runs.size() == 1 && long_runs[0].start == 0.0 && long_runs[0].end == 2.0);
}

// Two channels, by hand: features 1 and position, first layer relu(f), relu(slope (p - own)), second swaps them.
void makes_a_mask_by_hand() {
  CHECK(stale::mask_network_size(1) == 2 + 2 + 2 + 4 + 2);
  const float features[] = {1.0F, -2.0F, 3.0F, /* positions */ -1.0F, 0.0F, 1.0F, /* ones */ 1.0F, 1.0F, 1.0F};
  std::vector<float> networks(3 * stale::mask_network_size(1), 0.0F);
  const float own[] = {/* w1 */ 1.0F, 0.0F, /* slope */ 0.0F, 2.0F, /* b1 */ 0.0F, 0.5F,
                       /* w2 */ 0.0F, 1.0F, 1.0F, 0.0F, /* w3 */ 0.25F, -1.0F};
  std::copy(std::begin(own), std::end(own), networks.begin() + 12);
  const std::int64_t rows[] = {1};
  float mask[3];
  stale::mask_rows(networks.data(), features, 1, 3, rows, 1, mask);
  const double logits[] = {0.25 * 0.0 - 1.0, 0.25 * 0.5 - 0.0, 0.25 * 2.5 - 3.0};
  for (std::size_t t = 0; t < 3; ++t) CHECK_NEAR(mask[t], 1.0 / (1.0 + std::exp(-logits[t])), 1e-6);
  const std::int64_t outside[] = {0, 3};
  CHECK_REFUSES(stale::mask_rows(networks.data(), features, 1, 3, outside, 2, mask), "rows[1] is 3");
  CHECK_REFUSES(stale::mask_rows(networks.data(), features, 0, 3, rows, 1, mask), "width >= 1");
}

void reads_the_masks_of_voting_snippets_alone() {
  for (unsigned seed = 0; seed < 20; ++seed) {
    MadeVideo v = made_video(1 + seed % 7, 1 + 5 * (seed % 9), seed);
    const std::vector<stale::Detection> all = paper(v, parameters());
    std::vector<float> few(v.masks.size(), 0.0F);
    for (const std::int64_t i : stale::voting_snippets(v.class_logits.data(), v.K, v.T, 0.1, 20)) {
      const auto first = static_cast<std::ptrdiff_t>(static_cast<std::size_t>(i) * v.T);
      std::copy_n(v.masks.begin() + first, v.T, few.begin() + first);
    }
    v.masks = few;
    const std::vector<stale::Detection> read = paper(v, parameters());
    CHECK(read.size() == all.size());
    for (std::size_t i = 0; i < all.size(); ++i) {
      CHECK(read[i].score == all[i].score && read[i].start == all[i].start && read[i].end == all[i].end);
    }
  }
}

void holds_its_promises() {
  for (unsigned seed = 0; seed < 20; ++seed) {
    const MadeVideo v = made_video(1 + seed % 7, 1 + 5 * (seed % 9), seed);
    for (const stale::Regions regions : {stale::Regions::runs, stale::Regions::hull}) {
      const std::vector<stale::Detection> found = paper(v, parameters(regions));
      CHECK(found.size() <= 50);
      for (std::size_t i = 0; i < found.size(); ++i) {
        CHECK(found[i].score > 0.0 && found[i].score <= 1.0);
        CHECK(i == 0 || found[i - 1].score >= found[i].score);
        CHECK(0.0 <= found[i].start && found[i].start < found[i].end && found[i].end <= static_cast<double>(v.T));
        CHECK(0 <= found[i].label && found[i].label < static_cast<std::int64_t>(v.K));
      }
    }
    const auto release = stale::decode_release(v.class_logits.data(), v.masks.data(), v.K, v.T);
    CHECK(release.size() <= 100);
    for (std::size_t i = 1; i < release.size(); ++i) CHECK(release[i - 1].score >= release[i].score);
  }
}

void gives_the_video_label_to_low_scores() {
  std::vector<stale::Detection> found{{1, 0.9, 0, 1}, {2, 0.5, 0, 1}, {3, 0.1, 0, 1}};
  stale::take_video_label(found, 7, 0.5);
  CHECK(found[0].label == 1 && found[1].label == 7 && found[2].label == 7);
}

void refuses_bad_outputs() {
  MadeVideo v = made_video(3, 5, 1);
  v.class_logits[2 * 5 + 4] = std::numeric_limits<float>::quiet_NaN();
  CHECK_REFUSES(paper(v, parameters()), "class_logits row 2, snippet 4");
  CHECK_REFUSES(stale::decode_release(v.class_logits.data(), v.masks.data(), v.K, v.T), "class_logits row 2, snippet 4");
  v = made_video(3, 5, 1);
  v.masks[3 * 5 + 1] = 1.5F;
  CHECK_REFUSES(paper(v, parameters()), "masks row 3, snippet 1");
  v.masks[3 * 5 + 1] = -std::numeric_limits<float>::infinity();
  CHECK_REFUSES(paper(v, parameters()), "masks row 3, snippet 1");
  v = made_video(3, 5, 1);
  CHECK_REFUSES(stale::decode_paper(v.class_logits.data(), v.masks.data(), 0, 5, parameters()), "K >= 1");
  stale::DecodeParameters p = parameters();
  p.class_threshold = 1.0;
  CHECK_REFUSES(paper(v, p), "class_threshold");
  p = parameters();
  p.top_snippets = 0;
  CHECK_REFUSES(paper(v, p), "top_snippets");
  p = parameters();
  p.min_snippets = 0;
  CHECK_REFUSES(paper(v, p), "min_snippets");
  p = parameters();
  p.n_mask_thresholds = 0;
  CHECK_REFUSES(paper(v, p), "mask_thresholds");
  const double high[] = {0.5, 1.0};
  p.mask_thresholds = high;
  p.n_mask_thresholds = 2;
  CHECK_REFUSES(paper(v, p), "mask_thresholds row 1");
}

}  // namespace

int main() {
  decodes_a_video_by_hand();
  makes_a_mask_by_hand();
  reads_the_masks_of_voting_snippets_alone();
  holds_its_promises();
  gives_the_video_label_to_low_scores();
  refuses_bad_outputs();
  return 0;
}
