// Inference as section 3.3 of the STALE paper describes it.
#include <algorithm>
#include <cmath>

#include "checks.hpp"
#include "order.hpp"
#include "overlap.hpp"
#include "softmax.hpp"
#include "stale_core.hpp"

namespace stale {
namespace {

// A (snippet, class) pair above the class threshold.
struct Vote {
  double probability;
  std::uint32_t snippet;
  std::uint32_t label;
};

struct Region {
  std::uint32_t start;
  std::uint32_t end;
  float peak;  // the highest mask value inside
};

bool ranks_before(const Vote& a, const Vote& b) {
  if (a.probability != b.probability) return a.probability > b.probability;
  return a.snippet != b.snippet ? a.snippet < b.snippet : a.label < b.label;
}

// The best (snippet, class) pairs above the class threshold, best first. Background, the last row, proposes nothing.
std::vector<Vote> top_votes(const float* class_logits, std::size_t n_classes, std::size_t T, double class_threshold,
                            std::int64_t top_snippets) {
  const SnippetSoftmax<double> softmax = snippet_softmax<double>(class_logits, n_classes + 1, T);
  std::vector<float> worth_a_look(T);  // slightly below the threshold; the exact comparison follows
  for (std::size_t t = 0; t < T; ++t) {
    worth_a_look[t] = static_cast<float>(class_threshold * softmax.sums[t] * (1.0 - 1e-6));
  }
  const auto wanted = static_cast<std::size_t>(top_snippets);
  std::vector<Vote> votes;  // a heap with the worst kept pair in front
  for (std::size_t k = 0; k < n_classes; ++k) {
    const float* weights = softmax.weights.data() + k * T;
    for (std::size_t t = 0; t < T; ++t) {
      if (weights[t] < worth_a_look[t]) continue;
      const Vote vote{static_cast<double>(weights[t]) / softmax.sums[t], static_cast<std::uint32_t>(t),
                      static_cast<std::uint32_t>(k)};
      if (!(vote.probability > class_threshold)) continue;
      if (votes.size() < wanted) {
        votes.push_back(vote);
      } else {
        if (!ranks_before(vote, votes.front())) continue;
        std::pop_heap(votes.begin(), votes.end(), ranks_before);
        votes.back() = vote;
      }
      std::push_heap(votes.begin(), votes.end(), ranks_before);
    }
  }
  return in_order(votes, ranks_before);
}

// Finds the regions of one mask at all thresholds in one walk over the mask.
//
// Thresholds ascend, so "above threshold i" is "level > i", where level is the number of thresholds below the mask. Regions
// nest: when the level falls, the regions opened last are closed. Each distinct region is reported once, sorted by end, then
// the shortest first.
class RegionFinder {
 public:
  explicit RegionFinder(const DecodeParameters& p) : regions_(p.regions), min_snippets_(p.min_snippets) {
    for (std::size_t i = 0; i < p.n_mask_thresholds; ++i) {  // ascending, without duplicates
      const auto threshold = static_cast<float>(p.mask_thresholds[i]);
      const auto at = std::lower_bound(thresholds_.begin(), thresholds_.end(), threshold);
      if (at == thresholds_.end() || *at != threshold) thresholds_.insert(at, threshold);
    }
    opened_.resize(thresholds_.size());
    peaks_.resize(thresholds_.size());
  }

  void find(const float* mask, std::size_t length, std::vector<Region>& found) {
    found.clear();
    if (regions_ == Regions::hull) return find_hulls(mask, length, found);
    levels_.assign(length, 0);
    for (const float threshold : thresholds_) {
      for (std::size_t t = 0; t < length; ++t) levels_[t] += static_cast<std::int32_t>(mask[t] > threshold);
    }
    std::int32_t open = 0;
    for (std::size_t t = 0; t < length; ++t) {
      if (levels_[t] < open) open = close(open, levels_[t], t, found);
      for (; open < levels_[t]; ++open) {
        opened_[static_cast<std::size_t>(open)] = static_cast<std::uint32_t>(t);
        peaks_[static_cast<std::size_t>(open)] = mask[t];
      }
      if (open > 0) {
        float& peak = peaks_[static_cast<std::size_t>(open - 1)];
        peak = std::max(peak, mask[t]);
      }
    }
    close(open, 0, length, found);
  }

