/* Features to detections in plain C: ONNX Runtime's C API runs the detector, the core's C ABI decodes. */
#include <dlfcn.h>
#include <math.h>
#include <onnxruntime_c_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "decode.h"

static const OrtApi *ort;

/* Opened when the program starts, so any ONNX Runtime from the headers' version on will do. */
static const char *open_onnxruntime(void) {
  setenv("ORT_DISABLE_TELEMETRY", "1", 0); /* from 1.29 on it sends usage data unless told otherwise */
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

/* The values of an output, after its type and shape were found to be those that the policy reads. The first one sets P. */
static const float *output_values(OrtValue *value, const policy *how, size_t index, outputs *read) {
  const size_t K = read->n_classes;
  size_t sizes[N_AXES] = {[AXIS_B] = 1, [AXIS_T] = read->n_snippets, [AXIS_K] = K, [AXIS_K_AND_BACKGROUND] = K + 1,
                          [AXIS_P] = read->n_points, [AXIS_START_AND_END] = 2};
  const axis *wanted = how->reads[index].axes;
  const char *name = how->reads[index].name;
  OrtTensorTypeAndShapeInfo *info = NULL;
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  size_t n_axes = 0, n_wanted = 0;
  int64_t got[4] = {0};
  int is_tensor = 0;
  void *values = NULL;
  need(ort->IsTensor(value, &is_tensor));
  if (!is_tensor) die("the detector's output %s must be a tensor", name);
  need(ort->GetTensorTypeAndShape(value, &info));
  need(ort->GetTensorElementType(info, &type));
  need(ort->GetDimensionsCount(info, &n_axes));
  while (wanted[n_wanted] != END) ++n_wanted;
  if (type != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) die("the detector's output %s must be float32", name);
  if (n_axes != n_wanted) die("the detector's output %s must have %zu axes; got %zu", name, n_wanted, n_axes);
  need(ort->GetDimensions(info, got, n_axes));
  for (size_t i = 0; i < n_axes; ++i) {
    const int first = index == 0 && wanted[i] == AXIS_P; /* says what P is */
    if (first && got[i] >= 1 && got[i] <= (int64_t)MOST_NUMBERS) sizes[AXIS_P] = read->n_points = (size_t)got[i];
    if (got[i] != (int64_t)sizes[wanted[i]]) {
      die("the detector's output %s must have size %zu on axis %zu; got %lld", name, sizes[wanted[i]], i, (long long)got[i]);
    }
  }
  ort->ReleaseTensorTypeAndShapeInfo(info);
  need(ort->GetTensorMutableData(value, &values));
  return values;
}

static found localize(OrtSession *session, const policy *how, const cJSON *settings, const class_bank *classes,
                      matrix features) {
  const char *const inputs[] = {"features", "class_embeddings"}, *names[MOST_OUTPUTS];
  OrtValue *given[2] = {tensor(features, 3), tensor(classes->embeddings, 2)}, *made[MOST_OUTPUTS] = {NULL};
  outputs read = {{NULL}, classes->count, features.rows, 0};
  for (size_t i = 0; i < how->n_reads; ++i) names[i] = how->reads[i].name;
  need(ort->Run(session, NULL, inputs, (const OrtValue *const *)given, 2, names, how->n_reads, made));
  for (size_t i = 0; i < how->n_reads; ++i) read.values[i] = output_values(made[i], how, i, &read);
  const found result = how->decode(settings, &read);
  for (int i = 0; i < 2; ++i) ort->ReleaseValue(given[i]);
  for (size_t i = 0; i < how->n_reads; ++i) ort->ReleaseValue(made[i]);
  return result;
}

static void print_string(const char *text) {
  char *quoted = cJSON_PrintUnformatted(cJSON_CreateString(text));
  fputs(quoted, stdout);
  free(quoted);
}

/* ActivityNet's layout. */
static void print(const char *path, const class_bank *classes, found result, time_grid grid) {
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
    printf(", \"score\": %.17g, \"segment\": [%.17g, %.17g]}", d->score, seconds_of(grid, d->start, result.n_snippets),
           seconds_of(grid, d->end, result.n_snippets));
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

static const char usage_line[] = "stale_detect BUNDLE FEATURES.npy --duration SECONDS [--precision fp32|int8] [--repeat N]";

static _Noreturn void usage(const char *why) {
  fprintf(stderr, "%s; usage: %s\n", why, usage_line);
  exit(2);
}

static int help(void) {
  printf("usage: %s\n\n"
         "Finds actions in a video's features with the detector of a bundle, and prints them as JSON.\n\n"
         "  BUNDLE          the bundle's folder\n"
         "  FEATURES.npy    features (T, C) of the whole video, float32 or float16\n"
         "  --duration      length of the video in seconds, > 0\n"
         "  --precision     fp32 (the default) or int8\n"
         "  --repeat        run N more times and write the median time to stderr\n"
         "  --version       print the version of ONNX Runtime\n",
         usage_line);
  return 0;
}

int main(int argc, char **argv) {
  const char *paths[2] = {NULL, NULL}, *precision = "fp32";
  int n_paths = 0, repeat = 0;
  double duration_s = 0.0;
  if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) return help();
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
      const long number = strtol(value, &rest, 10);
      if (rest == value || *rest != '\0' || number < 0 || number > 1000000) usage("--repeat must be an integer from 0 to 1000000");
      repeat = (int)number;
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
  const cJSON *detector = find_detector(paths[0], manifest, precision), *settings = member(manifest, "decode");
  const policy *how = find_policy(manifest, detector);
  const bytes network = checked_file(paths[0], detector);
  const class_bank classes = read_class_bank(paths[0], manifest);
  const matrix features = read_features(paths[1], member(manifest, "feature_contract"));

  const time_grid grid = find_grid(member(manifest, "feature_contract"), duration_s);

  OrtSession *session = open_session(network);
  found result = localize(session, how, settings, &classes, features);
  print(paths[1], &classes, result, grid);

  double *passed = checked_alloc((size_t)(repeat > 0 ? repeat : 1), sizeof(double));
  for (int i = -3; repeat > 0 && i < repeat; ++i) { /* three warm-ups */
    const double start = milliseconds_now();
    free(result.detections);
    result = localize(session, how, settings, &classes, features);
    if (i >= 0) passed[i] = milliseconds_now() - start;
  }
  if (repeat > 0) {
    qsort(passed, (size_t)repeat, sizeof(double), by_value);
    fprintf(stderr, "milliseconds: %.3f\n", (passed[(repeat - 1) / 2] + passed[repeat / 2]) / 2.0);
  }
  return 0;
}
