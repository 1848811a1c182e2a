#include "bundle.h"

#include <math.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void die(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("error: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  exit(1);
}

void *checked_alloc(size_t count, size_t size) {
  void *memory = calloc(count > 0 ? count : 1, size);
  if (memory == NULL) die("out of memory: %zu times %zu bytes", count, size);
  return memory;
}

static bytes read_file(const char *path) {
  FILE *file = fopen(path, "rb");
  bytes content = {NULL, 0};
  size_t room = 0, got = 0;
  if (file == NULL) die("%s: cannot be read", path);
  do {
    content.size += got;
    if (content.size == room) {
      room = room == 0 ? 65536 : 2 * room;
      content.data = realloc(content.data, room);
      if (content.data == NULL) die("%s: out of memory", path);
    }
    got = fread(content.data + content.size, 1, room - content.size, file);
  } while (got > 0);
  if (ferror(file)) die("%s: cannot be read", path);
  fclose(file);
  return content;
}

/* Numbers in .npy headers and .zip files are little-endian, whatever the machine is. */
static uint32_t little_endian(bytes content, size_t offset, size_t size, const char *where) {
  uint32_t value = 0;
  if (offset + size > content.size) die("%s: cut short", where);
  while (size-- > 0) value = value << 8 | content.data[offset + size];
  return value;
}

/* --- NumPy's files */

typedef struct npy {
  char type[16]; /* such as "<f4" */
  size_t axes;
  size_t shape[2];
  bytes data;
} npy;

static npy parse_npy(bytes content, const char *where) {
  npy array = {"", 0, {1, 1}, {NULL, 0}};
  char header[1024] = "";
  if (content.size < 10 || memcmp(content.data, "\x93NUMPY", 6) != 0) die("%s: not an .npy file", where);
  const size_t length_size = content.data[6] == 1 ? 2 : 4;
  const size_t length = little_endian(content, 8, length_size, where), begin = 8 + length_size;
  if (begin + length > content.size || length >= sizeof header) die("%s: cut short, or no plain array", where);
  memcpy(header, content.data + begin, length);

  const char *descr = strstr(header, "'descr': '"), *shape = strstr(header, "'shape': (");
  if (descr == NULL || shape == NULL || sscanf(descr, "'descr': '%15[^']'", array.type) != 1) {
    die("%s: must be a plain array; its header is %.100s", where, header);
  }
  if (strstr(header, "'fortran_order': False") == NULL) die("%s: must be in C order", where);
  char *next = NULL;
  for (const char *at = shape + strlen("'shape': ("); *at != ')'; at = *next == ',' ? next + 1 : next) {
    const size_t size = strtoul(at, &next, 10);
    if (next == at) break; /* after the comma of a single axis */
    if (size > content.size) die("%s: its size is not that of its shape", where);
    if (array.axes < 2) array.shape[array.axes] = size;
    ++array.axes;
    while (*next == ' ') ++next;
  }
  array.data = (bytes){content.data + begin + length, content.size - begin - length};
  return array;
}

static float half_to_float(uint32_t bits) {
  const float sign = (bits & 0x8000U) != 0 ? -1.0F : 1.0F, fraction = (float)(bits & 0x3FFU);
  const int exponent = (int)(bits >> 10 & 0x1FU);
  if (exponent == 0x1F) return fraction == 0.0F ? sign * INFINITY : NAN;
  return sign * (exponent == 0 ? ldexpf(fraction, -24) : ldexpf(1024.0F + fraction, exponent - 25));
}

static matrix matrix_of(npy array, const char *where) {
  const int half = strcmp(array.type, "<f2") == 0;
  if (!half && strcmp(array.type, "<f4") != 0) {
    die("%s: must be float32 or float16, little-endian; got '%s'", where, array.type);
  }
  if (array.axes != 2) die("%s: must have two axes, (T, C); got %zu", where, array.axes);
  const size_t count = array.shape[0] * array.shape[1], item = half ? 2 : 4;
  if (array.data.size != count * item) die("%s: its size is not that of its shape", where);
  matrix values = {array.shape[0], array.shape[1], checked_alloc(count, sizeof(float))};
  for (size_t i = 0; i < count; ++i) {
    const uint32_t bits = little_endian(array.data, i * item, item, where);
    if (half) {
      values.values[i] = half_to_float(bits);
    } else {
      memcpy(&values.values[i], &bits, sizeof bits);
    }
  }
  return values;
}