 private:
  std::int32_t close(std::int32_t open, std::int32_t level, std::size_t end, std::vector<Region>& found) {
    std::size_t reported = end;  // no region starts at its end
    while (open > level) {
      const auto i = static_cast<std::size_t>(--open);
      if (opened_[i] != reported) report(opened_[i], end, peaks_[i], found);
      reported = opened_[i];
      if (i > 0) peaks_[i - 1] = std::max(peaks_[i - 1], peaks_[i]);
    }
    return open;
  }

  void find_hulls(const float* mask, std::size_t length, std::vector<Region>& found) {
    const float peak = *std::max_element(mask, mask + length);
    std::size_t last_start = length;
    std::size_t last_end = 0;
    for (std::size_t i = thresholds_.size(); i-- > 0;) {
      for_each_region(mask, length, thresholds_[i], Regions::hull, [&](std::size_t start, std::size_t end) {
        if (start != last_start || end != last_end) report(start, end, peak, found);
        last_start = start;
        last_end = end;
      });
    }
  }

  void report(std::size_t start, std::size_t end, float peak, std::vector<Region>& found) const {
    if (static_cast<std::int64_t>(end - start) < min_snippets_) return;
    found.push_back({static_cast<std::uint32_t>(start), static_cast<std::uint32_t>(end), peak});
  }

  Regions regions_;
  std::int64_t min_snippets_;
  std::vector<float> thresholds_;
  std::vector<std::int32_t> levels_;
  std::vector<std::uint32_t> opened_;  // start of the open region of each threshold
  std::vector<float> peaks_;           // its peak so far, outside the regions inside it that are still open
};

// Proposals of one class: each segment once, with its best score.
class Proposals {
 public:
  explicit Proposals(std::size_t n_snippets) : n_snippets_(n_snippets) {}

  // Removes all proposals and makes room for `expected` ones.
  void restart(std::size_t expected) {
    segments.clear();
    scores.clear();
    std::size_t size = 16;
    while (size < 2 * expected) size *= 2;
    slots_.assign(size, {0, 0});
  }

  void add(const Region& region, double score) {
    const std::uint64_t key = std::uint64_t{region.start} * (n_snippets_ + 1) + region.end;  // never 0: end >= 1
    std::size_t at = static_cast<std::size_t>((key * 0x9E3779B97F4A7C15ULL) >> 32) & (slots_.size() - 1);
    while (slots_[at].key != 0 && slots_[at].key != key) at = (at + 1) & (slots_.size() - 1);
    if (slots_[at].key == key) {
      scores[slots_[at].row] = std::max(scores[slots_[at].row], score);
      return;
    }
    slots_[at] = {key, scores.size()};
    segments.push_back(static_cast<double>(region.start));
    segments.push_back(static_cast<double>(region.end));
    scores.push_back(score);
  }

  std::vector<double> segments;  // (N, 2)
  std::vector<double> scores;    // (N,)

