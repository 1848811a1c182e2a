// Detections of networks that predict no segments: runs of snippets above thresholds, class by class.
#include <algorithm>
#include <cmath>
#include <limits>

#include "checks.hpp"
#include "order.hpp"
#include "overlap.hpp"
#include "softmax.hpp"
#include "stale_core.hpp"

namespace stale {
namespace {

constexpr double kNoChange = 1e-9;  // scores with a smaller range are not scaled up: rounding errors would become runs

struct Run {
  std::size_t start;
  std::size_t end;
};

bool goes_before(const Run& a, const Run& b) {
  const std::size_t length = a.end - a.start;
  const std::size_t other = b.end - b.start;
  return length != other ? length > other : a.start < b.start;
}

void check_share(const char* name, double value) {
  if (!(value >= 0.0 && value <= 1.0)) fail({name, " must be in [0, 1]; got ", value});
}

void check_parameters(const RunsParameters& p) {
  if (!(p.class_threshold >= 0.0 && p.class_threshold < 1.0)) {
    fail({"class_threshold must be in [0, 1); got ", p.class_threshold});
  }
  if (!(p.top_share > 0.0 && p.top_share <= 1.0)) fail({"top_share must be in (0, 1]; got ", p.top_share});
  check_aligned(p.thresholds, "thresholds");
  if (p.n_thresholds == 0) fail({"thresholds must hold at least one number"});
  for (std::size_t i = 0; i < p.n_thresholds; ++i) {
    if (!(p.thresholds[i] >= 0.0 && p.thresholds[i] < 1.0)) {
      fail({"thresholds row ", i, " is ", p.thresholds[i], "; it must be in [0, 1)"});
    }
  }
  check_share("smoothing", p.smoothing);
  check_share("surroundings", p.surroundings);
  check_share("video_weight", p.video_weight);
  check_share("length_power", p.length_power);
  if (p.min_snippets < 1) fail({"min_snippets must be >= 1; got ", p.min_snippets});
  check_soft_nms(p.soft_nms);
}

void check_attention(const float* attention, std::size_t n_snippets) {
  if (attention == nullptr) return;
  check_aligned(attention, "attention");
  constexpr float kMost = 1.0F + 8.0F * std::numeric_limits<float>::epsilon();  // as for masks in checks.cpp
  for (std::size_t t = 0; t < n_snippets; ++t) {
    if (!(attention[t] >= 0.0F && attention[t] <= kMost)) {
      fail({"attention row ", t, " is ", attention[t], "; attention must lie in [0, 1] (apply the sigmoid first)"});
    }
  }
}

// Probability of each class in the video: softmax over the mean of the highest logits, each times the attention. Without the
// background, which every untrimmed video has.
std::vector<double> video_probabilities(const Snippets& given, double top_share) {
  const std::size_t T = given.n_snippets;
  const std::size_t n_top = std::max<std::size_t>(1, static_cast<std::size_t>(top_share * static_cast<double>(T)));
  std::vector<double> answers;
  std::vector<double> logits(T);
  for (std::size_t k = 0; k < given.n_classes; ++k) {
    for (std::size_t t = 0; t < T; ++t) {
      logits[t] = static_cast<double>(given.class_logits[k * T + t]);
      if (given.attention != nullptr) logits[t] *= static_cast<double>(given.attention[t]);
    }
    logits = in_order(logits, [](double a, double b) { return a > b; });
    double sum = 0.0;
    for (std::size_t i = 0; i < n_top; ++i) sum += logits[i];
    answers.push_back(sum / static_cast<double>(n_top));
  }
  const double most = *std::max_element(answers.begin(), answers.end());
  double sum = 0.0;
  for (double& answer : answers) {
    answer = std::exp(answer - most);
    sum += answer;
  }
  for (double& answer : answers) answer /= sum;
  return answers;
}

// Cumulative sums: (n + 1,), the first is 0.
std::vector<double> cumulative(const std::vector<double>& values) {
  std::vector<double> sums{0.0};
  sums.reserve(values.size() + 1);
  for (const double value : values) sums.push_back(sums.back() + value);
  return sums;
}

// Average over `width` snippets around each snippet, fewer at the ends of the video.
std::vector<double> moving_average(const std::vector<double>& values, std::size_t width) {
  const std::vector<double> sums = cumulative(values);
  std::vector<double> averages(values.size());
  for (std::size_t t = 0; t < values.size(); ++t) {
    const std::size_t start = t - std::min(t, width / 2);
    const std::size_t end = std::min(t + (width + 1) / 2, values.size());
    averages[t] = (sums[end] - sums[start]) / static_cast<double>(end - start);
  }
  return averages;
}

std::size_t rounded(double number) { return static_cast<std::size_t>(std::nearbyint(number)); }

// Scores that are compared with the thresholds: smoothed and, if asked for, scaled.
std::vector<double> cut_scores(const std::vector<double>& scores, const RunsParameters& p) {
  const std::size_t width = rounded(p.smoothing * static_cast<double>(scores.size()));
  std::vector<double> cut = width > 1 ? moving_average(scores, width) : scores;
  if (!p.scaled) return cut;
  const double low = *std::min_element(cut.begin(), cut.end());
  const double range = *std::max_element(cut.begin(), cut.end()) - low;
  for (double& value : cut) value = range > kNoChange ? (value - low) / range : 0.0;
  return cut;
}

std::vector<Run> runs_above(const std::vector<double>& cut, const RunsParameters& p) {
  std::vector<Run> runs;
  for (std::size_t i = 0; i < p.n_thresholds; ++i) {
    for_each_region(cut.data(), cut.size(), p.thresholds[i], Regions::runs, [&](std::size_t start, std::size_t end) {
      if (static_cast<std::int64_t>(end - start) >= p.min_snippets) runs.push_back({start, end});
    });
  }
  runs = in_order(runs, goes_before);
  const auto same = [](const Run& a, const Run& b) { return a.start == b.start && a.end == b.end; };
  runs.erase(std::unique(runs.begin(), runs.end(), same), runs.end());
  return runs;
}

double mean_of(const std::vector<double>& sums, std::size_t start, std::size_t end) {
  return (sums[end] - sums[start]) / static_cast<double>(end - start);
}

// Mean inside minus mean around, which is 0 if there are no snippets around.
double contrast_of(const std::vector<double>& sums, const Run& run, double surroundings) {
  const std::size_t length = run.end - run.start;
  const std::size_t margin = std::max<std::size_t>(1, rounded(surroundings * static_cast<double>(length)));
  const std::size_t before = run.start - std::min(run.start, margin);
  const std::size_t after = std::min(run.end + margin, sums.size() - 1);
  const double around = (sums[run.start] - sums[before]) + (sums[after] - sums[run.end]);
  const std::size_t n_around = after - before - length;
  return mean_of(sums, run.start, run.end) - (n_around > 0 ? around / static_cast<double>(n_around) : 0.0);
}

// Probability of one of two logits, as a softmax over both.
double against(float logit, float other) {
  const float highest = std::max(logit, other);
  const double own = static_cast<double>(exp_nonpositive(logit - highest));
  return own / (own + static_cast<double>(exp_nonpositive(other - highest)));
}

double unit(double value) { return std::min(std::max(value, 0.0), 1.0); }

}  // namespace

std::vector<Detection> runs_proposals(const Snippets& snippets, const RunsParameters& p) {
  check_parameters(p);
  check_class_logits(snippets.class_logits, snippets.n_classes, snippets.n_snippets);
  check_attention(snippets.attention, snippets.n_snippets);
  const std::size_t T = snippets.n_snippets;
  const std::vector<double> video = video_probabilities(snippets, p.top_share);
  const double best = *std::max_element(video.begin(), video.end());
  const SnippetSoftmax<double> softmax = p.alone ? SnippetSoftmax<double>{}
                                                 : snippet_softmax<double>(snippets.class_logits, snippets.n_classes + 1, T);
  const float* background = snippets.class_logits + snippets.n_classes * T;
  std::vector<Detection> found;
  std::vector<double> scores(T);
  bool best_taken = false;
  for (std::size_t k = 0; k < snippets.n_classes; ++k) {
    const bool only = !(best > p.class_threshold) && video[k] == best && !best_taken;  // the first of equal ones
    if (!(p.class_threshold <= 0.0 || video[k] > p.class_threshold || only)) continue;
    best_taken = best_taken || only;
    for (std::size_t t = 0; t < T; ++t) {
      scores[t] = p.alone ? against(snippets.class_logits[k * T + t], background[t])
                          : static_cast<double>(softmax.weights[k * T + t]) / softmax.sums[t];
      if (snippets.attention != nullptr) scores[t] *= static_cast<double>(snippets.attention[t]);
    }
    const std::vector<double> cut = cut_scores(scores, p);
    const std::vector<double> sums = cumulative(scores);
    const std::vector<double> cut_sums = cumulative(cut);
    for (const Run& run : runs_above(cut, p)) {
      double score = 0.0;
      switch (p.run_score) {
        case RunScore::maximum:
          score = *std::max_element(scores.begin() + static_cast<std::ptrdiff_t>(run.start),
                                    scores.begin() + static_cast<std::ptrdiff_t>(run.end));
          break;
        case RunScore::contrast:
          score = unit(contrast_of(cut_sums, run, p.surroundings) + p.video_weight * video[k]);
          break;
        case RunScore::mean_contrast:
          score = mean_of(sums, run.start, run.end) * unit(contrast_of(cut_sums, run, p.surroundings));
          break;
      }
      if (p.length_power > 0.0) {
        score *= std::exp(p.length_power * std::log(static_cast<double>(run.end - run.start) / static_cast<double>(T)));
      }
      score = unit(score);
      if (score < p.soft_nms.min_score) continue;
      found.push_back({static_cast<std::int64_t>(k), score, static_cast<double>(run.start), static_cast<double>(run.end)});
    }
  }
  return found;
}

std::vector<Detection> decode_runs(const Snippets& snippets, const RunsParameters& parameters) {
  const std::vector<Detection> proposals = runs_proposals(snippets, parameters);
  const LabelledCopy candidates(proposals);
  std::vector<Detection> detections;
  for (const Pick& pick : soft_nms_by_label(candidates.view(), {nullptr, nullptr, nullptr, 0}, parameters.soft_nms)) {
    Detection detection = proposals[static_cast<std::size_t>(pick.row)];
    detection.score = pick.score;
    detections.push_back(detection);
  }
  return detections;
}

}  // namespace stale
