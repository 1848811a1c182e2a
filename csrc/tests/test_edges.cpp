// The limits stated in stale_core.hpp: smallest sigma, longest segments, NaN times, misaligned arrays, and arrays that another
// thread rewrites.
#include <atomic>
#include <cstring>
#include <limits>
#include <random>
#include <thread>
#include <vector>

#include "check.hpp"
#include "made_video.hpp"
#include "soft_nms_textbook.hpp"
#include "stale_core.hpp"

namespace {

using stale::kNoLimit;
using stale::SoftNmsMethod;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

void a_tiny_sigma_drops_only_what_overlaps() {
  const double segments[] = {0, 10, 12, 30, 5, 15, 40, 50};
  const double scores[] = {0.9, 0.8, 0.7, 0.6};
  for (const double sigma : {1e-9, 1e-200, 1e-300, 5.6e-309, 5e-324}) {
    const auto kept = stale::soft_nms(segments, scores, 4, {SoftNmsMethod::gaussian, sigma, 0.5, 0.001, kNoLimit, 0.0});
    CHECK(kept.size() == 3);
    CHECK(kept[0].row == 0 && kept[1].row == 1 && kept[2].row == 3);
    CHECK(kept[0].score == 0.9 && kept[1].score == 0.8 && kept[2].score == 0.6);
    // With a min_score of 0, candidates that decay to 0 stay.
    const auto all = stale::soft_nms(segments, scores, 4, {SoftNmsMethod::gaussian, sigma, 0.5, 0.0, kNoLimit, 0.0});
    CHECK(all.size() == 4 && all[3].row == 2 && all[3].score == 0.0);
    const double two[] = {0.9, 0.8, 0.0, 0.6};  // row 2 overlaps the two best
    CHECK(stale::soft_nms(segments, two, 4, {SoftNmsMethod::gaussian, sigma, 0.5, 0.0, kNoLimit, 0.0}).size() == 4);
  }
}

void the_longest_segments_suppress_each_other() {
  const double most = std::numeric_limits<double>::max();
  const double scores[] = {0.9, 0.8};
  const stale::SoftNmsParameters hard{SoftNmsMethod::hard, 0.5, 0.5, 0.001, kNoLimit, 0.0};
  const double longest[] = {-most / 8, most / 8, -most / 8, most / 8};
  CHECK(stale::soft_nms(longest, scores, 2, hard).size() == 1);
  const double too_long[] = {0, 1.6e308, 0, 1.6e308};
  CHECK_REFUSES(stale::soft_nms(too_long, scores, 2, hard), "its length must be at most 4.49423e+307");
  double out[4];
  CHECK_REFUSES(stale::tiou(too_long, 2, longest, 2, out), "its length must be at most");
  stale::tiou(longest, 2, longest, 2, out);
  CHECK(out[0] == 1.0 && out[3] == 1.0);
}

void the_largest_scores_stay_finite() {
  const double most = std::numeric_limits<double>::max();
  const double segments[] = {0, 10, 1, 10, 2, 10};
  const double scores[] = {most, most, 1e300};
  for (const SoftNmsMethod method : {SoftNmsMethod::gaussian, SoftNmsMethod::linear}) {
    for (const auto& pick : stale::soft_nms(segments, scores, 3, {method, 0.5, 0.5, 0.001, kNoLimit, 0.0})) {
      CHECK(std::isfinite(pick.score));
    }
  }
}

void seams_are_numbers() {
  const double segments[] = {0, 10};
  const std::int64_t labels[] = {0};
  const double scores[] = {0.5};
  const stale::Labelled one{segments, labels, scores, 1};
  const stale::Seam seam{4, 8, 6, -kInfinity, 0.5};
  CHECK(stale::join_at_seam(one, one, seam).size() == 1);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (double stale::Seam::* time : {&stale::Seam::zone_start, &stale::Seam::zone_end, &stale::Seam::seam, &stale::Seam::final_until}) {
    stale::Seam bad = seam;
    bad.*time = nan;
    CHECK_REFUSES(stale::join_at_seam(one, one, bad), "must be a number, infinity too; got nan");
  }
  // The middle of a segment beyond half of the largest double is finite.
  const double far[] = {1.7e308, 1.7e308};
  const stale::Labelled late{far, labels, scores, 1};
  CHECK(stale::join_at_seam(late, {nullptr, nullptr, nullptr, 0}, {0, 1, 1.75e308, -kInfinity, 0.5}).size() == 1);
}

// A copy of values that starts one byte past an aligned address.
template <typename Value>
class Misaligned {
 public:
  explicit Misaligned(const std::vector<Value>& values) : bytes_(values.size() * sizeof(Value) + sizeof(Value)) {
    std::memcpy(bytes_.data() + 1, values.data(), values.size() * sizeof(Value));
  }
  const Value* data() const { return reinterpret_cast<const Value*>(bytes_.data() + 1); }

