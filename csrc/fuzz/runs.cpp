// Fuzzes the decoder of runs.
#include "bytes.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Bytes bytes(data, size);
  const std::size_t n_classes = bytes.below(4);
  const std::size_t n_snippets = bytes.below(24);
  const std::vector<float> logits = bytes.reals((n_classes + 1) * n_snippets);
  const bool has_attention = bytes.flag();
  const std::vector<float> attention = bytes.shares(n_snippets);
  const stale::Snippets snippets{logits.data(), has_attention ? attention.data() : nullptr, n_classes, n_snippets};
  const std::vector<double> thresholds = bytes.thresholds(bytes.below(4));
  stale::RunsParameters p{};
  p.class_threshold = bytes.share();
  p.top_share = bytes.share();
  p.thresholds = thresholds.data();
  p.n_thresholds = thresholds.size();
  p.alone = bytes.flag();
  p.scaled = bytes.flag();
  p.smoothing = bytes.share();
  p.run_score = static_cast<stale::RunScore>(bytes.below(3));
  p.surroundings = bytes.share();
  p.video_weight = bytes.share();
  p.length_power = bytes.share();
  p.min_snippets = bytes.count();
  p.soft_nms = fuzz::soft_nms_parameters(bytes);
  fuzz::call([&] {
    for (const auto& one : stale::runs_proposals(snippets, p)) {
      CHECK(one.start >= 0.0 && one.end <= static_cast<double>(n_snippets));
      CHECK(one.end - one.start >= static_cast<double>(p.min_snippets));
    }
  });
  fuzz::call([&] { fuzz::check_detections(stale::decode_runs(snippets, p), n_classes, p.soft_nms.top_k); });
  return 0;
}
