/* A bundle and its inputs, checked before anything is computed. Whatever does not fit ends the program: one line, exit code 1. */
#ifndef BUNDLE_H
#define BUNDLE_H

#include <cjson/cJSON.h>
#include <stddef.h>
#include <stdint.h>

/* Row-major (rows, columns). */
typedef struct matrix {
  size_t rows;
  size_t columns;
  float *values;
} matrix;

typedef struct bytes {
  unsigned char *data;
  size_t size;
} bytes;

typedef struct class_bank {
  size_t count;      /* K */
  char **names;      /* UTF-8 */
  matrix embeddings; /* (K, D) */
} class_bank;

/* Prints one line on stderr, as printf would, and ends the program. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

void *checked_alloc(size_t count, size_t size);

/* An .npy file of float32 or float16, little-endian, in C order, two axes. */
matrix read_features(const char *path);

/* manifest.json, its format version checked. */
cJSON *read_manifest(const char *folder);

/* A member of a JSON object that must be there. */
const cJSON *member(const cJSON *object, const char *name);
double number_of(const cJSON *object, const char *name);
const char *string_of(const cJSON *object, const char *name);

/* The bytes of a detector, and the class bank; size and sha256 are those of the manifest. */
bytes read_detector(const char *folder, const cJSON *manifest, const char *precision);
class_bank read_class_bank(const char *folder, const cJSON *manifest);

/* The features as the network wants them: checked against the feature contract, resampled where it says so. */
matrix fitted(const cJSON *contract, matrix features);

#endif