 private:
  std::vector<unsigned char> bytes_;
};

void misaligned_arrays_are_refused() {
  const std::vector<double> segments{0, 1, 2, 3};
  const std::vector<double> scores{0.5, 0.4};
  const std::vector<std::int64_t> labels{0, 1};
  const stale::SoftNmsParameters p{SoftNmsMethod::hard, 0.5, 0.5, 0.001, kNoLimit, 0.0};
  const Misaligned<double> bad_segments(segments);
  const Misaligned<double> bad_scores(scores);
  const Misaligned<std::int64_t> bad_labels(labels);
  CHECK_REFUSES(stale::soft_nms(bad_segments.data(), scores.data(), 2, p), "segments is misaligned");
  CHECK_REFUSES(stale::soft_nms(segments.data(), bad_scores.data(), 2, p), "scores is misaligned");
  const stale::Labelled nothing{nullptr, nullptr, nullptr, 0};
  CHECK_REFUSES(stale::soft_nms_by_label({segments.data(), bad_labels.data(), scores.data(), 2}, nothing, p), "labels is misaligned");
  CHECK_REFUSES(stale::mask_segments(Misaligned<float>({0.5F, 0.5F}).data(), 2, 0.1, stale::Regions::runs, 1), "mask is misaligned");
  const MadeVideo v = made_video(2, 5, 1);
  const Misaligned<float> bad_logits(v.class_logits);
  const Misaligned<float> bad_masks(v.masks);
  CHECK_REFUSES(stale::decode_release(bad_logits.data(), v.masks.data(), v.K, v.T), "class_logits is misaligned");
  CHECK_REFUSES(stale::decode_release(v.class_logits.data(), bad_masks.data(), v.K, v.T), "masks is misaligned");
}

// Tests memory safety alone, under AddressSanitizer. Errors are valid results too.
template <typename Call>
void survives(Call&& call) {
  try {
    call();
  } catch (const std::invalid_argument&) {
  }
}

void arrays_that_change_meanwhile_are_not_left() {
  MadeVideo v = made_video(3, 40, 5);
  std::vector<double> segments;
  std::vector<double> scores;
  std::vector<std::int64_t> labels;
  for (int i = 0; i < 300; ++i) {
    segments.push_back(i % 50);
    segments.push_back(i % 50 + i % 7);
    scores.push_back(0.5);
    labels.push_back(i % 3);
  }
  std::vector<float> offsets(2 * v.T, 1.0F);
  std::vector<std::uint8_t> valid(v.T, 1);
  std::vector<std::int64_t> levels{30, 10};
  std::atomic<bool> done{false};
  // Only allowed values, which pass the checks; each write changes how many values are used. Written through volatile, so that
  // the compiler keeps the writes: the race is intended.
  std::thread other([&] {
    for (std::uint64_t turn = 0; !done; ++turn) {
      const bool on = turn % 2 == 0;
      for (std::size_t i = 0; i < scores.size(); ++i) {
        static_cast<volatile double&>(scores[i]) = on ? 0.5 : 0.0;
        static_cast<volatile double&>(segments[2 * i + 1]) = segments[2 * i] + (on ? 20.0 : 0.0);
        static_cast<volatile std::int64_t&>(labels[i]) = static_cast<std::int64_t>(on ? i % 3 : i % 5);
      }
      for (float& value : v.masks) static_cast<volatile float&>(value) = on ? 1.0F : 0.0F;
      for (float& value : v.class_logits) static_cast<volatile float&>(value) = on ? 5.0F : -5.0F;
      for (std::uint8_t& value : valid) static_cast<volatile std::uint8_t&>(value) = on ? 1 : 0;
      static_cast<volatile std::int64_t&>(levels[1]) = on ? 10 : 1'000'000'000;
    }
  });
  const stale::SoftNmsParameters soft_nms{SoftNmsMethod::gaussian, 0.5, 0.5, 0.001, 50, 0.0};
  const double thresholds[] = {0.1, 0.5};
  const stale::Labelled rows{segments.data(), labels.data(), scores.data(), scores.size()};
  const stale::Points points{v.class_logits.data(), offsets.data(), valid.data(), v.T, v.K, levels.data(), levels.size()};
  for (int i = 0; i < 700; ++i) {
    survives([&] { stale::soft_nms(segments.data(), scores.data(), scores.size(), soft_nms); });
    survives([&] { stale::soft_nms_by_label(rows, rows, soft_nms); });
    survives([&] { stale::join_at_seam(rows, rows, {10, 20, 15, -kInfinity, 0.5}); });
    survives([&] { stale::suppress_points(rows, {0.001, 50, 0.05, true, true, 0.5, soft_nms}); });
    survives([&] { stale::decode_points(points, {0.001, 50, 0.05, false, true, 0.5, soft_nms}); });
    survives([&] { stale::decode_release(v.class_logits.data(), v.masks.data(), v.K, v.T); });
    for (const stale::Regions regions : {stale::Regions::runs, stale::Regions::hull}) {
      survives([&] { stale::mask_segments(v.masks.data(), v.T, 0.5, regions, 1); });
      survives([&] {
        stale::decode_paper(v.class_logits.data(), v.masks.data(), v.K, v.T, {0.05, 50, thresholds, 2, regions, 1, soft_nms});
      });
    }
    survives([&] {
      stale::decode_runs({v.class_logits.data(), v.masks.data(), v.K, v.T},
                         {0.2, 0.1, thresholds, 2, false, true, 0.1, stale::RunScore::contrast, 0.2, 0.1, 0.5, 1, soft_nms});
    });
  }
  done = true;
  other.join();
}

}  // namespace

int main() {
  a_tiny_sigma_drops_only_what_overlaps();
  the_longest_segments_suppress_each_other();
  the_largest_scores_stay_finite();
  seams_are_numbers();
  misaligned_arrays_are_refused();
  arrays_that_change_meanwhile_are_not_left();
  return 0;
}
