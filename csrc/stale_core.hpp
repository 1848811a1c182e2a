// The decoding core of stale-edge: tIoU, soft-NMS, masks to segments, and the two inference policies.
//
// Plain C++17. Inputs are borrowed pointers with sizes and are only read; results are returned by value. There is no
// global state, so every function may be called from any number of threads at once. Bad input throws
// std::invalid_argument, which names the row. No setting has a default: the caller gives all of them (from
// stale_edge/config, or a bundle's manifest).
//
// Limits. Arrays are aligned to their type; others are refused. They must not change during a call: if another thread rewrites
// them, the results mean nothing, but nothing beyond the arrays is read or written. Segments are at most a quarter of the largest
// double long; longer ones are refused. Logits and times are finite, scores finite and >= 0. A sigma below 1e-290 acts as 1e-290.
//
// Ties. Of rows with equal scores the lower label comes first, then the lower row. Proposals are written to rows in this order:
// of the paper, by the pair that proposed them first (higher probability, then earlier snippet, then lower class), then the
// earlier end, then the later start; of points, by level, point and class; runs, the longer first, then the earlier; of the
// release, by release_order. The NumPy twins (tests/) and the exported graphs use the same order.
//
// Words and axes: K classes, T snippets, N candidates; a segment is [start, end) in any unit of time. Arrays are
// row-major and contiguous: class_logits (K+1, T) with the background last, masks (T, T) with row i predicted by snippet i.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace stale {

// How a picked segment lowers the scores of the segments that it overlaps; Bodla et al., arXiv:1704.04503.
enum class SoftNmsMethod {
  gaussian,  // s *= exp(-tiou^2 / sigma)
  linear,    // s *= 1 - tiou  where tiou >= tiou_threshold
  hard,      // s = 0          where tiou >= tiou_threshold: classical NMS
};

// How a thresholded mask becomes segments.
enum class Regions {
  runs,  // every connected run above the threshold
  hull,  // one segment from the first to the last snippet above the threshold, holes filled
};

constexpr std::int64_t kNoLimit = -1;
constexpr double kPointsLengthMargin = 1e-6;  // ActionFormer's length_margin

struct SoftNmsParameters {
  SoftNmsMethod method;
  double sigma;           // > 0, in tIoU; read by gaussian; a value below 1e-290 acts as 1e-290
  double tiou_threshold;  // in [0, 1]; read by linear and hard
  double min_score;       // >= 0; rows with a lower decayed score are dropped
  std::int64_t top_k;     // at most this many picks, >= 0, or kNoLimit
  double length_margin;   // added to both lengths in the union of a tIoU, >= 0; ActionFormer's is 1e-6, elsewhere 0
};

// Section 3.3 of the STALE paper, "Model inference".
struct DecodeParameters {
  double class_threshold;         // theta_c, in [0, 1): a (snippet, class) pair counts only above it
  std::int64_t top_snippets;      // this many (snippet, class) pairs propose segments, >= 1
  const double* mask_thresholds;  // Theta, each in [0, 1); compared with masks in float32
  std::size_t n_mask_thresholds;  // >= 1
  Regions regions;
  std::int64_t min_snippets;    // shorter segments are dropped, >= 1
  SoftNmsParameters soft_nms;   // applied per class; its top_k is the number of detections of the video
};

// One row that soft-NMS kept: its place in the input and its decayed score.
struct Pick {
  std::int64_t row;
  double score;
};

// [start, end) in snippets.
struct SnippetSegment {
  std::int64_t start;
  std::int64_t end;
};

// Segment in snippets, [start, end); divide by T and multiply by the duration for seconds. `label` is a class row.
struct Detection {
  std::int64_t label;
  double score;
  double start;
  double end;
};

// A proposal of the public inference script, before its soft-NMS. Its end is the *last* snippet, not one past it.
struct ReleaseProposal {
  std::int64_t start;
  std::int64_t end;
  double class_score;  // column "clr_score" of the script
  double mask_score;   // column "reg_score" of the script
  std::int64_t label;
};

// Intersection over union of every segment with every other; 0 where the union is empty.
// segments (n, 2), others (m, 2), out (n, m).
void tiou(const double* segments, std::size_t n, const double* others, std::size_t m, double* out);

