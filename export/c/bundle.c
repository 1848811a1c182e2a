#include "bundle.h"

#include <math.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *const formats[] = {"stale-edge-bundle/1", "stale-edge-bundle/2"};

cJSON *read_manifest(const char *folder) {
  cJSON *manifest = parse_json(read_inside(folder, "manifest.json", NULL, MOST_MANIFEST_BYTES), "manifest.json");
  const char *format = string_of(manifest, "format");
  if (strcmp(format, formats[0]) != 0 && strcmp(format, formats[1]) != 0) {
    die("%.300s: bundle of format '%.80s'; this program reads %s and %s", folder, format, formats[0], formats[1]);
  }
  return manifest;
}

static int is(const cJSON *entry, const char *name, const char *wanted) {
  const cJSON *value = member(entry, name);
  return cJSON_IsString(value) && strcmp(value->valuestring, wanted) == 0;
}

static const cJSON *files_of(const cJSON *manifest) {
  const cJSON *files = member(manifest, "files"), *entry = NULL;
  if (!cJSON_IsArray(files)) die("manifest.json: files must be a list");
  cJSON_ArrayForEach(entry, files) {
    if (!cJSON_IsObject(entry)) die("manifest.json: every one of files must be an object");
  }
  return files;
}

const cJSON *find_detector(const char *folder, const cJSON *manifest, const char *precision) {
  const cJSON *entry = NULL, *found = NULL;
  cJSON_ArrayForEach(entry, files_of(manifest)) {
    if (is(entry, "role", "detector") && is(entry, "runtime", "onnxruntime") && is(entry, "precision", precision)) {
      if (found != NULL) die("%.300s: the manifest lists two ONNX detectors in %.80s", folder, precision);
      found = entry;
    }
  }
  if (found == NULL) die("%.300s: the bundle has no ONNX detector in %.80s", folder, precision);
  return found;
}

bytes checked_file(const char *folder, const cJSON *entry) {
  const char *name = string_of(entry, "path");
  const uint64_t size = integer_of(entry, "bytes", 0, MOST_FILE_BYTES);
  if (strcasecmp(name, "manifest.json") == 0) die("%.300s: no file of a bundle can be called %.80s", folder, name);
  const bytes content = read_inside(folder, name, &size, MOST_FILE_BYTES);
  unsigned char digest[EVP_MAX_MD_SIZE];
  char text[2 * EVP_MAX_MD_SIZE + 1] = "";
  unsigned digest_size = 0;
  if (EVP_Digest(content.data, content.size, digest, &digest_size, EVP_sha256(), NULL) != 1) {
    die("OpenSSL cannot compute a sha256");
  }
  for (unsigned i = 0; i < digest_size; ++i) sprintf(text + 2 * i, "%02x", digest[i]);
  if (strcmp(text, string_of(entry, "sha256")) != 0) {
    die("%.300s: %.80s has changed: its bytes are not those that the manifest names", folder, name);
  }
  return content;
}

static int by_name(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

static void check_class_bank(const class_bank *bank, const char *where) {
  const size_t K = bank->count, D = bank->embeddings.columns;
  if (K == 0 || D == 0 || K != bank->embeddings.rows) {
    die("%.500s: must hold at least one class, and one embedding a name; got %zu names, embeddings (%zu, %zu)", where, K,
        bank->embeddings.rows, D);
  }
  for (size_t i = 0; i < K * D; ++i) {
    if (!isfinite(bank->embeddings.values[i])) die("%.500s: embedding %zu is not finite", where, i / D);
  }
  char **sorted = checked_alloc(K, sizeof(char *));
  memcpy(sorted, bank->names, K * sizeof(char *));
  qsort(sorted, K, sizeof *sorted, by_name);
  for (size_t k = 0; k < K; ++k) {
    if (*sorted[k] == '\0') die("%.500s: a name is empty", where);
    if (k > 0 && strcmp(sorted[k - 1], sorted[k]) == 0) die("%.500s: holds the name '%.80s' twice", where, sorted[k]);
  }
  free(sorted);
}

class_bank read_class_bank(const char *folder, const cJSON *manifest) {
  const cJSON *entry = NULL, *found = NULL;
  cJSON_ArrayForEach(entry, files_of(manifest)) {
    if (!is(entry, "role", "class_bank")) continue;
    if (found != NULL) die("%.300s: the manifest lists two class banks", folder);
    found = entry;
  }
  if (found == NULL) die("%.300s: the bundle has no class bank", folder);
  const char *where = string_of(found, "path");
  const bytes content = checked_file(folder, found);
  const npy names = npz_member(content, "names.npy", where);
  const class_bank bank = {names.shape[0], strings_of(names, where),
                           matrix_of(npz_member(content, "embeddings.npy", where), where)};
  check_class_bank(&bank, where);
  return bank;
}

/* --- The feature contract */

static matrix resampled(matrix features, size_t length) {
  const size_t C = features.columns;
  if (features.rows == length) return features;
  if (length > MOST_NUMBERS / C) die("features of %zu snippets and %zu channels are more than %zu numbers", length, C, MOST_NUMBERS);
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

matrix read_features(const char *path, const cJSON *contract) {
  const size_t channels = integer_of(contract, "channels", 1, MOST_NUMBERS);
  const char *resampling = string_of(contract, "resampling");
  const int linear = strcmp(resampling, "linear") == 0;
  if (!linear && strcmp(resampling, "none") != 0) {
    die("the feature contract's resampling '%.80s' is not known to this program; it knows linear and none", resampling);
  }
  size_t length = 0; /* 0: any */
  if (linear) length = integer_of(contract, "resample_to", 1, MOST_SNIPPETS);
  if (!linear && !cJSON_IsNull(member(contract, "length"))) length = integer_of(contract, "length", 1, MOST_SNIPPETS);

  const matrix features = matrix_of(parse_npy(read_file(path, MOST_FILE_BYTES), path), path);
  const size_t T = features.rows, C = features.columns;
  if (C != channels) {
    die("features must have C = %zu channels (encoder %.80s); got T = %zu, C = %zu", channels, string_of(contract, "encoder"), T,
        C);
  }
  if (T == 0 || T > MOST_SNIPPETS) die("features need 1 to %zu snippets; got T = %zu", MOST_SNIPPETS, T);
  for (size_t i = 0; i < T * C; ++i) {
    if (!isfinite(features.values[i])) die("features must be finite; snippet %zu, channel %zu is not", i / C, i % C);
  }
  if (linear) return resampled(features, length);
  if (length != 0 && T != length) die("features must have T = %zu snippets, the length of this network; got %zu", length, T);
  return features;
}
