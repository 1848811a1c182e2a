/* The C interface from plain C. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stale_core.h"

#define CHECK(condition)                                                             \
  do {                                                                               \
    if (!(condition)) {                                                              \
      fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);      \
      exit(1);                                                                       \
    }                                                                                \
  } while (0)

static char error[200];

static void soft_nms(void) {
  const double segments[] = {0, 10, 1, 11, 50, 60};
  const double scores[] = {0.9, 0.8, 0.7};
  stale_soft_nms_parameters p = {STALE_SOFT_NMS_HARD, 0.5, 0.5, 0.001, -1};
  int64_t kept[3] = {-1, -1, -1};
  double decayed[3];
  size_t count = 0;
  CHECK(stale_soft_nms(segments, scores, 3, &p, kept, decayed, 3, &count, error, sizeof error) == STALE_OK);
  CHECK(count == 2 && kept[0] == 0 && kept[1] == 2 && decayed[0] == 0.9 && decayed[1] == 0.7);

  kept[0] = -1;
  CHECK(stale_soft_nms(segments, scores, 3, &p, kept, decayed, 1, &count, error, sizeof error) == STALE_BUFFER_TOO_SMALL);
  CHECK(count == 2 && kept[0] == -1 && strstr(error, "too small") != NULL);

  p.method = STALE_SOFT_NMS_GAUSSIAN;
  CHECK(stale_soft_nms(segments, scores, 3, &p, kept, decayed, 3, &count, error, sizeof error) == STALE_OK);
  CHECK(count == 3 && kept[1] == 2 && kept[2] == 1);
  CHECK(fabs(decayed[2] - 0.8 * exp(-(9.0 / 11.0) * (9.0 / 11.0) / 0.5)) < 1e-12);

  p.method = 3;
  CHECK(stale_soft_nms(segments, scores, 3, &p, kept, decayed, 3, &count, error, sizeof error) == STALE_INVALID_ARGUMENT);
  CHECK(strstr(error, "method") != NULL);
  p.method = STALE_SOFT_NMS_LINEAR;
  CHECK(stale_soft_nms(NULL, scores, 3, &p, kept, decayed, 3, &count, error, sizeof error) == STALE_INVALID_ARGUMENT);
  CHECK(strstr(error, "segments") != NULL);
  CHECK(stale_soft_nms(segments, scores, 3, NULL, kept, decayed, 3, &count, NULL, 0) == STALE_INVALID_ARGUMENT);
  CHECK(stale_soft_nms(segments, scores, 3, &p, kept, decayed, 3, NULL, error, sizeof error) == STALE_INVALID_ARGUMENT);
  CHECK(stale_soft_nms(NULL, NULL, 0, &p, NULL, NULL, 0, &count, error, sizeof error) == STALE_OK && count == 0);

  char small[8];
  memset(small, 'x', sizeof small);
  const double reversed[] = {2, 1};
  CHECK(stale_soft_nms(reversed, scores, 1, &p, kept, decayed, 3, &count, small, sizeof small) == STALE_INVALID_ARGUMENT);
  CHECK(strcmp(small, "segment") == 0); /* cut, and ended by a zero byte */
}

static void segments_of_masks(void) {
  const float mask[] = {0.9f, 0.1f, 0.8f};
  int64_t found[4];
  size_t count = 0;
  CHECK(stale_mask_segments(mask, 3, 0.5, STALE_REGIONS_RUNS, 1, found, 2, &count, error, sizeof error) == STALE_OK);
  CHECK(count == 2 && found[0] == 0 && found[1] == 1 && found[2] == 2 && found[3] == 3);
  CHECK(stale_mask_segments(mask, 3, 0.5, STALE_REGIONS_HULL, 1, found, 2, &count, error, sizeof error) == STALE_OK);
  CHECK(count == 1 && found[0] == 0 && found[1] == 3);
  CHECK(stale_mask_segments(mask, 3, 0.5, 9, 1, found, 2, &count, error, sizeof error) == STALE_INVALID_ARGUMENT);

  const double a[] = {0, 2};
  const double b[] = {1, 3};
  double out = 0;
  CHECK(stale_tiou(a, 1, b, 1, &out, error, sizeof error) == STALE_OK && fabs(out - 1.0 / 3.0) < 1e-15);
}

static void decoding(void) {
  const float class_logits[] = {5, 0, 0, 5}; /* K = 1, T = 2: snippet 0 is class 0, snippet 1 background */
  const float masks[] = {0.8f, 0.0f, 0.0f, 0.0f};
  const double thresholds[] = {0.5};
  stale_decode_parameters p = {0.1, 10, thresholds, 1, STALE_REGIONS_RUNS, 1, {STALE_SOFT_NMS_GAUSSIAN, 0.5, 0.5, 0.001, 10}};
  stale_detection found[10];
  size_t count = 0;
  CHECK(stale_decode_paper(class_logits, masks, 1, 2, &p, found, 10, &count, error, sizeof error) == STALE_OK);
  CHECK(count == 1 && found[0].label == 0 && found[0].start == 0.0 && found[0].end == 1.0);
  CHECK(fabs(found[0].score - 0.8 / (1.0 + exp(-5.0))) < 1e-6);
  CHECK(stale_take_video_label(found, count, 4, 0.9, error, sizeof error) == STALE_OK && found[0].label == 4);
  CHECK(stale_take_video_label(found, count, 4, NAN, error, sizeof error) == STALE_INVALID_ARGUMENT);
  CHECK(stale_decode_paper(class_logits, masks, 1, 2, &p, found, 0, &count, error, sizeof error) == STALE_BUFFER_TOO_SMALL);
  p.mask_thresholds = NULL;
  CHECK(stale_decode_paper(class_logits, masks, 1, 2, &p, found, 10, &count, error, sizeof error) == STALE_INVALID_ARGUMENT);
  CHECK(strstr(error, "mask_thresholds") != NULL);
  CHECK(stale_decode_release(class_logits, masks, 1, 2, found, 10, &count, error, sizeof error) == STALE_OK);
  const float bad[] = {5, 0, 0, INFINITY};
  CHECK(stale_decode_release(bad, masks, 1, 2, found, 10, &count, error, sizeof error) == STALE_INVALID_ARGUMENT);
  CHECK(strstr(error, "class_logits row 1, snippet 1") != NULL);
}

