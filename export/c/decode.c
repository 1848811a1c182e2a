#include "decode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int32_t choice(const cJSON *settings, const char *name, const char *const names[]) {
  const char *got = string_of(settings, name);
  for (int32_t i = 0; names[i] != NULL; ++i) {
    if (strcmp(got, names[i]) == 0) return i;
  }
  die("decode.%s is '%.80s', which this program does not know", name, got);
}

static void need(stale_status status, const char *error) {
  if (status != STALE_OK) die("decoding: %s", error);
}

static stale_soft_nms_parameters soft_nms_of(const cJSON *settings) {
  static const char *const methods[] = {"gaussian", "linear", "hard", "none", NULL}; /* in the order of stale_core.h */
  stale_soft_nms_parameters p = {0};
  p.method = choice(settings, "soft_nms", methods);
  p.sigma = number_of(settings, "sigma");
  p.tiou_threshold = number_of(settings, "tiou_threshold");
  p.min_score = number_of(settings, "min_score");
  p.top_k = (int64_t)integer_of(settings, "max_detections", 1, MOST_DETECTIONS);
  return p;
}

/* A list of numbers into `thresholds`, which has room for MOST_THRESHOLDS; their number. */
static size_t thresholds_of(const cJSON *settings, const char *name, double *thresholds) {
  const cJSON *list = member(settings, name), *item = NULL;
  size_t count = 0;
  if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) > MOST_THRESHOLDS) {
    die("decode.%s must be a list of at most %d numbers", name, MOST_THRESHOLDS);
  }
  cJSON_ArrayForEach(item, list) {
    if (!cJSON_IsNumber(item)) die("decode.%s must be a list of numbers", name);
    thresholds[count++] = item->valuedouble;
  }
  return count;
}

static found decode_paper(const cJSON *settings, const outputs *given) {
  static const char *const regions[] = {"runs", "hull", NULL}; /* in the order of stale_core.h */
  double thresholds[MOST_THRESHOLDS];
  stale_decode_parameters p = {0};
  p.n_mask_thresholds = thresholds_of(settings, "mask_thresholds", thresholds);
  p.class_threshold = number_of(settings, "class_threshold");
  p.top_snippets = (int64_t)integer_of(settings, "top_snippets", 1, MOST_COUNT);
  p.mask_thresholds = thresholds;
  p.regions = choice(settings, "regions", regions);
  p.min_snippets = (int64_t)integer_of(settings, "min_snippets", 1, MOST_COUNT);
  p.soft_nms = soft_nms_of(settings);
  const size_t capacity = (size_t)p.soft_nms.top_k;

  char error[256] = "";
  found result = {0, checked_alloc(capacity, sizeof(stale_detection)), given->n_snippets};
  need(stale_decode_paper(given->values[0], given->values[1], given->n_classes, given->n_snippets, &p, result.detections,
                          capacity, &result.count, error, sizeof error),
       error);
  return result;
}

static found decode_release(const cJSON *settings, const outputs *given) {
  enum { CAPACITY = 100 }; /* what stale_decode_release gives at most */
  (void)settings;          /* it has none */
  char error[256] = "";
  found result = {0, checked_alloc(CAPACITY, sizeof(stale_detection)), given->n_snippets};
  need(stale_decode_release(given->values[0], given->values[1], given->n_classes, given->n_snippets, result.detections, CAPACITY,
                            &result.count, error, sizeof error),
       error);
  return result;
}

/* The points of all levels of a video of T snippets: level l has ceil(T / 2^l). */
static size_t split_levels(size_t n_snippets, size_t n_levels, int64_t *lengths) {
  size_t total = 0;
  for (size_t level = 0; level < n_levels; ++level) {
    const size_t step = (size_t)1 << level, length = (n_snippets + step - 1) / step;
    lengths[level] = (int64_t)length;
    total += length;
  }
  return total;
}

