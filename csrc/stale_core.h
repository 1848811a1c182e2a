/* C interface of the decoding core of stale-edge, for every language that can call C.
 *
 * Inputs are borrowed and only read; results go into buffers of the caller. There is no global state: every function may be
 * called from any number of threads at once. Arrays are row-major and contiguous, times of segments in any unit.
 *
 * Every function returns a status. When it is not STALE_OK and `error` is given, a message that names the bad row is written
 * there, cut to `error_size` bytes and always ended by a zero byte.
 *
 * Functions with results of unknown size take a buffer with its `capacity` and write the number of results to `count`. When the
 * buffer is too small, nothing but `count` is written and STALE_BUFFER_TOO_SMALL is returned; the counts below always suffice.
 *
 * No setting has a default here: take them from the bundle's manifest.json, "decode".
 */
#ifndef STALE_CORE_H
#define STALE_CORE_H

#include <stddef.h>
#include <stdint.h>

/* Raised when a struct or a function changes in a way that old callers would not survive. */
#define STALE_CORE_ABI_VERSION 1

#if defined(_WIN32) && !defined(STALE_CORE_STATIC)
#if defined(STALE_CORE_BUILD)
#define STALE_API __declspec(dllexport)
#else
#define STALE_API __declspec(dllimport)
#endif
#elif defined(__GNUC__)
#define STALE_API __attribute__((visibility("default")))
#else
#define STALE_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum stale_status {
  STALE_OK = 0,
  STALE_INVALID_ARGUMENT = 1, /* the message says which row or parameter, and what is allowed */
  STALE_BUFFER_TOO_SMALL = 2, /* `count` says how much room is needed */
  STALE_OUT_OF_MEMORY = 3,
  STALE_INTERNAL_ERROR = 4
} stale_status;

enum { STALE_SOFT_NMS_GAUSSIAN = 0, STALE_SOFT_NMS_LINEAR = 1, STALE_SOFT_NMS_HARD = 2 };
enum { STALE_REGIONS_RUNS = 0, STALE_REGIONS_HULL = 1 };

typedef struct stale_soft_nms_parameters {
  int32_t method;        /* STALE_SOFT_NMS_... */
  double sigma;          /* > 0, in tIoU; read by gaussian */
  double tiou_threshold; /* in [0, 1]; read by linear and hard */
  double min_score;      /* >= 0; rows whose decayed score is below are dropped */
  int64_t top_k;         /* at most this many picks, >= 0; -1: no limit */
} stale_soft_nms_parameters;

typedef struct stale_decode_parameters {
  double class_threshold;             /* in [0, 1) */
  int64_t top_snippets;               /* >= 1 */
  const double *mask_thresholds;      /* each in [0, 1) */
  size_t n_mask_thresholds;           /* >= 1 */
  int32_t regions;                    /* STALE_REGIONS_... */
  int64_t min_snippets;               /* >= 1 */
  stale_soft_nms_parameters soft_nms; /* top_k: detections of the video */
} stale_decode_parameters;

typedef struct stale_detection {
  int64_t label; /* row of class_logits */
  double score;
  double start; /* [start, end) in snippets: divide by T, multiply by the duration */
  double end;
} stale_detection;

/* STALE_CORE_ABI_VERSION of the library that was loaded: compare it with the one of this header. */
STALE_API int32_t stale_core_abi_version(void);

/* tIoU of segments (n, 2) with others (m, 2), into out (n, m). */
STALE_API stale_status stale_tiou(const double *segments, size_t n, const double *others, size_t m, double *out, char *error,
                                  size_t error_size);

/* Soft-NMS of segments (n, 2) with scores (n,): the kept rows and their decayed scores, best first. At most n results. */
STALE_API stale_status stale_soft_nms(const double *segments, const double *scores, size_t n,
                                      const stale_soft_nms_parameters *parameters, int64_t *kept, double *decayed,
                                      size_t capacity, size_t *count, char *error, size_t error_size);

/* Segments of mask (length,) above the threshold, [start, end) in snippets, into segments (count, 2).
 * At most (length + 1) / 2 results. */
STALE_API stale_status stale_mask_segments(const float *mask, size_t length, double threshold, int32_t regions,
                                           int64_t min_snippets, int64_t *segments, size_t capacity, size_t *count, char *error,
                                           size_t error_size);

/* Section 3.3 of the STALE paper: class_logits (n_classes + 1, n_snippets), background last, and masks (n_snippets, n_snippets)
 * to detections, best first. At most soft_nms.top_k results. */
STALE_API stale_status stale_decode_paper(const float *class_logits, const float *masks, size_t n_classes, size_t n_snippets,
                                          const stale_decode_parameters *parameters, stale_detection *detections,
                                          size_t capacity, size_t *count, char *error, size_t error_size);

/* The public inference script with its own settings. At most 100 results. */
STALE_API stale_status stale_decode_release(const float *class_logits, const float *masks, size_t n_classes, size_t n_snippets,
                                            stale_detection *detections, size_t capacity, size_t *count, char *error,
                                            size_t error_size);

/* Score enhancement: detections that score no more than video_score take video_label. */
STALE_API stale_status stale_take_video_label(stale_detection *detections, size_t count, int64_t video_label,
                                              double video_score, char *error, size_t error_size);

#ifdef __cplusplus
}
#endif

#endif /* STALE_CORE_H */