static void points_and_runs(void) {
  const float point_logits[] = {-20, -20, -20, 3};
  const float offsets[] = {0, 0, 0, 0, 0, 0, 0.75f, 1.25f};
  const uint8_t valid[] = {1, 1, 1, 1};
  const int64_t levels[] = {2, 2};
  stale_points points = {point_logits, offsets, valid, 4, 1, levels, 2};
  stale_points_parameters p = {0.001, 2000, 0.05, 1, 0.0, {STALE_SOFT_NMS_GAUSSIAN, 0.5, 0.1, 0.001, 10}};
  stale_detection found[10];
  size_t count = 0;
  for (int32_t method = STALE_SOFT_NMS_GAUSSIAN; method <= STALE_SOFT_NMS_NONE; ++method) {
    p.soft_nms.method = method;
    if (method == STALE_SOFT_NMS_LINEAR) continue;
    CHECK(stale_decode_points(&points, &p, found, 10, &count, error, sizeof error) == STALE_OK);
    CHECK(count == 1 && found[0].start == 0.5 && found[0].end == 4.5 && fabs(found[0].score - 1 / (1 + exp(-3.0))) < 1e-12);
  }
  p.soft_nms.method = STALE_SOFT_NMS_LINEAR;
  CHECK(stale_decode_points(&points, &p, found, 10, &count, error, sizeof error) == STALE_INVALID_ARGUMENT);
  CHECK(strstr(error, "'gaussian' or 'hard'") != NULL);
  points.valid = NULL;
  CHECK(stale_decode_points(&points, &p, found, 10, &count, error, sizeof error) == STALE_INVALID_ARGUMENT);
  CHECK(strstr(error, "valid must not be null") != NULL);

  const float class_logits[] = {-9, 9, 9, -9, 9, -9, -9, 9}; /* K = 1, T = 4: snippets 1 and 2 */
  const float attention[] = {1, 0.5f, 0.5f, 1};
  const double thresholds[] = {0.3};
  stale_runs_parameters r = {0.2, 0.125, thresholds, 1, 1, 0, 0, STALE_RUN_MAXIMUM, 0.25, 0, 0, 1,
                             {STALE_SOFT_NMS_GAUSSIAN, 0.5, 0.5, 0.001, 10}};
  CHECK(stale_decode_runs(class_logits, NULL, 1, 4, &r, found, 10, &count, error, sizeof error) == STALE_OK);
  CHECK(count == 1 && found[0].start == 1.0 && found[0].end == 3.0 && fabs(found[0].score - 1.0) < 1e-6);
  CHECK(stale_decode_runs(class_logits, attention, 1, 4, &r, found, 10, &count, error, sizeof error) == STALE_OK);
  CHECK(count == 1 && fabs(found[0].score - 0.5) < 1e-6);
  CHECK(stale_decode_runs(class_logits, NULL, 1, 4, &r, found, 0, &count, error, sizeof error) == STALE_BUFFER_TOO_SMALL);
  r.run_score = 3;
  CHECK(stale_decode_runs(class_logits, NULL, 1, 4, &r, found, 10, &count, error, sizeof error) == STALE_INVALID_ARGUMENT);
  CHECK(strstr(error, "run_score must be 0") != NULL);
}

static void misaligned(void) {
  const double segments[] = {0, 10};
  const double scores[] = {0.5};
  stale_soft_nms_parameters p = {STALE_SOFT_NMS_HARD, 0.5, 0.5, 0.001, -1};
  char room[32];
  int64_t kept[1];
  double decayed[1];
  size_t count = 0;
  int64_t *bad = (int64_t *)(void *)(room + (8 - (uintptr_t)room % 8) + 1);
  CHECK(stale_soft_nms(segments, scores, 1, &p, bad, decayed, 1, &count, error, sizeof error) == STALE_INVALID_ARGUMENT);
  CHECK(strstr(error, "kept is misaligned; its address must be a multiple of 8") != NULL);
  CHECK(stale_soft_nms((const double *)(const void *)bad, scores, 1, &p, kept, decayed, 1, &count, error, sizeof error) ==
        STALE_INVALID_ARGUMENT);
  CHECK(strstr(error, "segments is misaligned") != NULL);
}

int main(void) {
  CHECK(stale_core_abi_version() == STALE_CORE_ABI_VERSION);
  soft_nms();
  segments_of_masks();
  decoding();
  points_and_runs();
  misaligned();
  return 0;
}