static found decode_points(const cJSON *settings, const outputs *given) {
  const size_t n_levels = integer_of(settings, "n_levels", 1, MOST_LEVELS), P = given->n_points;
  const cJSON *multiclass = member(settings, "multiclass");
  int64_t lengths[MOST_LEVELS];
  size_t low = 1, high = P;
  while (low < high) { /* more snippets never have fewer points */
    const size_t middle = low + (high - low) / 2;
    if (split_levels(middle, n_levels, lengths) >= P) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  if (split_levels(low, n_levels, lengths) != P) die("no video has %zu points on %zu levels", P, n_levels);
  if (!cJSON_IsBool(multiclass)) die("manifest.json: multiclass must be true or false");

  uint8_t *valid = checked_alloc(P, 1);
  size_t n_valid = 0;
  for (size_t i = 0; i < P; ++i) {
    valid[i] = given->values[2][i] > 0.5F;
    if (i < (size_t)lengths[0]) n_valid += valid[i];
  }
  stale_points_parameters p = {0};
  p.pre_nms_threshold = number_of(settings, "pre_nms_threshold");
  p.pre_nms_top_k = (int64_t)integer_of(settings, "pre_nms_top_k", 1, MOST_DETECTIONS);
  p.duration_threshold = number_of(settings, "duration_threshold");
  p.multiclass = cJSON_IsTrue(multiclass);
  p.voting_threshold = number_of(settings, "voting_threshold");
  p.soft_nms = soft_nms_of(settings);
  const int all = p.soft_nms.method == STALE_SOFT_NMS_NONE;
  const size_t capacity = all ? n_levels * (size_t)p.pre_nms_top_k : (size_t)p.soft_nms.top_k;
  const stale_points points = {given->values[0], given->values[1], valid, P, given->n_classes, lengths, n_levels};

  char error[256] = "";
  found result = {0, checked_alloc(capacity, sizeof(stale_detection)), n_valid > 0 ? n_valid : 1};
  need(stale_decode_points(&points, &p, result.detections, capacity, &result.count, error, sizeof error), error);
  free(valid);
  return result;
}

static found decode_runs(const cJSON *settings, const outputs *given) {
  static const char *const scales[] = {"none", "video", NULL}, /* both in the order of stale_core.h */
      *const scores[] = {"maximum", "contrast", "mean-contrast", NULL}, *const compared[] = {"softmax", "sigmoid", NULL};
  double thresholds[MOST_THRESHOLDS];
  stale_runs_parameters p = {0};
  p.class_threshold = number_of(settings, "class_threshold");
  p.top_share = number_of(settings, "top_share");
  p.n_thresholds = thresholds_of(settings, "thresholds", thresholds);
  p.thresholds = thresholds;
  p.scaled = choice(settings, "threshold_scale", scales);
  /* Older bundles do not say: softmax. */
  p.alone = cJSON_GetObjectItemCaseSensitive(settings, "class_scores") != NULL ? choice(settings, "class_scores", compared) : 0;
  p.smoothing = number_of(settings, "smoothing");
  p.run_score = choice(settings, "run_score", scores);
  p.surroundings = number_of(settings, "surroundings");
  p.video_weight = number_of(settings, "video_weight");
  p.length_power = number_of(settings, "length_power");
  p.min_snippets = (int64_t)integer_of(settings, "min_snippets", 1, MOST_COUNT);
  p.soft_nms = soft_nms_of(settings);
  const size_t capacity = (size_t)p.soft_nms.top_k;

  char error[256] = "";
  found result = {0, checked_alloc(capacity, sizeof(stale_detection)), given->n_snippets};
  need(stale_decode_runs(given->values[0], given->values[1], given->n_classes, given->n_snippets, &p, result.detections,
                         capacity, &result.count, error, sizeof error),
       error);
  return result;
}

#define CLASS_LOGITS                                                      \
  {                                                                       \
    "class_logits", { AXIS_B, AXIS_K_AND_BACKGROUND, AXIS_T, END }        \
  }
#define MASKS                                \
  {                                          \
    "masks", { AXIS_B, AXIS_T, AXIS_T, END } \
  }

#define POINTS                                                    \
  {                                                               \
    {"class_logits", {AXIS_B, AXIS_P, AXIS_K, END}},              \
        {"offsets", {AXIS_B, AXIS_P, AXIS_START_AND_END, END}}, { \
      "valid", { AXIS_B, AXIS_P, END }                            \
    }                                                             \
  }

#define ATTENTION                      \
  {                                    \
    "attention", { AXIS_B, AXIS_T, END } \
  }

/* Of a name that stands twice, the first is taken whose outputs the detector has. */
static const policy policies[] = {
    {"paper", {CLASS_LOGITS, MASKS}, 2, decode_paper},
    {"release", {CLASS_LOGITS, MASKS}, 2, decode_release},
    {"points", POINTS, 3, decode_points},
    {"runs", {CLASS_LOGITS, ATTENTION}, 2, decode_runs},
    {"runs", {CLASS_LOGITS}, 1, decode_runs},
};

static int lists(const cJSON *detector, const char *output) {
  const cJSON *list = member(detector, "outputs"), *item = NULL;
  cJSON_ArrayForEach(item, list) {
    if (cJSON_IsObject(item) && strcmp(string_of(item, "name"), output) == 0) return 1;
  }
  return 0;
}

const policy *find_policy(const cJSON *manifest, const cJSON *detector) {
  const char *name = string_of(member(manifest, "decode"), "policy"), *missing = NULL;
  char known[200] = "";
  for (size_t i = 0; i < sizeof policies / sizeof *policies; ++i) {
    const policy *p = &policies[i];
    if (i == 0 || strcmp(p->name, policies[i - 1].name) != 0) {
      snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i == 0 ? "" : ", ", p->name);
    }
    if (strcmp(p->name, name) != 0) continue;
    missing = NULL;
    for (size_t k = 0; k < p->n_reads && missing == NULL; ++k) {
      if (!lists(detector, p->reads[k].name)) missing = p->reads[k].name;
    }
    if (missing == NULL) return p;
  }
  if (missing != NULL) die("policy '%s' reads %s, which is no output of %.80s", name, missing, string_of(detector, "path"));
  die("decode.policy is '%.80s'; this program decodes %s", name, known);
}

time_grid find_grid(const cJSON *contract, double duration_s) {
  const cJSON *num_frames = cJSON_GetObjectItemCaseSensitive(contract, "num_frames"); /* format 1 has none */
  time_grid grid = {0, 0.0, 0.0, 0.0, duration_s};
  const int known = cJSON_IsNumber(num_frames) && !cJSON_IsNull(member(contract, "fps")) && !cJSON_IsNull(member(contract, "stride"));
  if (!known || strcmp(string_of(contract, "resampling"), "none") != 0) return grid;
  grid.by_frames = 1;
  grid.stride = (double)integer_of(contract, "stride", 1, MOST_COUNT);
  grid.num_frames = (double)integer_of(contract, "num_frames", 1, MOST_COUNT);
  grid.fps = number_of(contract, "fps");
  if (!(grid.fps > 0.0)) die("manifest.json: fps must be a number > 0");
  return grid;
}

double seconds_of(time_grid grid, double snippet, size_t n_snippets) {
  const double seconds = grid.by_frames ? (snippet * grid.stride + 0.5 * grid.num_frames) / grid.fps
                                        : snippet / (double)n_snippets * grid.duration_s;
  return seconds > grid.duration_s ? grid.duration_s : seconds > 0.0 ? seconds : 0.0;
}