 private:
  struct Slot {
    std::uint64_t key;
    std::size_t row;
  };
  std::size_t n_snippets_;
  std::vector<Slot> slots_;
};

void check_votes(double class_threshold, std::int64_t top_snippets) {
  if (!(class_threshold >= 0.0 && class_threshold < 1.0)) {
    fail({"class_threshold must be in [0, 1); got ", class_threshold});
  }
  if (top_snippets < 1) fail({"top_snippets must be >= 1; got ", top_snippets});
}

void check_parameters(const DecodeParameters& p) {
  check_votes(p.class_threshold, p.top_snippets);
  if (p.min_snippets < 1) fail({"min_snippets must be >= 1; got ", p.min_snippets});
  check_aligned(p.mask_thresholds, "mask_thresholds");
  if (p.n_mask_thresholds == 0) fail({"mask_thresholds must hold at least one number"});
  for (std::size_t i = 0; i < p.n_mask_thresholds; ++i) {
    if (!(p.mask_thresholds[i] >= 0.0 && p.mask_thresholds[i] < 1.0)) {
      fail({"mask_thresholds row ", i, " is ", p.mask_thresholds[i], "; it must be in [0, 1)"});
    }
  }
  check_soft_nms(p.soft_nms);
}

// Calls visit(label, proposals) for every class with a pair above the threshold, by rising label.
template <typename Visit>
void for_each_class(const float* class_logits, const float* masks, std::size_t n_classes, std::size_t n_snippets,
                    const DecodeParameters& parameters, Visit&& visit) {
  check_parameters(parameters);
  check_network_output(class_logits, masks, n_classes, n_snippets);
  const std::vector<Vote> votes =
      top_votes(class_logits, n_classes, n_snippets, parameters.class_threshold, parameters.top_snippets);

  // The mask of a snippet is thresholded once, even if the snippet is in pairs with several classes.
  RegionFinder finder(parameters);
  std::vector<std::vector<Region>> regions(n_snippets);
  std::vector<bool> cut(n_snippets, false);
  for (const Vote& vote : votes) {
    if (!cut[vote.snippet]) finder.find(masks + vote.snippet * n_snippets, n_snippets, regions[vote.snippet]);
    cut[vote.snippet] = true;
  }

  const std::vector<Vote> by_label = in_order(votes, [](const Vote& a, const Vote& b) { return a.label < b.label; });
  Proposals proposals(n_snippets);
  for (std::size_t first = 0; first < by_label.size();) {
    std::size_t last = first;
    std::size_t expected = 0;
    for (; last < by_label.size() && by_label[last].label == by_label[first].label; ++last) {
      expected += regions[by_label[last].snippet].size();
    }
    proposals.restart(expected);
    for (std::size_t i = first; i < last; ++i) {
      for (const Region& region : regions[by_label[i].snippet]) {
        proposals.add(region, by_label[i].probability * static_cast<double>(region.peak));
      }
    }
    visit(std::int64_t{by_label[first].label}, proposals);
    first = last;
  }
}

}  // namespace

std::vector<Detection> decode_paper(const float* class_logits, const float* masks, std::size_t n_classes,
                                    std::size_t n_snippets, const DecodeParameters& parameters) {
  std::vector<Detection> detections;
  const auto suppress = [&](std::int64_t label, const Proposals& proposals) {
    const std::vector<Pick> picks =
        soft_nms(proposals.segments.data(), proposals.scores.data(), proposals.scores.size(), parameters.soft_nms);
    for (const Pick& pick : picks) {
      const auto row = static_cast<std::size_t>(pick.row);
      detections.push_back({label, pick.score, proposals.segments[2 * row], proposals.segments[2 * row + 1]});
    }
  };
  for_each_class(class_logits, masks, n_classes, n_snippets, parameters, suppress);

  detections = in_order(detections, [](const Detection& a, const Detection& b) { return a.score > b.score; });
  const std::int64_t limit = parameters.soft_nms.top_k;
  if (limit != kNoLimit && detections.size() > static_cast<std::size_t>(limit)) {
    detections.resize(static_cast<std::size_t>(limit));
  }
  return detections;
}

std::vector<Detection> paper_proposals(const float* class_logits, const float* masks, std::size_t n_classes,
                                       std::size_t n_snippets, const DecodeParameters& parameters) {
  std::vector<Detection> found;
  const auto keep = [&](std::int64_t label, const Proposals& proposals) {
    for (std::size_t row = 0; row < proposals.scores.size(); ++row) {
      if (proposals.scores[row] < parameters.soft_nms.min_score) continue;
      found.push_back({label, proposals.scores[row], proposals.segments[2 * row], proposals.segments[2 * row + 1]});
    }
  };
  for_each_class(class_logits, masks, n_classes, n_snippets, parameters, keep);
  return found;
}

std::vector<std::int64_t> voting_snippets(const float* class_logits, std::size_t n_classes, std::size_t n_snippets,
                                          double class_threshold, std::int64_t top_snippets) {
  check_votes(class_threshold, top_snippets);
  check_class_logits(class_logits, n_classes, n_snippets);
  std::vector<bool> votes(n_snippets, false);
  for (const Vote& vote : top_votes(class_logits, n_classes, n_snippets, class_threshold, top_snippets)) {
    votes[vote.snippet] = true;
  }
  std::vector<std::int64_t> snippets;
  for (std::size_t t = 0; t < n_snippets; ++t) {
    if (votes[t]) snippets.push_back(static_cast<std::int64_t>(t));
  }
  return snippets;
}

void take_video_label(std::vector<Detection>& detections, std::int64_t video_label, double video_score) {
  for (Detection& detection : detections) {
    if (detection.score <= video_score) detection.label = video_label;
  }
}

}  // namespace stale
