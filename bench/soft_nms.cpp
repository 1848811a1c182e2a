// Times the core's soft-NMS against the textbook version on several kinds of candidates, and checks that their picks agree.
// Prints a Markdown table. See bench/README.md.
#include <cmath>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "soft_nms_textbook.hpp"
#include "stale_core.hpp"
#include "timing.hpp"

namespace {

struct Case {
  const char* kind;
  double span;      // starts are uniform in [0, span)
  double shortest;  // lengths are uniform in [shortest, longest); for "mixed" their logarithm is uniform
  double longest;
  std::size_t n;
  std::int64_t top_k;
};

bool alike(const std::vector<stale::Pick>& a, const std::vector<stale::Pick>& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i].row != b[i].row || std::fabs(a[i].score - b[i].score) > 1e-12) return false;
  }
  return true;
}

}  // namespace

int main() {
  constexpr Case cases[] = {
      {"dense", 100, 1, 30, 2000, stale::kNoLimit},   {"dense", 100, 1, 30, 10000, 200},
      {"short", 100, 0.5, 10, 2000, stale::kNoLimit}, {"short", 100, 0.5, 10, 10000, 200},
      {"sparse", 3000, 1, 30, 2000, stale::kNoLimit}, {"sparse", 3000, 1, 30, 10000, 200},
      {"disjoint", 1e6, 1, 30, 2000, stale::kNoLimit}, {"nested", 1, 50, 100, 2000, stale::kNoLimit},
      {"nested", 1, 50, 100, 10000, 200},             {"mixed", 3000, 1, 1000, 2000, stale::kNoLimit},
      {"mixed", 3000, 1, 1000, 10000, 200},
  };
  const stale::SoftNmsMethod methods[] = {stale::SoftNmsMethod::gaussian, stale::SoftNmsMethod::linear,
                                          stale::SoftNmsMethod::hard};
  const char* names[] = {"gaussian", "linear", "hard"};
  std::printf("| candidates | kind | rule | top_k | picks | textbook ms | core ms | ratio |\n|---|---|---|---|---|---|---|---|\n");
  for (const Case& c : cases) {
    for (int m = 0; m < 3; ++m) {
      const stale::SoftNmsParameters p{methods[m], 0.5, 0.5, 0.001, c.top_k, 0.0};
      std::vector<double> textbook_s;
      std::vector<double> core_s;
      std::size_t n_picks = 0;
      for (unsigned seed = 0; seed < 11; ++seed) {
        std::mt19937_64 random(seed);
        std::uniform_real_distribution<double> unit(0.0, 1.0);
        std::vector<double> segments;
        std::vector<double> scores;
        for (std::size_t i = 0; i < c.n; ++i) {
          const double start = unit(random) * c.span;
          segments.push_back(start);
          const double share = unit(random);
          segments.push_back(start + (c.kind == std::string("mixed") ? c.shortest * std::pow(c.longest / c.shortest, share)
                                                                     : c.shortest + share * (c.longest - c.shortest)));
          scores.push_back(unit(random));
        }
        std::vector<stale::Pick> slow;
        std::vector<stale::Pick> fast;
        textbook_s.push_back(bench::seconds([&] { slow = bench::soft_nms_textbook(segments.data(), scores.data(), c.n, p); }));
        core_s.push_back(bench::seconds([&] { fast = stale::soft_nms(segments.data(), scores.data(), c.n, p); }));
        if (!alike(slow, fast)) {
          std::fprintf(stderr, "%s, %s, seed %u: the core picks otherwise than the textbook\n", c.kind, names[m], seed);
          return 1;
        }
        n_picks = fast.size();
      }
      const double slow_ms = 1e3 * bench::median(textbook_s);
      const double fast_ms = 1e3 * bench::median(core_s);
      std::printf("| %zu | %s | %s | %s | %zu | %.3f | %.3f | %.0f x |\n", c.n, c.kind, names[m],
                  c.top_k == stale::kNoLimit ? "-" : "200", n_picks, slow_ms, fast_ms, slow_ms / fast_ms);
    }
  }
  return 0;
}
