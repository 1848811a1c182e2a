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
  size_t n_snippets; /* T */
} outputs;

/* The detections of one video, best first, in snippets. */
typedef struct found {
  size_t count;
  stale_detection *detections;
} found;

/* An axis of an output: B is 1, K and T as in `outputs`. */
typedef enum axis { END = 0, AXIS_B, AXIS_T, AXIS_K_AND_BACKGROUND } axis;

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

#endif
