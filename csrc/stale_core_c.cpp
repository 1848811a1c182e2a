// The C interface: checks pointers, calls the core, turns exceptions into statuses.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <exception>
#include <new>
#include <stdexcept>

#include "checks.hpp"
#include "stale_core.h"
#include "stale_core.hpp"

namespace {

template <typename Function>
stale_status guarded(char* error, std::size_t error_size, Function&& function) {
  const auto report = [&](const char* message, stale_status status) {
    if (error != nullptr && error_size > 0) {
      const std::size_t length = std::min(std::strlen(message), error_size - 1);
      std::memcpy(error, message, length);
      error[length] = '\0';
    }
    return status;
  };
  try {
    const stale_status status = function();
    return status == STALE_BUFFER_TOO_SMALL ? report("the buffer is too small; count says how much is needed", status) : status;
  } catch (const std::invalid_argument& problem) {
    return report(problem.what(), STALE_INVALID_ARGUMENT);
  } catch (const std::bad_alloc&) {
    return report("out of memory", STALE_OUT_OF_MEMORY);
  } catch (const std::exception& problem) {
    return report(problem.what(), STALE_INTERNAL_ERROR);
  }
}

void need(bool given, const char* name) {
  if (!given) stale::fail({name, " must not be null"});
}

// Checks a buffer for results; it may be null if it holds none.
template <typename Value>
void need_buffer(const Value* buffer, bool empty, const char* name) {
  need(buffer != nullptr || empty, name);
  stale::check_aligned(buffer, name);
}

stale::SoftNmsParameters soft_nms_parameters(const stale_soft_nms_parameters& p) {
  stale::SoftNmsMethod method{};
  switch (p.method) {
    case STALE_SOFT_NMS_GAUSSIAN: method = stale::SoftNmsMethod::gaussian; break;
    case STALE_SOFT_NMS_LINEAR: method = stale::SoftNmsMethod::linear; break;
    case STALE_SOFT_NMS_HARD: method = stale::SoftNmsMethod::hard; break;
    default: stale::fail({"method must be 0 (gaussian), 1 (linear) or 2 (hard); got ", p.method});
  }
  return {method, p.sigma, p.tiou_threshold, p.min_score, p.top_k, 0.0};
}

stale::Regions regions_of(std::int32_t value) {
  if (value == STALE_REGIONS_RUNS) return stale::Regions::runs;
  if (value == STALE_REGIONS_HULL) return stale::Regions::hull;
  stale::fail({"regions must be 0 (runs) or 1 (hull); got ", value});
}

stale_status give(const std::vector<stale::Detection>& found, stale_detection* detections, std::size_t capacity,
                  std::size_t* count) {
  *count = found.size();
  if (found.size() > capacity) return STALE_BUFFER_TOO_SMALL;
  need_buffer(detections, found.empty(), "detections");
  for (std::size_t i = 0; i < found.size(); ++i) {
    detections[i] = {found[i].label, found[i].score, found[i].start, found[i].end};
  }
  return STALE_OK;
}

}  // namespace

