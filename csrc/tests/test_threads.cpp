// Eight threads at once get the same result as one.
#include <thread>
#include <vector>

#include "check.hpp"
#include "made_video.hpp"
#include "stale_core.hpp"

namespace {

std::vector<stale::Detection> decode_both(const MadeVideo& v) {
  const double thresholds[] = {0.2, 0.4, 0.6, 0.8};
  const stale::DecodeParameters p{
      0.05, 50, thresholds, 4, stale::Regions::runs, 1, {stale::SoftNmsMethod::gaussian, 0.5, 0.5, 0.001, 100, 0.0}};
  std::vector<stale::Detection> found = stale::decode_paper(v.class_logits.data(), v.masks.data(), v.K, v.T, p);
  const auto release = stale::decode_release(v.class_logits.data(), v.masks.data(), v.K, v.T);
  found.insert(found.end(), release.begin(), release.end());
  return found;
}

}  // namespace

int main() {
  constexpr std::size_t kThreads = 8;
  std::vector<MadeVideo> videos;
  std::vector<std::vector<stale::Detection>> alone;
  for (unsigned seed = 0; seed < 10; ++seed) {
    videos.push_back(made_video(10, 40, seed));
    alone.push_back(decode_both(videos.back()));
  }
  std::vector<std::vector<std::vector<stale::Detection>>> together(kThreads);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      for (const MadeVideo& video : videos) together[i].push_back(decode_both(video));
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& results : together) {
    CHECK(results.size() == alone.size());
    for (std::size_t v = 0; v < alone.size(); ++v) {
      CHECK(results[v].size() == alone[v].size());
      for (std::size_t d = 0; d < alone[v].size(); ++d) {
        CHECK(results[v][d].label == alone[v][d].label && results[v][d].score == alone[v][d].score);
        CHECK(results[v][d].start == alone[v][d].start && results[v][d].end == alone[v][d].end);
      }
    }
  }
  return 0;
}
