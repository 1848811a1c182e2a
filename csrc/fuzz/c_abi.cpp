// Fuzzes the C interface: null and misaligned pointers, unknown choices, and buffers that are too small.
#include "bytes.hpp"
#include "stale_core.h"

namespace {

// An array in a heap block of exactly its size, that is now and then given as null or one byte off its alignment.
template <typename Value>
class Array {
 public:
  Array(fuzz::Bytes& bytes, const std::vector<Value>& values) : bytes_(values.size() * sizeof(Value) + 1) {
    const std::uint8_t kind = bytes.byte();
    if (kind == 255) return;
    Value* place = reinterpret_cast<Value*>(bytes_.data() + (kind == 254 ? 1 : 0));
    if (!values.empty()) std::memcpy(static_cast<void*>(place), values.data(), values.size() * sizeof(Value));
    data_ = place;
  }
  Value* get() { return data_; }

 private:
  std::vector<std::uint8_t> bytes_;
  Value* data_ = nullptr;
};

struct Results {
  explicit Results(fuzz::Bytes& bytes) : capacity(bytes.below(14)), error_size(bytes.below(40)), message(error_size) {
    no_message = bytes.byte() > 250;
    no_count = bytes.byte() > 250;
  }
  char* error() { return no_message ? nullptr : message.data(); }
  std::size_t* count_or_null() { return no_count ? nullptr : &count; }

  void check(stale_status status) const {
    CHECK(status == STALE_OK || status == STALE_INVALID_ARGUMENT || status == STALE_BUFFER_TOO_SMALL);
    if (status == STALE_OK) CHECK(no_count || count <= capacity);
    if (status == STALE_BUFFER_TOO_SMALL) CHECK(count > capacity);
    if (status != STALE_OK && !no_message && error_size > 0) CHECK(std::memchr(message.data(), 0, error_size) != nullptr);
  }

  std::size_t capacity;
  std::size_t error_size;
  std::size_t count = 0;
  std::vector<char> message;
  bool no_message;
  bool no_count;
};

stale_soft_nms_parameters soft_nms_of(fuzz::Bytes& bytes) {
  const stale::SoftNmsParameters p = fuzz::soft_nms_parameters(bytes);
  const auto method = bytes.byte() < 250 ? static_cast<std::int32_t>(p.method) : static_cast<std::int32_t>(bytes.count());
  return {method, p.sigma, p.tiou_threshold, p.min_score, p.top_k};
}

void tiou(fuzz::Bytes& bytes) {
  const std::size_t n = bytes.below(5);
  const std::size_t m = bytes.below(5);
  Array<double> segments(bytes, bytes.segments(n));
  Array<double> others(bytes, bytes.segments(m));
  Array<double> out(bytes, std::vector<double>(n * m));
  Results results(bytes);
  const stale_status status = stale_tiou(segments.get(), n, others.get(), m, out.get(), results.error(), results.error_size);
  CHECK(status == STALE_OK || status == STALE_INVALID_ARGUMENT);
}

void soft_nms(fuzz::Bytes& bytes) {
  const std::size_t n = bytes.below(10);
  Array<double> segments(bytes, bytes.segments(n));
  Array<double> scores(bytes, bytes.numbers(n));
  const stale_soft_nms_parameters p = soft_nms_of(bytes);
  Results results(bytes);
  Array<std::int64_t> kept(bytes, std::vector<std::int64_t>(results.capacity));
  Array<double> decayed(bytes, std::vector<double>(results.capacity));
  results.check(stale_soft_nms(segments.get(), scores.get(), n, bytes.byte() < 250 ? &p : nullptr, kept.get(), decayed.get(),
                               results.capacity, results.count_or_null(), results.error(), results.error_size));
}

void mask_segments(fuzz::Bytes& bytes) {
  const std::size_t length = bytes.below(20);
  Array<float> mask(bytes, bytes.shares(length));
  const double threshold = bytes.share();
  const auto regions = static_cast<std::int32_t>(bytes.count());
  const std::int64_t min_snippets = bytes.count();
  Results results(bytes);
  Array<std::int64_t> segments(bytes, std::vector<std::int64_t>(2 * results.capacity));
  results.check(stale_mask_segments(mask.get(), length, threshold, regions, min_snippets, segments.get(), results.capacity,
                                    results.count_or_null(), results.error(), results.error_size));
}

struct Video {
  explicit Video(fuzz::Bytes& bytes)
      : n_classes(bytes.below(4)),
        n_snippets(bytes.below(8)),
        class_logits(bytes, bytes.reals((n_classes + 1) * n_snippets)),
        masks(bytes, bytes.shares(n_snippets * n_snippets)) {}