// Soft-NMS of segments (n, 2) with scores (n,): the kept rows, best first. Scores must be >= 0. Of equal scores the lower
// row is picked first.
std::vector<Pick> soft_nms(const double* segments, const double* scores, std::size_t n, const SoftNmsParameters& parameters);

// Segments (n, 2) with a label and a score each, (n,); borrowed.
struct Labelled {
  const double* segments;
  const std::int64_t* labels;
  const double* scores;
  std::size_t n;
};

// Soft-NMS of every label by itself: rows of `candidates`, best first; of equal scores the lower label. top_k limits all labels
// together. `settled` are picks of an earlier call: their scores are final and not decayed again, but each decays candidates of
// its label when its turn comes, before a candidate of equal score.
std::vector<Pick> soft_nms_by_label(const Labelled& candidates, const Labelled& settled, const SoftNmsParameters& parameters);

// Where two windows meet. They share [zone_start, zone_end); left of `seam` the earlier window is preferred. Segments that end
// by `final_until` are already final in the earlier window. Times may be infinite, but not NaN.
struct Seam {
  double zone_start;
  double zone_end;
  double seam;
  double final_until;
  double same_action;  // two segments of a label are one from this tIoU inside the zone, > 0
};

// Joins what two windows found (rules: stale_edge/runtime/seams.py). Returns first the results from `later`, then the
// remaining rows of `earlier`, both in the order given. Matching is one to one, best scores first.
std::vector<Detection> join_at_seam(const Labelled& earlier, const Labelled& later, const Seam& seam);

// Segments in which a mask (length,) is above the threshold (compared in float32), in time order.
std::vector<SnippetSegment> mask_segments(const float* mask, std::size_t length, double threshold, Regions regions,
                                          std::int64_t min_snippets);

// Section 3.3 of the paper: class_logits (n_classes + 1, n_snippets) and masks (n_snippets, n_snippets) in [0, 1] to
// detections, best first.
std::vector<Detection> decode_paper(const float* class_logits, const float* masks, std::size_t n_classes,
                                    std::size_t n_snippets, const DecodeParameters& parameters);

// The proposals that decode_paper gives to soft-NMS, only the best of those with equal segment and label: by label, then in the
// order in which soft-NMS picks ties. Those that score less than soft_nms.min_score are left out; no other field of soft_nms is
// read.
std::vector<Detection> paper_proposals(const float* class_logits, const float* masks, std::size_t n_classes,
                                       std::size_t n_snippets, const DecodeParameters& parameters);

// The snippets whose masks decode_paper reads, ascending: those of the best `top_snippets` (snippet, class) pairs above
// `class_threshold`. The other rows of `masks` can stay 0.
std::vector<std::int64_t> voting_snippets(const float* class_logits, std::size_t n_classes, std::size_t n_snippets,
                                          double class_threshold, std::int64_t top_snippets);

// Rows of `masks`, computed from two outputs of the paper's localizer (equation 8): the weights of a tiny network for every
// snippet, and the features that all these networks read.
//
// features (width + 2, n_snippets): `width` channels, then the position of each snippet, then ones. networks (n_snippets,
// mask_network_size(width)), one a row, with n = width + 1; the last of n channels is always 1, so that biases are weights:
//   w1 (n, width), slope (n,), b1 (n,), w2 (n, n), w3 (n,)
//   hidden = relu(w2 relu(w1 features + slope (position - own position) + b1)),  mask = sigmoid(w3 hidden)
// rows (n_rows,) in [0, n_snippets); out (n_rows, n_snippets).
std::size_t mask_network_size(std::size_t width);
void mask_rows(const float* networks, const float* features, std::size_t width, std::size_t n_snippets,
               const std::int64_t* rows, std::size_t n_rows, float* out);

// Output of a point detector for one video, the points of all levels joined from fine to coarse; borrowed. The i-th point of
// level l lies at time i * 2^l. Invalid points are not read.
struct Points {
  const float* class_logits;  // (n_points, n_classes)
  const float* offsets;       // (n_points, 2), distances to start and end in units of 2^l, >= 0
  const std::uint8_t* valid;  // (n_points,), 0 or 1
  std::size_t n_points;
  std::size_t n_classes;
  const std::int64_t* level_lengths;  // (n_levels,), points of each level, >= 1
  std::size_t n_levels;               // 1 to 32
};

