/* C interface of the decoding core of stale-edge, for every language that can call C.
 *
 * Inputs are borrowed and only read; results go into buffers of the caller. There is no global state: every function may be
 * called from any number of threads at once. Arrays are row-major and contiguous, times of segments in any unit.
 *
 * Every function returns a status. If it is not STALE_OK and `error` is not null, a message that names the bad row is
 * written there, cut to `error_size` bytes and always ended by a zero byte.
 *
 * Functions with results of unknown size take a buffer with its `capacity` and write the number of results to `count`. When the
 * buffer is too small, only `count` is written and STALE_BUFFER_TOO_SMALL is returned; the maxima given below always suffice.
 *
 * Arrays and buffers are aligned to their type; others are refused. They must not change during a call: if another thread
 * rewrites them, the results mean nothing, but nothing beyond them is read or written. Segments are at most a quarter of the
 * largest double long. Of rows with equal scores the lower label comes first, then the lower row.
 *
 * No setting has a default here: take them from the bundle's manifest.json, "decode".
 */
#ifndef STALE_CORE_H
#define STALE_CORE_H

#include <stddef.h>
#include <stdint.h>

/* Increased when a struct or a function changes in a way that breaks old callers. */
#define STALE_CORE_ABI_VERSION 2

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
  double sigma;          /* > 0, in tIoU; read by gaussian; a value below 1e-290 acts as 1e-290 */
  double tiou_threshold; /* in [0, 1]; read by linear and hard */
  double min_score;      /* >= 0; rows with a lower decayed score are dropped */
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

/* Only for points: every proposal is a detection, and the other fields of soft_nms are not read. */
enum { STALE_SOFT_NMS_NONE = 3 };

/* Output of a point detector for one video, the points of all levels joined from fine to coarse: the i-th of level l lies at
 * time i * 2^l. Invalid points are not read. */
typedef struct stale_points {
  const float *class_logits;    /* (n_points, n_classes) */
  const float *offsets;         /* (n_points, 2), distances to start and end in units of 2^l, >= 0 */
  const uint8_t *valid;         /* (n_points,), 0 or 1 */
  size_t n_points;
  size_t n_classes;
  const int64_t *level_lengths; /* (n_levels,), each >= 1; they add up to n_points */
  size_t n_levels;              /* 1 to 32 */
} stale_points;

typedef struct stale_points_parameters {
  double pre_nms_threshold;           /* in [0, 1) */
  int64_t pre_nms_top_k;              /* of each level, >= 1 */
  double duration_threshold;          /* in points of level 0, >= 0 */
  int32_t multiclass;                 /* 1: each class by itself; 0: all together, then voting */
  double voting_threshold;            /* in [0, 1]; 0: no voting */
  stale_soft_nms_parameters soft_nms; /* gaussian, hard or none; top_k: detections of the video */
} stale_points_parameters;

enum { STALE_RUN_MAXIMUM = 0, STALE_RUN_CONTRAST = 1, STALE_RUN_MEAN_CONTRAST = 2 };

typedef struct stale_runs_parameters {
  double class_threshold;             /* in [0, 1) */
  double top_share;                   /* in (0, 1] */
  const double *thresholds;           /* each in [0, 1) */
  size_t n_thresholds;                /* >= 1 */
  int32_t scaled;                     /* 1: "threshold_scale": "video"; 0: "none" */
  int32_t alone;                      /* 1: "class_scores": "sigmoid"; 0: "softmax" */
  double smoothing;                   /* in [0, 1] */
  int32_t run_score;                  /* STALE_RUN_... */
  double surroundings;                /* in [0, 1] */
  double video_weight;                /* in [0, 1] */
  double length_power;                /* in [0, 1] */
  int64_t min_snippets;               /* >= 1 */
  stale_soft_nms_parameters soft_nms; /* top_k: detections of the video */
} stale_runs_parameters;

typedef struct stale_detection {
  int64_t label; /* row of class_logits */
  double score;
  double start; /* [start, end) in snippets: divide by T, multiply by the duration */
  double end;
} stale_detection;

/* STALE_CORE_ABI_VERSION of the loaded library: compare it with that of this header. */
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

/* Inference of ActionFormer; start and end of detections in points of level 0. At most soft_nms.top_k results; without
 * suppression n_levels * pre_nms_top_k. */
STALE_API stale_status stale_decode_points(const stale_points *points, const stale_points_parameters *parameters,
                                           stale_detection *detections, size_t capacity, size_t *count, char *error,
                                           size_t error_size);

/* Runs of snippets above thresholds: class_logits (n_classes + 1, n_snippets), background last, and attention (n_snippets,) in
 * [0, 1], or null. At most soft_nms.top_k results. */
STALE_API stale_status stale_decode_runs(const float *class_logits, const float *attention, size_t n_classes, size_t n_snippets,
                                         const stale_runs_parameters *parameters, stale_detection *detections, size_t capacity,
                                         size_t *count, char *error, size_t error_size);

/* Score enhancement: detections whose score is at most video_score get video_label. */
STALE_API stale_status stale_take_video_label(stale_detection *detections, size_t count, int64_t video_label,
                                              double video_score, char *error, size_t error_size);

#ifdef __cplusplus
}
#endif

#endif /* STALE_CORE_H */
