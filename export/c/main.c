/* Features to detections in plain C: ONNX Runtime's C API runs the detector, the core's C ABI decodes. */
#include <dlfcn.h>
#include <math.h>
#include <onnxruntime_c_api.h>
#include <stale_core.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bundle.h"

static const OrtApi *ort;

/* Opened when the program starts, so any ONNX Runtime from the headers' version on will do. */
static const char *open_onnxruntime(void) {
  void *library = dlopen("libonnxruntime.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) die("%s", dlerror());
  const OrtApiBase *(*get_base)(void) = NULL;
  *(void **)&get_base = dlsym(library, "OrtGetApiBase");
  if (get_base == NULL) die("libonnxruntime.so.1 has no OrtGetApiBase");
  ort = get_base()->GetApi(ORT_API_VERSION);
  if (ort == NULL) die("ONNX Runtime 1.%d or newer is needed; got %s", ORT_API_VERSION, get_base()->GetVersionString());
  return get_base()->GetVersionString();
}

/* Ends the program when a call of ONNX Runtime failed. */
static void need(OrtStatus *status) {
  if (status == NULL) return;
  char message[512];
  snprintf(message, sizeof message, "%s", ort->GetErrorMessage(status));
  for (char *at = message; *at != '\0'; ++at) *at = *at == '\n' ? ' ' : *at;
  die("ONNX Runtime: %s", message);
}

static OrtSession *open_session(bytes network) {
  OrtEnv *environment = NULL;
  OrtSessionOptions *options = NULL;
  OrtSession *session = NULL;
  need(ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "stale-edge", &environment));
  need(ort->CreateSessionOptions(&options));
  need(ort->SetIntraOpNumThreads(options, 1)); /* nothing burns all cores unasked */
  need(ort->SetInterOpNumThreads(options, 1));
  need(ort->CreateSessionFromArray(environment, network.data, network.size, options, &session));
  ort->ReleaseSessionOptions(options);
  return session;
}