extern "C" {

int32_t stale_core_abi_version(void) { return STALE_CORE_ABI_VERSION; }

stale_status stale_tiou(const double* segments, size_t n, const double* others, size_t m, double* out, char* error,
                        size_t error_size) {
  return guarded(error, error_size, [&] {
    need(segments != nullptr || n == 0, "segments");
    need(others != nullptr || m == 0, "others");
    need(out != nullptr || n == 0 || m == 0, "out");
    stale::tiou(segments, n, others, m, out);
    return STALE_OK;
  });
}

stale_status stale_soft_nms(const double* segments, const double* scores, size_t n, const stale_soft_nms_parameters* parameters,
                            int64_t* kept, double* decayed, size_t capacity, size_t* count, char* error, size_t error_size) {
  return guarded(error, error_size, [&] {
    need(segments != nullptr || n == 0, "segments");
    need(scores != nullptr || n == 0, "scores");
    need(parameters != nullptr, "parameters");
    need(count != nullptr, "count");
    const std::vector<stale::Pick> picks = stale::soft_nms(segments, scores, n, soft_nms_parameters(*parameters));
    *count = picks.size();
    if (picks.size() > capacity) return STALE_BUFFER_TOO_SMALL;
    need_buffer(kept, picks.empty(), "kept");
    need_buffer(decayed, picks.empty(), "decayed");
    for (std::size_t i = 0; i < picks.size(); ++i) {
      kept[i] = picks[i].row;
      decayed[i] = picks[i].score;
    }
    return STALE_OK;
  });
}

stale_status stale_mask_segments(const float* mask, size_t length, double threshold, int32_t regions, int64_t min_snippets,
                                 int64_t* segments, size_t capacity, size_t* count, char* error, size_t error_size) {
  return guarded(error, error_size, [&] {
    need(mask != nullptr || length == 0, "mask");
    need(count != nullptr, "count");
    const auto found = stale::mask_segments(mask, length, threshold, regions_of(regions), min_snippets);
    *count = found.size();
    if (found.size() > capacity) return STALE_BUFFER_TOO_SMALL;
    need_buffer(segments, found.empty(), "segments");
    for (std::size_t i = 0; i < found.size(); ++i) {
      segments[2 * i] = found[i].start;
      segments[2 * i + 1] = found[i].end;
    }
    return STALE_OK;
  });
}

stale_status stale_decode_paper(const float* class_logits, const float* masks, size_t n_classes, size_t n_snippets,
                                const stale_decode_parameters* parameters, stale_detection* detections, size_t capacity,
                                size_t* count, char* error, size_t error_size) {
  return guarded(error, error_size, [&] {
    need(class_logits != nullptr, "class_logits");
    need(masks != nullptr, "masks");
    need(parameters != nullptr, "parameters");
    need(parameters->mask_thresholds != nullptr || parameters->n_mask_thresholds == 0, "mask_thresholds");
    need(count != nullptr, "count");
    const stale::DecodeParameters p{parameters->class_threshold,
                                    parameters->top_snippets,
                                    parameters->mask_thresholds,
                                    parameters->n_mask_thresholds,
                                    regions_of(parameters->regions),
                                    parameters->min_snippets,
                                    soft_nms_parameters(parameters->soft_nms)};
    return give(stale::decode_paper(class_logits, masks, n_classes, n_snippets, p), detections, capacity, count);
  });
}

stale_status stale_decode_release(const float* class_logits, const float* masks, size_t n_classes, size_t n_snippets,
                                  stale_detection* detections, size_t capacity, size_t* count, char* error, size_t error_size) {
  return guarded(error, error_size, [&] {
    need(class_logits != nullptr, "class_logits");
    need(masks != nullptr, "masks");
    need(count != nullptr, "count");
    return give(stale::decode_release(class_logits, masks, n_classes, n_snippets), detections, capacity, count);
  });
}

stale_status stale_decode_points(const stale_points* points, const stale_points_parameters* parameters,
                                 stale_detection* detections, size_t capacity, size_t* count, char* error, size_t error_size) {
  return guarded(error, error_size, [&] {
    need(points != nullptr, "points");
    need(points->class_logits != nullptr, "class_logits");
    need(points->offsets != nullptr, "offsets");
    need(points->valid != nullptr, "valid");
    need(points->level_lengths != nullptr, "level_lengths");
    need(parameters != nullptr, "parameters");
    need(count != nullptr, "count");
    const stale::Points given{points->class_logits, points->offsets,       points->valid,   points->n_points,
                              points->n_classes,    points->level_lengths, points->n_levels};
    stale::PointsParameters p{parameters->pre_nms_threshold,
                              parameters->pre_nms_top_k,
                              parameters->duration_threshold,
                              parameters->multiclass != 0,
                              parameters->soft_nms.method != STALE_SOFT_NMS_NONE,
                              parameters->voting_threshold,
                              {}};
    if (p.suppress) {
      p.soft_nms = soft_nms_parameters(parameters->soft_nms);
      p.soft_nms.length_margin = stale::kPointsLengthMargin;
    }
    return give(stale::decode_points(given, p), detections, capacity, count);
  });
}

stale_status stale_decode_runs(const float* class_logits, const float* attention, size_t n_classes, size_t n_snippets,
                               const stale_runs_parameters* parameters, stale_detection* detections, size_t capacity,
                               size_t* count, char* error, size_t error_size) {
  return guarded(error, error_size, [&] {
    need(class_logits != nullptr, "class_logits");
    need(parameters != nullptr, "parameters");
    need(parameters->thresholds != nullptr || parameters->n_thresholds == 0, "thresholds");
    need(count != nullptr, "count");
    stale::RunScore run_score{};
    switch (parameters->run_score) {
      case STALE_RUN_MAXIMUM: run_score = stale::RunScore::maximum; break;
      case STALE_RUN_CONTRAST: run_score = stale::RunScore::contrast; break;
      case STALE_RUN_MEAN_CONTRAST: run_score = stale::RunScore::mean_contrast; break;
      default: stale::fail({"run_score must be 0 (maximum), 1 (contrast) or 2 (mean contrast); got ", parameters->run_score});
    }
    const stale::RunsParameters p{parameters->class_threshold,
                                  parameters->top_share,
                                  parameters->thresholds,
                                  parameters->n_thresholds,
                                  parameters->alone != 0,
                                  parameters->scaled != 0,
                                  parameters->smoothing,
                                  run_score,
                                  parameters->surroundings,
                                  parameters->video_weight,
                                  parameters->length_power,
                                  parameters->min_snippets,
                                  soft_nms_parameters(parameters->soft_nms)};
    return give(stale::decode_runs({class_logits, attention, n_classes, n_snippets}, p), detections, capacity, count);
  });
}

stale_status stale_take_video_label(stale_detection* detections, size_t count, int64_t video_label, double video_score,
                                    char* error, size_t error_size) {
  return guarded(error, error_size, [&] {
    need_buffer(detections, count == 0, "detections");
    if (!std::isfinite(video_score)) stale::fail({"video_score must be finite; got ", video_score});
    for (std::size_t i = 0; i < count; ++i) {
      if (detections[i].score <= video_score) detections[i].label = video_label;
    }
    return STALE_OK;
  });
}

}  // extern "C"