matrix read_features(const char *path) { return matrix_of(parse_npy(read_file(path), path), path); }

/* One array of an .npz file that numpy.savez wrote, a .zip without compression. */
static npy npz_member(bytes content, const char *name, const char *where) {
  size_t end = content.size < 22 ? 0 : content.size - 22; /* its directory is found from the end */
  while (end > 0 && memcmp(content.data + end, "PK\x05\x06", 4) != 0) --end;
  if (end == 0) die("%s: not an .npz file", where);
  size_t entry = little_endian(content, end + 16, 4, where);
  for (uint32_t left = little_endian(content, end + 10, 2, where); left > 0; --left) {
    const size_t size = little_endian(content, entry + 24, 4, where), local = little_endian(content, entry + 42, 4, where);
    const size_t name_size = little_endian(content, entry + 28, 2, where);
    const size_t data = local + 30 + little_endian(content, local + 26, 2, where) + little_endian(content, local + 28, 2, where);
    if (entry + 46 + name_size > content.size || data + size > content.size) die("%s: cut short", where);
    if (name_size == strlen(name) && memcmp(content.data + entry + 46, name, name_size) == 0) {
      if (little_endian(content, entry + 10, 2, where) != 0) die("%s: %s is compressed", where, name);
      return parse_npy((bytes){content.data + data, size}, where);
    }
    entry += 46 + name_size + little_endian(content, entry + 30, 2, where) + little_endian(content, entry + 32, 2, where);
  }
  die("%s: holds no %s", where, name);
}

static char *utf8_of(npy array, size_t row, size_t width, const char *where) {
  char *text = checked_alloc(4 * width + 1, 1), *at = text;
  for (size_t i = 0; i < width; ++i) {
    const uint32_t c = little_endian(array.data, 4 * (row * width + i), 4, where);
    if (c == 0) break; /* the rest is padding */
    if (c < 0x80) {
      *at++ = (char)c;
      continue;
    }
    const int tails = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    *at++ = (char)((0xFF00U >> (tails + 1) & 0xFFU) | c >> 6 * tails); /* 110..., 1110..., 11110... */
    for (int tail = tails - 1; tail >= 0; --tail) *at++ = (char)(0x80U | (c >> 6 * tail & 0x3FU));
  }
  return text;
}

/* --- The manifest */

const cJSON *member(const cJSON *object, const char *name) {
  const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, name);
  if (value == NULL) die("manifest.json: %s is missing", name);
  return value;
}

double number_of(const cJSON *object, const char *name) {
  if (!cJSON_IsNumber(member(object, name))) die("manifest.json: %s must be a number", name);
  return member(object, name)->valuedouble;
}

const char *string_of(const cJSON *object, const char *name) {
  if (!cJSON_IsString(member(object, name))) die("manifest.json: %s must be a string", name);
  return member(object, name)->valuestring;
}

static char *join(const char *folder, const char *name) {
  char *path = checked_alloc(strlen(folder) + strlen(name) + 2, 1);
  sprintf(path, "%s/%s", folder, name);
  return path;
}

cJSON *read_manifest(const char *folder) {
  char *path = join(folder, "manifest.json");
  const bytes content = read_file(path);
  cJSON *manifest = cJSON_ParseWithLength((const char *)content.data, content.size);
  if (!cJSON_IsObject(manifest)) die("%s: not a JSON object", path);
  if (strcmp(string_of(manifest, "format"), "stale-edge-bundle/1") != 0) {
    die("%s: bundle of format %s; this program reads stale-edge-bundle/1", path, string_of(manifest, "format"));
  }
  free(path);
  return manifest;
}