// Inference of ActionFormer (happyharrycn/actionformer_release at commit 61ea7eb), test_cfg. The units of time are points of level 0.
struct PointsParameters {
  double pre_nms_threshold;    // in [0, 1): (point, class) pairs propose a segment only above it
  std::int64_t pre_nms_top_k;  // proposals of each level, >= 1
  double duration_threshold;   // >= 0; only longer segments are kept
  bool multiclass;             // true: suppression class by class; false: all together, then voting
  bool suppress;               // false: every proposal is a detection, and the fields below are not read
  double voting_threshold;     // in [0, 1]; 0: no voting
  SoftNmsParameters soft_nms;  // gaussian or hard; its top_k is the number of detections of the video
};

// One proposal for each (point, class) pair: by level, best first; of equal scores the lower point, then the lower class.
std::vector<Detection> points_proposals(const Points& points, const PointsParameters& parameters);

// Detections of such proposals, best first; of equal scores the lower label, then the earlier row. As in ActionFormer, the
// best one of a gaussian suppression is kept whatever its score, and `hard` keeps only scores above min_score.
std::vector<Detection> suppress_points(const Labelled& proposals, const PointsParameters& parameters);

// points_proposals, then suppress_points.
std::vector<Detection> decode_points(const Points& points, const PointsParameters& parameters);

// Output of a detector without segments for one video; borrowed.
struct Snippets {
  const float* class_logits;  // (n_classes + 1, n_snippets), background last
  const float* attention;     // (n_snippets,) in [0, 1], or null: 1 everywhere
  std::size_t n_classes;
  std::size_t n_snippets;
};

// How a run is scored. s is attention times class probability; z, which is thresholded, is s smoothed and scaled.
enum class RunScore {
  maximum,        // the highest s inside
  contrast,       // mean z inside - mean z around + video_weight * the class's probability in the video, kept in [0, 1]
  mean_contrast,  // mean s inside times the first two terms, kept in [0, 1]
};

// Runs of snippets above thresholds (stale_edge/config/runs.py).
struct RunsParameters {
  double class_threshold;    // in [0, 1): classes with a higher probability in the video are used, else the best one; 0: all
  double top_share;          // in (0, 1]: a class's logit in the video is the mean of this share of its highest logits
  const double* thresholds;  // each in [0, 1)
  std::size_t n_thresholds;  // >= 1
  bool alone;                // each class is compared with the background alone (sigmoid), not with all rows (softmax)
  bool scaled;               // scores of a class are scaled to [0, 1] over the video before thresholding
  double smoothing;          // in [0, 1]: width of a moving average before scaling, as a share of the video
  RunScore run_score;
  double surroundings;         // in [0, 1]: `around` is this share of the run's length on each side, at least one snippet
  double video_weight;         // in [0, 1]
  double length_power;         // in [0, 1]: scores are multiplied by this power of the run's share of the video
  std::int64_t min_snippets;   // shorter runs are dropped, >= 1
  SoftNmsParameters soft_nms;  // applied per class; its top_k is the number of detections of the video
};

// Runs of each class that is used, without duplicates, by rising label, then the longest first, then the earlier: soft-NMS
// picks ties in this order. Runs that score less than soft_nms.min_score are left out.
std::vector<Detection> runs_proposals(const Snippets& snippets, const RunsParameters& parameters);

// Soft-NMS of these runs, class by class, best first; of equal scores the lower label.
std::vector<Detection> decode_runs(const Snippets& snippets, const RunsParameters& parameters);

// The public inference script (sauradip/STALE at commit fd7a7e8) with the settings of its config/anet.yaml, quirks included.
std::vector<ReleaseProposal> release_proposals(const float* class_logits, const float* masks, std::size_t n_classes,
                                               std::size_t n_snippets);
std::vector<Detection> decode_release(const float* class_logits, const float* masks, std::size_t n_classes,
                                      std::size_t n_snippets);

// Sort key of release proposals with equal scores: lower first, then the earlier start, then the earlier end. It is a hash of
// the row, so that no kind of segment is favoured: in the script the order is random.
std::int64_t release_order(std::int64_t start, std::int64_t end, std::int64_t label);

// Score enhancement: a detection whose score is at most the video-level score gets the video-level label
// (thesis, section 3.3; utils/postprocess_utils.py:138-142 of the public code).
void take_video_label(std::vector<Detection>& detections, std::int64_t video_label, double video_score);

}  // namespace stale