  std::size_t n_classes;
  std::size_t n_snippets;
  Array<float> class_logits;
  Array<float> masks;
};

void decode_paper(fuzz::Bytes& bytes) {
  Video video(bytes);
  const std::size_t n_thresholds = bytes.below(4);
  Array<double> thresholds(bytes, bytes.thresholds(n_thresholds));
  stale_decode_parameters p{};
  p.class_threshold = bytes.share();
  p.top_snippets = bytes.count();
  p.mask_thresholds = thresholds.get();
  p.n_mask_thresholds = n_thresholds;
  p.regions = static_cast<std::int32_t>(bytes.count());
  p.min_snippets = bytes.count();
  p.soft_nms = soft_nms_of(bytes);
  Results results(bytes);
  Array<stale_detection> detections(bytes, std::vector<stale_detection>(results.capacity));
  results.check(stale_decode_paper(video.class_logits.get(), video.masks.get(), video.n_classes, video.n_snippets,
                                   bytes.byte() < 250 ? &p : nullptr, detections.get(), results.capacity,
                                   results.count_or_null(), results.error(), results.error_size));
}

void decode_release(fuzz::Bytes& bytes) {
  Video video(bytes);
  Results results(bytes);
  Array<stale_detection> detections(bytes, std::vector<stale_detection>(results.capacity));
  results.check(stale_decode_release(video.class_logits.get(), video.masks.get(), video.n_classes, video.n_snippets,
                                     detections.get(), results.capacity, results.count_or_null(), results.error(),
                                     results.error_size));
}

void decode_points(fuzz::Bytes& bytes) {
  const std::size_t n_points = bytes.below(12);
  const std::size_t n_classes = bytes.below(4);
  const std::size_t n_levels = bytes.below(4);
  Array<float> logits(bytes, bytes.reals(n_points * n_classes));
  Array<float> offsets(bytes, bytes.reals(2 * n_points));
  Array<std::uint8_t> valid(bytes, std::vector<std::uint8_t>(n_points, 1));
  Array<std::int64_t> lengths(bytes, n_levels == 1 ? std::vector<std::int64_t>{static_cast<std::int64_t>(n_points)} : bytes.counts(n_levels));
  const stale_points points{logits.get(), offsets.get(), valid.get(), n_points, n_classes, lengths.get(), n_levels};
  stale_points_parameters p{};
  p.pre_nms_threshold = bytes.share();
  p.pre_nms_top_k = bytes.count();
  p.duration_threshold = bytes.flag() ? 0.0 : bytes.number();
  p.multiclass = static_cast<std::int32_t>(bytes.flag());
  p.voting_threshold = bytes.flag() ? 0.0 : bytes.share();
  p.soft_nms = soft_nms_of(bytes);
  Results results(bytes);
  Array<stale_detection> detections(bytes, std::vector<stale_detection>(results.capacity));
  results.check(stale_decode_points(bytes.byte() < 250 ? &points : nullptr, bytes.byte() < 250 ? &p : nullptr, detections.get(),
                                    results.capacity, results.count_or_null(), results.error(), results.error_size));
}

void decode_runs(fuzz::Bytes& bytes) {
  const std::size_t n_classes = bytes.below(4);
  const std::size_t n_snippets = bytes.below(16);
  Array<float> logits(bytes, bytes.reals((n_classes + 1) * n_snippets));
  Array<float> attention(bytes, bytes.shares(n_snippets));
  const std::size_t n_thresholds = bytes.below(4);
  Array<double> thresholds(bytes, bytes.thresholds(n_thresholds));
  stale_runs_parameters p{};
  p.class_threshold = bytes.share();
  p.top_share = bytes.share();
  p.thresholds = thresholds.get();
  p.n_thresholds = n_thresholds;
  p.scaled = static_cast<std::int32_t>(bytes.flag());
  p.alone = static_cast<std::int32_t>(bytes.flag());
  p.smoothing = bytes.share();
  p.run_score = static_cast<std::int32_t>(bytes.below(4));
  p.surroundings = bytes.share();
  p.video_weight = bytes.share();
  p.length_power = bytes.share();
  p.min_snippets = bytes.count();
  p.soft_nms = soft_nms_of(bytes);
  Results results(bytes);
  Array<stale_detection> detections(bytes, std::vector<stale_detection>(results.capacity));
  results.check(stale_decode_runs(logits.get(), attention.get(), n_classes, n_snippets, bytes.byte() < 250 ? &p : nullptr,
                                  detections.get(), results.capacity, results.count_or_null(), results.error(),
                                  results.error_size));
}

void take_video_label(fuzz::Bytes& bytes) {
  const std::size_t n = bytes.below(6);
  std::vector<stale_detection> given(n);
  for (stale_detection& one : given) one = {bytes.count(), bytes.number(), 0.0, 1.0};
  Array<stale_detection> detections(bytes, given);
  const std::int64_t label = bytes.count();
  const double score = bytes.number();
  Results results(bytes);
  const stale_status status = stale_take_video_label(detections.get(), n, label, score, results.error(), results.error_size);
  CHECK(status == STALE_OK || status == STALE_INVALID_ARGUMENT);
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  CHECK(stale_core_abi_version() == STALE_CORE_ABI_VERSION);
  fuzz::Bytes bytes(data, size);
  void (*const entries[])(fuzz::Bytes&) = {tiou,          soft_nms,      mask_segments, decode_paper, decode_release,
                                          decode_points, decode_runs,   take_video_label};
  entries[bytes.below(sizeof(entries) / sizeof(entries[0]))](bytes);
  return 0;
}
