/* Reading files and text that may be hostile. Whatever does not fit ends the program: one line on stderr, exit code 1. */
#ifndef INPUT_H
#define INPUT_H

#include <cjson/cJSON.h>
#include <stddef.h>
#include <stdint.h>

/* Limits of this program; BUNDLE.md lists them. */
#define MOST_FILE_BYTES ((uint64_t)1 << 31)     /* a network is a protobuf, which is never larger */
#define MOST_MANIFEST_BYTES ((uint64_t)1 << 26) /* 64 MiB */
#define MOST_DEPTH 100                          /* objects and lists of manifest.json inside each other */
#define MOST_NUMBERS ((size_t)1 << 28)          /* float32 values of an array: 1 GiB */
#define MOST_SNIPPETS ((size_t)1 << 20)         /* T */
#define MOST_DETECTIONS ((size_t)1 << 20)
#define MOST_COUNT ((size_t)1 << 53) /* of settings that nothing is sized by: what a double holds exactly */
#define MOST_THRESHOLDS 1000
#define MOST_LEVELS 32 /* as in stale_core.h */

typedef struct bytes {
  unsigned char *data;
  size_t size;
} bytes;

/* Row-major (rows, columns). */
typedef struct matrix {
  size_t rows;
  size_t columns;
  float *values;
} matrix;

/* An array as it lies in a file. */
typedef struct npy {
  char type[16]; /* NumPy's name of it, such as "<f4" */
  size_t axes;
  size_t shape[2]; /* of more axes the first two */
  bytes data;
} npy;

/* Prints one line on stderr, as printf would, and ends the program. Control characters become '?'; values from outside are
 * printed with %.80s, so that no line is endless. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

void *checked_alloc(size_t count, size_t size);

/* The bytes of a regular file, at most `most` of them. */
bytes read_file(const char *path, uint64_t most);

/* The bytes of a regular file of a folder. The name must not lead out of the folder, by ".." or by a link.
 * `size`: the bytes that it must have; NULL: at most `most`. */
bytes read_inside(const char *folder, const char *name, const uint64_t *size, uint64_t most);

/* A JSON object: UTF-8, no key twice, every number finite, at most MOST_DEPTH deep. */
cJSON *parse_json(bytes text, const char *where);

/* Members of a JSON object that must be there and of this type. */
const cJSON *member(const cJSON *object, const char *name);
double number_of(const cJSON *object, const char *name);
size_t integer_of(const cJSON *object, const char *name, size_t least, size_t most);
const char *string_of(const cJSON *object, const char *name);

/* An .npy file: a plain array in C order, as many bytes as its shape says. */
npy parse_npy(bytes content, const char *where);

/* One array of an .npz file that numpy.savez wrote, a .zip without compression. */
npy npz_member(bytes content, const char *name, const char *where);

/* float32 or float16, little-endian, two axes. */
matrix matrix_of(npy array, const char *where);

/* A list of strings as UTF-8. */
char **strings_of(npy array, const char *where);

#endif
