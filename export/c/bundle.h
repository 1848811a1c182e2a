/* A bundle, checked before anything is computed. Whatever does not fit ends the program: one line, exit code 1. */
#ifndef BUNDLE_H
#define BUNDLE_H

#include "input.h"

typedef struct class_bank {
  size_t count;      /* K */
  char **names;      /* UTF-8, distinct */
  matrix embeddings; /* (K, D), finite */
} class_bank;

/* manifest.json, its format version checked. */
cJSON *read_manifest(const char *folder);

/* The manifest's entry of the ONNX detector in a precision. */
const cJSON *find_detector(const char *folder, const cJSON *manifest, const char *precision);

/* The bytes of an entry's file; size and sha256 are those of the manifest. */
bytes checked_file(const char *folder, const cJSON *entry);

class_bank read_class_bank(const char *folder, const cJSON *manifest);

/* The features of an .npy file, (T, C), as the network wants them: checked against the feature contract, and resampled where
 * it says so. */
matrix read_features(const char *path, const cJSON *contract);

#endif
