// Fuzzes tIoU, soft-NMS and the joining of windows.
#include <algorithm>

#include "bytes.hpp"

namespace {

void check_picks(const std::vector<stale::Pick>& picks, const std::vector<double>& scores, const stale::SoftNmsParameters& p) {
  CHECK(p.top_k == stale::kNoLimit || picks.size() <= static_cast<std::size_t>(p.top_k));
  std::vector<bool> seen(scores.size(), false);
  for (std::size_t i = 0; i < picks.size(); ++i) {
    CHECK(picks[i].row >= 0 && static_cast<std::size_t>(picks[i].row) < scores.size());
    const auto row = static_cast<std::size_t>(picks[i].row);
    CHECK(!seen[row]);
    seen[row] = true;
    CHECK(picks[i].score >= p.min_score && picks[i].score <= scores[row]);
    CHECK(i == 0 || picks[i - 1].score >= picks[i].score);
  }
}

void overlaps(fuzz::Bytes& bytes) {
  const std::size_t n = bytes.below(6);
  const std::size_t m = bytes.below(6);
  const std::vector<double> segments = bytes.segments(n);
  const std::vector<double> others = bytes.segments(m);
  std::vector<double> out(n * m, -1.0);
  fuzz::call([&] {
    stale::tiou(segments.data(), n, others.data(), m, out.data());
    CHECK(std::all_of(out.begin(), out.end(), [](double value) { return value >= 0.0 && value <= 1.0; }));
  });
}

void suppression(fuzz::Bytes& bytes) {
  const fuzz::Rows rows(bytes);
  const stale::SoftNmsParameters p = fuzz::soft_nms_parameters(bytes);
  fuzz::call([&] { check_picks(stale::soft_nms(rows.segments.data(), rows.scores.data(), rows.n, p), rows.scores, p); });
}

void suppression_by_label(fuzz::Bytes& bytes) {
  const fuzz::Rows rows(bytes);
  const fuzz::Rows settled(bytes);
  const stale::SoftNmsParameters p = fuzz::soft_nms_parameters(bytes);
  fuzz::call([&] { check_picks(stale::soft_nms_by_label(rows.view(), settled.view(), p), rows.scores, p); });
}

void seams(fuzz::Bytes& bytes) {
  const fuzz::Rows earlier(bytes);
  const fuzz::Rows later(bytes);
  const std::vector<double> times = bytes.numbers(5);
  const stale::Seam seam{times[0], times[1], times[2], times[3], times[4]};
  fuzz::call([&] {
    const auto joined = stale::join_at_seam(earlier.view(), later.view(), seam);
    CHECK(joined.size() <= earlier.n + later.n);
    for (const stale::Detection& one : joined) CHECK(std::isfinite(one.score) && std::isfinite(one.start) && std::isfinite(one.end));
  });
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Bytes bytes(data, size);
  switch (bytes.below(4)) {
    case 0: overlaps(bytes); break;
    case 1: suppression(bytes); break;
    case 2: suppression_by_label(bytes); break;
    default: seams(bytes); break;
  }
  return 0;
}