/* Borrowed by ONNX Runtime. Leading axis of 1 where `axes` is 3. */
static OrtValue *tensor(matrix values, size_t axes) {
  OrtMemoryInfo *memory = NULL;
  OrtValue *value = NULL;
  const int64_t shape[3] = {1, (int64_t)values.rows, (int64_t)values.columns};
  need(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
  need(ort->CreateTensorWithDataAsOrtValue(memory, values.values, values.rows * values.columns * sizeof(float), shape + 3 - axes,
                                           axes, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &value));
  ort->ReleaseMemoryInfo(memory);
  return value;
}

static int32_t choice(const cJSON *settings, const char *name, const char *const names[]) {
  const char *got = string_of(settings, name);
  for (int32_t i = 0; names[i] != NULL; ++i) {
    if (strcmp(got, names[i]) == 0) return i;
  }
  die("decode.%s is '%s', which this program does not know", name, got);
}

/* The detections of one video, in snippets. */
typedef struct found {
  size_t count;
  stale_detection *detections;
} found;

static found decode(const cJSON *settings, const float *class_logits, const float *masks, size_t n_classes, size_t n_snippets) {
  static const char *const policies[] = {"paper", "release", NULL}, *const regions[] = {"runs", "hull", NULL},
                           *const methods[] = {"gaussian", "linear", "hard", NULL}; /* in the order of stale_core.h */
  const int release = choice(settings, "policy", policies) == 1;
  const size_t capacity = release ? 100 : (size_t)number_of(settings, "max_detections");
  found result = {0, checked_alloc(capacity, sizeof(stale_detection))};
  char error[256] = "";
  stale_status status = STALE_OK;
  if (release) {
    status = stale_decode_release(class_logits, masks, n_classes, n_snippets, result.detections, capacity, &result.count, error,
                                  sizeof error);
  } else {
    const cJSON *list = member(settings, "mask_thresholds"), *item = NULL;
    double *thresholds = checked_alloc((size_t)cJSON_GetArraySize(list), sizeof(double));
    stale_decode_parameters p = {0};
    cJSON_ArrayForEach(item, list) thresholds[p.n_mask_thresholds++] = item->valuedouble;
    p.class_threshold = number_of(settings, "class_threshold");
    p.top_snippets = (int64_t)number_of(settings, "top_snippets");
    p.mask_thresholds = thresholds;
    p.regions = choice(settings, "regions", regions);
    p.min_snippets = (int64_t)number_of(settings, "min_snippets");
    p.soft_nms.method = choice(settings, "soft_nms", methods);
    p.soft_nms.sigma = number_of(settings, "sigma");
    p.soft_nms.tiou_threshold = number_of(settings, "tiou_threshold");
    p.soft_nms.min_score = number_of(settings, "min_score");
    p.soft_nms.top_k = (int64_t)number_of(settings, "max_detections");
    status = stale_decode_paper(class_logits, masks, n_classes, n_snippets, &p, result.detections, capacity, &result.count, error,
                                sizeof error);
    free(thresholds);
  }
  if (status != STALE_OK) die("decoding: %s", error);
  return result;
}

static found localize(OrtSession *session, const cJSON *manifest, const class_bank *classes, matrix features) {
  const char *const inputs[] = {"features", "class_embeddings"}, *const outputs[] = {"class_logits", "masks"};
  OrtValue *given[2] = {tensor(features, 3), tensor(classes->embeddings, 2)}, *made[2] = {NULL, NULL};
  void *values[2];
  need(ort->Run(session, NULL, inputs, (const OrtValue *const *)given, 2, outputs, 2, made));
  for (int i = 0; i < 2; ++i) need(ort->GetTensorMutableData(made[i], &values[i]));
  const found result = decode(member(manifest, "decode"), values[0], values[1], classes->count, features.rows);
  for (int i = 0; i < 2; ++i) {
    ort->ReleaseValue(given[i]);
    ort->ReleaseValue(made[i]);
  }
  return result;
}

static void print_string(const char *text) {
  char *quoted = cJSON_PrintUnformatted(cJSON_CreateString(text));
  fputs(quoted, stdout);
  free(quoted);
}

/* ActivityNet's layout. */
static void print(const char *path, const class_bank *classes, found result, size_t n_snippets, double duration_s) {
  const char *name = strrchr(path, '/') != NULL ? strrchr(path, '/') + 1 : path, *dot = strrchr(name, '.');
  char *stem = checked_alloc(strlen(name) + 1, 1);
  memcpy(stem, name, dot != NULL && dot != name ? (size_t)(dot - name) : strlen(name));
  fputs("{\"version\": \"1.3\", \"results\": {", stdout);
  print_string(stem);
  fputs(": [", stdout);
  for (size_t i = 0; i < result.count; ++i) {
    const stale_detection *d = &result.detections[i];
    fputs(i == 0 ? "\n  {\"label\": " : ",\n  {\"label\": ", stdout);
    print_string(classes->names[d->label]);
    printf(", \"score\": %.17g, \"segment\": [%.17g, %.17g]}", d->score, d->start / (double)n_snippets * duration_s,
           d->end / (double)n_snippets * duration_s);
  }
  puts("\n]}, \"external_data\": {}}");
  fflush(stdout);
  free(stem);
}

static int by_value(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double milliseconds_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return 1e3 * (double)now.tv_sec + 1e-6 * (double)now.tv_nsec;
}

static _Noreturn void usage(const char *why) {
  fprintf(stderr, "%s; usage: stale_detect BUNDLE FEATURES.npy --duration SECONDS [--precision fp32|int8] [--repeat N]\n", why);
  exit(2);
}

int main(int argc, char **argv) {
  const char *paths[2] = {NULL, NULL}, *precision = "fp32";
  int n_paths = 0, repeat = 0;
  double duration_s = 0.0;
  const char *version = open_onnxruntime();
  if (argc == 2 && strcmp(argv[1], "--version") == 0) {
    printf("ONNX Runtime %s, core ABI %d\n", version, (int)stale_core_abi_version());
    return 0;
  }
  for (int i = 1; i < argc; ++i) {
    if (strncmp(argv[i], "--", 2) != 0) {
      if (n_paths == 2) usage("too many arguments");
      paths[n_paths++] = argv[i];
      continue;
    }
    const char *option = argv[i], *value = i + 1 < argc ? argv[++i] : NULL;
    char *rest = NULL;
    if (value == NULL) usage("an option needs a value");
    if (strcmp(option, "--duration") == 0) {
      duration_s = strtod(value, &rest);
      if (rest == value || *rest != '\0') usage("--duration must be a number");
    } else if (strcmp(option, "--repeat") == 0) {
      repeat = (int)strtol(value, &rest, 10);
    } else if (strcmp(option, "--precision") == 0) {
      precision = value;
    } else if (strcmp(option, "--graph") != 0 || strcmp(value, "detector") != 0) {
      usage("unknown option, or another graph than the detector");
    }
  }
  if (n_paths != 2) usage("expected BUNDLE and FEATURES.npy");
  if (!isfinite(duration_s) || duration_s <= 0.0) usage("--duration must be the length of the video, finite and > 0");
  if (stale_core_abi_version() != STALE_CORE_ABI_VERSION) die("the core that was loaded has another ABI than its header");

  cJSON *manifest = read_manifest(paths[0]);
  const bytes network = read_detector(paths[0], manifest, precision);
  const class_bank classes = read_class_bank(paths[0], manifest);
  const matrix features = fitted(member(manifest, "feature_contract"), read_features(paths[1]));

  OrtSession *session = open_session(network);
  found result = localize(session, manifest, &classes, features);
  print(paths[1], &classes, result, features.rows, duration_s);

  double *passed = checked_alloc((size_t)(repeat > 0 ? repeat : 1), sizeof(double));
  for (int i = -3; repeat > 0 && i < repeat; ++i) { /* three warm-ups */
    const double start = milliseconds_now();
    free(result.detections);
    result = localize(session, manifest, &classes, features);
    if (i >= 0) passed[i] = milliseconds_now() - start;
  }
  if (repeat > 0) {
    qsort(passed, (size_t)repeat, sizeof(double), by_value);
    fprintf(stderr, "milliseconds: %.3f\n", (passed[(repeat - 1) / 2] + passed[repeat / 2]) / 2.0);
  }
  return 0;
}
