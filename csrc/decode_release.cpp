// The public inference script, quirks included: sauradip/STALE at commit fd7a7e8, stale_inference.py and
// utils/postprocess_utils.py with the settings of config/anet.yaml. Each function names the lines whose
// computation it repeats. docs/release-findings.md lists the cost of each quirk.
#include <algorithm>
#include <array>
#include <cmath>
#include <tuple>
#include <utility>

#include "checks.hpp"
#include "order.hpp"
#include "overlap.hpp"
#include "softmax.hpp"
#include "stale_core.hpp"

namespace stale {
namespace {

// config/anet.yaml:56-60. The settings of the release; this policy has no other ones.
constexpr std::size_t kReleaseTopSnippets = 10;
constexpr std::array<double, 10> kReleaseClassThresholds{0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9};
constexpr std::array<float, 5> kReleaseMaskThresholds{0.0F, 0.2F, 0.4F, 0.6F, 0.8F};
constexpr double kReleaseDivisor = 0.6;          // config/anet.yaml:60, called nms_thresh there
constexpr std::size_t kReleaseMaxDetections = 100;  // utils/postprocess_utils.py:62 and :134

// stale_inference.py:123: softmax over the classes and the background, summed in float32 as there. Returns (n_classes, T),
// without the background.
std::vector<float> release_softmax(const float* class_logits, std::size_t n_classes, std::size_t T) {
  SnippetSoftmax<float> softmax = snippet_softmax<float>(class_logits, n_classes + 1, T);
  softmax.weights.resize(n_classes * T);
  for (std::size_t k = 0; k < n_classes; ++k) {
    float* row = softmax.weights.data() + k * T;
    for (std::size_t t = 0; t < T; ++t) row[t] /= softmax.sums[t];
  }
  return std::move(softmax.weights);
}

// stale_inference.py:129-130: the class with the highest mean logit over the video. Every proposal gets it (:210, :214).
std::size_t release_video_class(const float* class_logits, std::size_t n_classes, std::size_t T) {
  std::size_t best = 0;
  double best_sum = 0.0;
  for (std::size_t k = 0; k < n_classes; ++k) {
    double sum = 0.0;
    for (std::size_t t = 0; t < T; ++t) sum += static_cast<double>(class_logits[k * T + t]);
    if (k == 0 || sum > best_sum) {
      best = k;
      best_sum = sum;
    }
  }
  return best;
}

struct ReleaseRegion {
  std::size_t start;
  std::size_t end;  // the last snippet, not one past it (stale_inference.py:159, :197)
  float score;
};

float highest_in(const float* values, std::size_t start, std::size_t end) {
  return *std::max_element(values + start, values + end);
}

// stale_inference.py:151-163: the holes above each class threshold are filled, so each threshold gives one region from the
// first to the last snippet; its score does not include the last snippet. Regions of two snippets or fewer are dropped.
std::vector<ReleaseRegion> release_class_regions(const std::vector<float>& best_scores) {
  std::vector<ReleaseRegion> regions;
  for (const double threshold : kReleaseClassThresholds) {
    const auto above = [&](float score) { return static_cast<double>(score) > threshold; };
    const auto first = std::find_if(best_scores.begin(), best_scores.end(), above);
    if (first == best_scores.end()) continue;
    const auto start = static_cast<std::size_t>(first - best_scores.begin());
    const auto last = std::find_if(best_scores.rbegin(), best_scores.rend(), above);
    const auto end = static_cast<std::size_t>(best_scores.rend() - last) - 1;
    if (end - start > 1) regions.push_back({start, end, highest_in(best_scores.data(), start, end)});
  }
  return regions;
}

// stale_inference.py:198-200: the longest connected run above the threshold, the first of equally long ones, with its last
// snippet as end. It determines the scores and whether the mask is used; the proposal is the hull.
bool release_longest_run(const float* mask, std::size_t T, float threshold, ReleaseRegion& longest) {
  std::size_t length = 0;
  for_each_region(mask, T, threshold, Regions::runs, [&](std::size_t start, std::size_t end) {
    if (end - start <= length) return;
    length = end - start;
    longest = {start, end - 1, 0.0F};
  });
  return length > 0;
}

// stale_inference.py:208: the peak of the mask without the first snippet of the run and without its last two. If no snippet is
// left, the script stops with an error; here the whole run is used. This needs a run of three snippets, which spans two and
// passes :201 (more than 0.02 of T) only when T < 100, or to one of two snippets when T < 50.
float release_mask_peak(const float* mask, const ReleaseRegion& run) {
  if (run.start + 1 < run.end - 1) return highest_in(mask, run.start + 1, run.end - 1);
  return highest_in(mask, run.start, run.end + 1);
}

// stale_inference.py:226-233: proposals pass through strings and a CSV file, so a float32 is read back as the float64 nearest
// to its shortest decimal form.
double release_csv_number(float value) {
  // A decimal of at most nine digits over a power of ten of at most 22 is a quotient of two exact float64, so the result is
  // exact. Otherwise the float32 and its decimal agree to 1e-14.
  double power = 1.0;
  for (int exponent = 0; exponent <= 22; ++exponent, power *= 10.0) {
    const double digits = std::nearbyint(static_cast<double>(value) * power);
    if (digits >= 1e9) break;
    if (digits > 0.0 && static_cast<float>(digits / power) == value) return digits / power;
  }
  return static_cast<double>(value);
}

// utils/postprocess_utils.py:104-109. Not a tIoU: "Aand" begins at the earlier start, and the second length is counted twice in
// the union, so the overlap of a with b is not that of b with a.
double release_overlap(double start, double end, double other_start, double other_end) {
  if (other_start > end || start > other_end) return 0.0;
  const double hull = std::max(end, other_end) - std::min(start, other_start);
  const double shared = std::min(end, other_end) - std::min(start, other_start);
  return shared / (hull - shared + (other_end - other_start));
}

// utils/postprocess_utils.py:83. The division by 0.6 raises the score of a segment that overlaps by less than 0.226.
double release_decay(double overlap) { return std::exp(-(overlap * overlap) * 10.0) / kReleaseDivisor; }

struct ReleaseCandidate {
  double score;
  double start;  // as fractions of the video: stale_inference.py:212-213
  double end;
  const ReleaseProposal* proposal;
  std::int64_t order;
};

// utils/postprocess_utils.py:62-100. The last candidate is never picked; picking ends when all scores have underflowed.
std::vector<ReleaseCandidate> release_soft_nms(std::vector<ReleaseCandidate> left) {
  std::vector<ReleaseCandidate> picked;
  while (left.size() > 1 && picked.size() < kReleaseMaxDetections) {
    const auto best = std::max_element(left.begin(), left.end(),
                                       [](const auto& a, const auto& b) { return a.score < b.score; });
    if (!(best->score > 0.0)) break;
    for (auto other = left.begin(); other != left.end(); ++other) {
      if (other == best) continue;
      const double overlap = release_overlap(best->start, best->end, other->start, other->end);
      if (overlap > 0.0) other->score *= release_decay(overlap);
    }
    picked.push_back(*best);
    left.erase(best);
  }
  return picked;
}

}  // namespace

// stale_inference.py:120-228.
std::vector<ReleaseProposal> release_proposals(const float* class_logits, const float* masks, std::size_t n_classes,
                                               std::size_t n_snippets) {
  check_network_output(class_logits, masks, n_classes, n_snippets);
  const std::size_t T = n_snippets;
  const std::vector<float> probabilities = release_softmax(class_logits, n_classes, T);
  const std::size_t video_class = release_video_class(class_logits, n_classes, T);
  const float* video_scores = probabilities.data() + video_class * T;
  std::vector<float> best_scores(probabilities.begin(), probabilities.begin() + static_cast<std::ptrdiff_t>(T));
  for (std::size_t k = 1; k < n_classes; ++k) {
    for (std::size_t t = 0; t < T; ++t) best_scores[t] = std::max(best_scores[t], probabilities[k * T + t]);
  }
  const std::vector<ReleaseRegion> class_regions = release_class_regions(best_scores);

  // stale_inference.py:176-181. The script needs at least ten snippets; if there are fewer, all are taken here.
  std::vector<std::size_t> snippets(T);
  for (std::size_t t = 0; t < T; ++t) snippets[t] = t;
  snippets = in_order(snippets, [&](std::size_t a, std::size_t b) { return best_scores[a] > best_scores[b]; });
  snippets.resize(std::min(T, kReleaseTopSnippets));

  std::vector<ReleaseProposal> proposals;
  const auto propose = [&](std::size_t start, std::size_t end, double class_score, double mask_score) {
    proposals.push_back({static_cast<std::int64_t>(start), static_cast<std::int64_t>(end), class_score, mask_score,
                         static_cast<std::int64_t>(video_class)});
  };
  for (const std::size_t snippet : snippets) {
    const float* mask = masks + snippet * T;
    for (const float threshold : kReleaseMaskThresholds) {
      ReleaseRegion run{};
      if (!release_longest_run(mask, T, threshold, run)) continue;
      if (!(static_cast<double>(run.end - run.start) / static_cast<double>(T) > 0.02)) continue;
      const float shift = highest_in(video_scores, run.start, run.end);
      for_each_region(mask, T, threshold, Regions::hull, [&](std::size_t start, std::size_t end) {
        propose(start, end - 1, release_csv_number(shift * release_mask_peak(mask, run)),
                release_csv_number(shift * best_scores[snippet]));
      });
      // stale_inference.py:215-223: the class regions are proposed again for every mask that is used, with the mask's peak in
      // the class column and the class score (a float64 in the script) in the mask column.
      for (const ReleaseRegion& region : class_regions) {
        propose(region.start, region.end, release_csv_number(highest_in(mask, region.start, region.end)),
                static_cast<double>(region.score));
      }
    }
  }
  const auto key = [](const ReleaseProposal& p) { return std::tie(p.start, p.end, p.class_score, p.mask_score); };
  proposals = in_order(proposals, [&](const auto& a, const auto& b) { return key(a) < key(b); });
  const auto same = [&](const auto& a, const auto& b) { return key(a) == key(b); };
  proposals.erase(std::unique(proposals.begin(), proposals.end(), same), proposals.end());
  return proposals;
}

std::int64_t release_order(std::int64_t start, std::int64_t end, std::int64_t label) {
  constexpr std::int64_t kPrime = 46337;  // the largest with distinct cubes whose square fits an int32
  std::int64_t x = (start % kPrime * 28657 + end % kPrime) % kPrime;
  x = (x * 17711 + label % kPrime + 12345) % kPrime;
  return x * x % kPrime * x % kPrime;
}

// utils/postprocess_utils.py:113-148.
std::vector<Detection> decode_release(const float* class_logits, const float* masks, std::size_t n_classes,
                                      std::size_t n_snippets) {
  const std::vector<ReleaseProposal> proposals = release_proposals(class_logits, masks, n_classes, n_snippets);
  const double T = static_cast<double>(n_snippets);
  std::vector<ReleaseCandidate> candidates;
  for (const ReleaseProposal& p : proposals) {
    candidates.push_back(
        {p.mask_score * p.class_score, static_cast<double>(p.start) / T, static_cast<double>(p.end) / T, &p,
         release_order(p.start, p.end, p.label)});
  }
  // utils/postprocess_utils.py:64. Class regions often have equal scores. The script's order is then random: rows come out of a
  // Python set (stale_inference.py:227) and pass an unstable sort. Here release_order gives the order.
  candidates = in_order(candidates, [](const auto& a, const auto& b) {
    if (a.score != b.score) return a.score > b.score;
    return a.order != b.order ? a.order < b.order : std::tie(a.start, a.end) < std::tie(b.start, b.end);
  });
  if (candidates.size() > 1) candidates = release_soft_nms(std::move(candidates));
  // Decayed scores can rise, so the picks are not in order: utils/postprocess_utils.py:130.
  candidates = in_order(candidates, [](const auto& a, const auto& b) { return a.score > b.score; });
  std::vector<Detection> detections;
  for (const ReleaseCandidate& c : candidates) {
    detections.push_back({c.proposal->label, c.score, static_cast<double>(c.proposal->start),
                          static_cast<double>(c.proposal->end)});
  }
  return detections;
}

}  // namespace stale
