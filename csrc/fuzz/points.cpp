// Fuzzes the decoder of point detectors.
#include "bytes.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Bytes bytes(data, size);
  const std::size_t n_points = bytes.below(16);
  const std::size_t n_classes = bytes.below(4);
  const std::vector<float> logits = bytes.reals(n_points * n_classes);
  const std::vector<float> offsets = bytes.reals(2 * n_points);
  std::vector<std::uint8_t> valid(n_points);
  for (std::uint8_t& one : valid) one = static_cast<std::uint8_t>(bytes.byte() < 220);
  std::vector<std::int64_t> lengths;
  for (std::size_t left = n_points; left > 0 && bytes.byte() < 240;) {  // mostly lengths that add up
    lengths.push_back(static_cast<std::int64_t>(1 + bytes.below(left)));
    left -= static_cast<std::size_t>(lengths.back());
  }
  if (bytes.byte() > 240) lengths.push_back(bytes.count());
  const stale::Points points{logits.data(), offsets.data(), valid.data(), n_points, n_classes, lengths.data(), lengths.size()};
  const double threshold = bytes.share();
  const std::int64_t top = bytes.count();
  const double duration = bytes.flag() ? 0.0 : bytes.number();
  const bool multiclass = bytes.flag();
  const bool suppress = bytes.flag();
  const double voting = bytes.flag() ? 0.0 : bytes.share();
  const stale::PointsParameters p{threshold, top, duration, multiclass, suppress, voting, fuzz::soft_nms_parameters(bytes)};
  fuzz::call([&] {
    const auto proposals = stale::points_proposals(points, p);
    CHECK(proposals.size() <= lengths.size() * static_cast<std::size_t>(top));
    for (const auto& one : proposals) CHECK(one.end - one.start > p.duration_threshold && one.score > p.pre_nms_threshold);
  });
  fuzz::call([&] {
    const auto found = stale::decode_points(points, p);
    fuzz::check_detections(found, n_classes, p.suppress ? p.soft_nms.top_k : stale::kNoLimit);
  });
  const fuzz::Rows rows(bytes);
  fuzz::call([&] { CHECK(stale::suppress_points(rows.view(), p).size() <= rows.n); });
  return 0;
}
