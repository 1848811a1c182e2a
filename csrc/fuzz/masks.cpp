// Fuzzes the decoders that read masks: those of the paper and of the public script, and the mask networks.
#include "bytes.hpp"

namespace {

void one_mask(fuzz::Bytes& bytes) {
  const std::size_t length = bytes.below(20);
  const std::vector<float> mask = bytes.shares(length);
  const double threshold = bytes.share();
  const auto regions = static_cast<stale::Regions>(bytes.below(2));
  const std::int64_t min_snippets = bytes.count();
  fuzz::call([&] {
    const auto found = stale::mask_segments(mask.data(), length, threshold, regions, min_snippets);
    std::int64_t last = 0;
    for (const stale::SnippetSegment& segment : found) {
      CHECK(segment.start >= last && segment.end - segment.start >= min_snippets);
      last = segment.end;
    }
    CHECK(last <= static_cast<std::int64_t>(length));
  });
}

struct Video {
  explicit Video(fuzz::Bytes& bytes)
      : n_classes(bytes.below(4)),
        n_snippets(bytes.below(10)),
        class_logits(bytes.reals((n_classes + 1) * n_snippets)),
        masks(bytes.shares(n_snippets * n_snippets)) {}

  std::size_t n_classes;
  std::size_t n_snippets;
  std::vector<float> class_logits;
  std::vector<float> masks;
};

void paper(fuzz::Bytes& bytes) {
  const Video video(bytes);
  const std::vector<double> thresholds = bytes.thresholds(bytes.below(4));
  const double class_threshold = bytes.share();
  const std::int64_t top_snippets = bytes.count();
  const auto regions = static_cast<stale::Regions>(bytes.below(2));
  const std::int64_t min_snippets = bytes.count();
  const stale::DecodeParameters p{class_threshold, top_snippets, thresholds.data(), thresholds.size(), regions, min_snippets,
                                  fuzz::soft_nms_parameters(bytes)};
  const float* logits = video.class_logits.data();
  const float* masks = video.masks.data();
  fuzz::call([&] {
    fuzz::check_detections(stale::decode_paper(logits, masks, video.n_classes, video.n_snippets, p), video.n_classes, p.soft_nms.top_k);
  });
  fuzz::call([&] {
    for (const auto& one : stale::paper_proposals(logits, masks, video.n_classes, video.n_snippets, p)) {
      CHECK(one.start >= 0.0 && one.start < one.end && one.end <= static_cast<double>(video.n_snippets));
    }
  });
  fuzz::call([&] {
    std::int64_t last = -1;
    for (const std::int64_t row : stale::voting_snippets(logits, video.n_classes, video.n_snippets, class_threshold, top_snippets)) {
      CHECK(row > last && row < static_cast<std::int64_t>(video.n_snippets));
      last = row;
    }
  });
}

void release(fuzz::Bytes& bytes) {
  const Video video(bytes);
  const std::int64_t label = bytes.count();
  const double score = bytes.number();
  fuzz::call([&] {
    for (const auto& one : stale::release_proposals(video.class_logits.data(), video.masks.data(), video.n_classes, video.n_snippets)) {
      CHECK(stale::release_order(one.start, one.end, one.label) == stale::release_order(one.start, one.end, one.label));
    }
  });
  fuzz::call([&] {
    auto found = stale::decode_release(video.class_logits.data(), video.masks.data(), video.n_classes, video.n_snippets);
    CHECK(found.size() <= 100);
    for (const auto& one : found) CHECK(std::isfinite(one.score));
    stale::take_video_label(found, label, score);
  });
}

void networks(fuzz::Bytes& bytes) {
  const std::size_t width = bytes.below(4);
  const std::size_t n_snippets = bytes.below(80);  // more than one block of the core
  const std::vector<float> features = bytes.reals((width + 2) * n_snippets);
  const std::vector<float> weights = bytes.reals(n_snippets * stale::mask_network_size(width));
  const std::vector<std::int64_t> rows = bytes.counts(bytes.below(5));
  std::vector<float> out(rows.size() * n_snippets);
  fuzz::call([&] { stale::mask_rows(weights.data(), features.data(), width, n_snippets, rows.data(), rows.size(), out.data()); });
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Bytes bytes(data, size);
  switch (bytes.below(4)) {
    case 0: one_mask(bytes); break;
    case 1: paper(bytes); break;
    case 2: release(bytes); break;
    default: networks(bytes); break;
  }
  return 0;
}
