/* From the outputs of a detector to detections, by the core's C ABI. */
#ifndef DECODE_H
#define DECODE_H

#include <stale_core.h>

#include "bundle.h"

#define MOST_OUTPUTS 3

/* What a detector gave for one video, in the order of the policy's `reads`. */
typedef struct outputs {
  const float *values[MOST_OUTPUTS];
  size_t n_classes;  /* K */
  size_t n_snippets; /* T of the features that the detector read */
  size_t n_points;   /* P, where the policy reads points */
} outputs;

/* The detections of one video, best first, in snippets, of which the video has `n_snippets`. */
typedef struct found {
  size_t count;
  stale_detection *detections;
  size_t n_snippets;
} found;

/* An axis of an output: B is 1, K, T and P as in `outputs`; P is what the first output says. */
typedef enum axis { END = 0, AXIS_B, AXIS_T, AXIS_K, AXIS_K_AND_BACKGROUND, AXIS_P, AXIS_START_AND_END, N_AXES } axis;

/* A way to decode, named by `decode.policy` of the manifest. */
typedef struct policy {
  const char *name;
  struct {
    const char *name;
    axis axes[4];
  } reads[MOST_OUTPUTS]; /* outputs of the detector, float32 */
  size_t n_reads;
  found (*decode)(const cJSON *settings, const outputs *given);
} policy;

/* The policy of a manifest. A policy that this program does not know ends it with a list of those that it knows, and so does
 * a detector that does not list the outputs that the policy reads. */
const policy *find_policy(const cJSON *manifest, const cJSON *detector);

/* Where snippets lie in time. By frames: (snippet * stride + num_frames / 2) / fps; else snippet / n_snippets * duration_s.
 * Kept in [0, duration_s]. */
typedef struct time_grid {
  int by_frames;
  double stride, num_frames, fps;
  double duration_s;
} time_grid;

/* The grid of frames where the contract says how frames became the features that the network reads; else snippets share the
 * video evenly. */
time_grid find_grid(const cJSON *contract, double duration_s);
double seconds_of(time_grid grid, double snippet, size_t n_snippets);

#endif
