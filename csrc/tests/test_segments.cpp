#include <limits>
#include <vector>

#include "check.hpp"
#include "stale_core.hpp"

namespace {

using stale::Regions;
using stale::SnippetSegment;

std::vector<SnippetSegment> cut(const std::vector<float>& mask, double threshold, Regions regions, std::int64_t min_snippets = 1) {
  return stale::mask_segments(mask.data(), mask.size(), threshold, regions, min_snippets);
}

void finds_runs_and_hull() {
  const std::vector<float> mask{0.9F, 0.1F, 0.6F, 0.7F, 0.1F, 0.8F};
  const std::vector<SnippetSegment> runs = cut(mask, 0.5, Regions::runs);
  CHECK(runs.size() == 3);
  CHECK(runs[0].start == 0 && runs[0].end == 1);
  CHECK(runs[1].start == 2 && runs[1].end == 4);
  CHECK(runs[2].start == 5 && runs[2].end == 6);
  const std::vector<SnippetSegment> hull = cut(mask, 0.5, Regions::hull);
  CHECK(hull.size() == 1 && hull[0].start == 0 && hull[0].end == 6);
  CHECK(cut(mask, 0.5, Regions::runs, 2).size() == 1);
  CHECK(cut(mask, 0.9, Regions::runs).empty());  // strictly above
  CHECK(cut(mask, 0.95, Regions::hull).empty());
  CHECK(cut({}, 0.5, Regions::runs).empty());
  CHECK(cut({}, 0.5, Regions::hull).empty());
}

void refuses_bad_masks() {
  CHECK_REFUSES(cut({0.1F, std::numeric_limits<float>::quiet_NaN()}, 0.5, Regions::runs), "mask row 1");
  CHECK_REFUSES(cut({0.1F}, std::numeric_limits<double>::infinity(), Regions::runs), "threshold");
  CHECK_REFUSES(cut({0.1F}, 0.5, Regions::runs, 0), "min_snippets");
}

void computes_tiou() {
  const std::vector<double> a{0, 10, 2, 2};
  const std::vector<double> b{5, 15, 10, 20, 2, 2};
  std::vector<double> out(6, -1.0);
  stale::tiou(a.data(), 2, b.data(), 3, out.data());
  CHECK_NEAR(out[0], 5.0 / 15.0, 1e-15);
  CHECK(out[1] == 0.0);  // they touch
  CHECK(out[2] == 0.0);
  CHECK(out[3] == 0.0 && out[4] == 0.0 && out[5] == 0.0);  // two empty segments at one place
  const std::vector<double> reversed{1, 0};
  CHECK_REFUSES(stale::tiou(reversed.data(), 1, b.data(), 3, out.data()), "segments row 0");
  CHECK_REFUSES(stale::tiou(a.data(), 2, reversed.data(), 1, out.data()), "others row 0");
}

}  // namespace

int main() {
  finds_runs_and_hull();
  refuses_bad_masks();
  computes_tiou();
  return 0;
}