static bytes checked_file(const char *folder, const cJSON *entry) {
  char *path = join(folder, string_of(entry, "path"));
  const bytes content = read_file(path);
  unsigned char digest[EVP_MAX_MD_SIZE];
  char text[2 * EVP_MAX_MD_SIZE + 1] = "";
  unsigned size = 0;
  if (EVP_Digest(content.data, content.size, digest, &size, EVP_sha256(), NULL) != 1) die("OpenSSL cannot compute a sha256");
  for (unsigned i = 0; i < size; ++i) sprintf(text + 2 * i, "%02x", digest[i]);
  if ((double)content.size != number_of(entry, "bytes") || strcmp(text, string_of(entry, "sha256")) != 0) {
    die("%s has changed: its bytes are not those that the manifest names", path);
  }
  free(path);
  return content;
}

static int is(const cJSON *entry, const char *name, const char *wanted) {
  const cJSON *value = member(entry, name);
  return cJSON_IsString(value) && strcmp(value->valuestring, wanted) == 0;
}

bytes read_detector(const char *folder, const cJSON *manifest, const char *precision) {
  const cJSON *entry = NULL;
  cJSON_ArrayForEach(entry, member(manifest, "files")) {
    if (is(entry, "role", "detector") && is(entry, "runtime", "onnxruntime") && is(entry, "precision", precision)) {
      return checked_file(folder, entry);
    }
  }
  die("%s: the bundle has no ONNX detector in %s", folder, precision);
}

class_bank read_class_bank(const char *folder, const cJSON *manifest) {
  const cJSON *entry = NULL;
  cJSON_ArrayForEach(entry, member(manifest, "files")) {
    if (!is(entry, "role", "class_bank")) continue;
    const char *where = string_of(entry, "path");
    const bytes content = checked_file(folder, entry);
    const npy names = npz_member(content, "names.npy", where);
    class_bank bank = {names.shape[0], NULL, matrix_of(npz_member(content, "embeddings.npy", where), where)};
    if (strncmp(names.type, "<U", 2) != 0 || names.axes != 1 || bank.count != bank.embeddings.rows) {
      die("%s: names must be a one-dimensional array of strings, one an embedding", where);
    }
    bank.names = checked_alloc(bank.count, sizeof(char *));
    for (size_t k = 0; k < bank.count; ++k) bank.names[k] = utf8_of(names, k, strtoul(names.type + 2, NULL, 10), where);
    return bank;
  }
  die("%s: the bundle has no class bank", folder);
}

/* --- The feature contract */

static matrix resampled(matrix features, size_t length) {
  const size_t C = features.columns;
  if (features.rows == length) return features;
  matrix result = {length, C, checked_alloc(length * C, sizeof(float))};
  const double step = (double)features.rows / (double)length;
  for (size_t i = 0; i < length; ++i) {
    const double between_centres = ((double)i + 0.5) * step - 0.5;
    const double position = between_centres > 0.0 ? between_centres : 0.0;
    const size_t last = features.rows - 1;
    const size_t left = (size_t)position < last ? (size_t)position : last, right = left < last ? left + 1 : last;
    const float weight = (float)(position - (double)left);
    for (size_t c = 0; c < C; ++c) {
      result.values[i * C + c] = features.values[left * C + c] * (1.0F - weight) + features.values[right * C + c] * weight;
    }
  }
  return result;
}

matrix fitted(const cJSON *contract, matrix features) {
  const size_t T = features.rows, C = features.columns;
  if ((double)C != number_of(contract, "channels")) {
    die("features must have C = %g channels (encoder %s); got T = %zu, C = %zu", number_of(contract, "channels"),
        string_of(contract, "encoder"), T, C);
  }
  if (T == 0) die("features need at least one snippet; got T = 0");
  for (size_t i = 0; i < T * C; ++i) {
    if (!isfinite(features.values[i])) die("features must be finite; snippet %zu, channel %zu is not", i / C, i % C);
  }
  if (strcmp(string_of(contract, "resampling"), "linear") == 0) {
    return resampled(features, (size_t)number_of(contract, "resample_to"));
  }
  if (strcmp(string_of(contract, "resampling"), "none") != 0) {
    die("the feature contract's resampling '%s' is not known to this program", string_of(contract, "resampling"));
  }
  if (!cJSON_IsNull(member(contract, "length")) && (double)T != number_of(contract, "length")) {
    die("features must have T = %g snippets, the length of this network; got %zu", number_of(contract, "length"), T);
  }
  return features;
}
