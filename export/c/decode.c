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

static found decode_paper(const cJSON *settings, const outputs *given) {
  static const char *const regions[] = {"runs", "hull", NULL}, /* in the order of stale_core.h */
      *const methods[] = {"gaussian", "linear", "hard", NULL};
  const cJSON *list = member(settings, "mask_thresholds"), *item = NULL;
  const size_t capacity = integer_of(settings, "max_detections", 1, MOST_DETECTIONS);
  if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) > MOST_THRESHOLDS) {
    die("decode.mask_thresholds must be a list of at most %d numbers", MOST_THRESHOLDS);
  }
  double thresholds[MOST_THRESHOLDS];
  stale_decode_parameters p = {0};
  cJSON_ArrayForEach(item, list) {
    if (!cJSON_IsNumber(item)) die("decode.mask_thresholds must be a list of numbers");
    thresholds[p.n_mask_thresholds++] = item->valuedouble;
  }
  p.class_threshold = number_of(settings, "class_threshold");
  p.top_snippets = (int64_t)integer_of(settings, "top_snippets", 1, MOST_COUNT);
  p.mask_thresholds = thresholds;
  p.regions = choice(settings, "regions", regions);
  p.min_snippets = (int64_t)integer_of(settings, "min_snippets", 1, MOST_COUNT);
  p.soft_nms.method = choice(settings, "soft_nms", methods);
  p.soft_nms.sigma = number_of(settings, "sigma");
  p.soft_nms.tiou_threshold = number_of(settings, "tiou_threshold");
  p.soft_nms.min_score = number_of(settings, "min_score");
  p.soft_nms.top_k = (int64_t)capacity;

  char error[256] = "";
  found result = {0, checked_alloc(capacity, sizeof(stale_detection))};
  need(stale_decode_paper(given->values[0], given->values[1], given->n_classes, given->n_snippets, &p, result.detections,
                          capacity, &result.count, error, sizeof error),
       error);
  return result;
}

static found decode_release(const cJSON *settings, const outputs *given) {
  enum { CAPACITY = 100 }; /* what stale_decode_release gives at most */
  (void)settings;          /* it has none */
  char error[256] = "";
  found result = {0, checked_alloc(CAPACITY, sizeof(stale_detection))};
  need(stale_decode_release(given->values[0], given->values[1], given->n_classes, given->n_snippets, result.detections, CAPACITY,
                            &result.count, error, sizeof error),
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

static const policy policies[] = {
    {"paper", {CLASS_LOGITS, MASKS}, 2, decode_paper},
    {"release", {CLASS_LOGITS, MASKS}, 2, decode_release},
};

static int lists(const cJSON *detector, const char *output) {
  const cJSON *list = member(detector, "outputs"), *item = NULL;
  cJSON_ArrayForEach(item, list) {
    if (cJSON_IsObject(item) && strcmp(string_of(item, "name"), output) == 0) return 1;
  }
  return 0;
}

const policy *find_policy(const cJSON *manifest, const cJSON *detector) {
  const char *name = string_of(member(manifest, "decode"), "policy");
  char known[200] = "";
  for (size_t i = 0; i < sizeof policies / sizeof *policies; ++i) {
    const policy *p = &policies[i];
    snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i == 0 ? "" : ", ", p->name);
    if (strcmp(p->name, name) != 0) continue;
    for (size_t k = 0; k < p->n_reads; ++k) {
      if (!lists(detector, p->reads[k].name)) {
        die("policy '%s' reads %s, which is no output of %.80s", name, p->reads[k].name, string_of(detector, "path"));
      }
    }
    return p;
  }
  die("decode.policy is '%.80s'; this program decodes %s", name, known);
}
