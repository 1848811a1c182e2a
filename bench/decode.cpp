// Times the whole post-processing of one video, section 3.3 of the paper, from logits and masks to detections.
// Prints a Markdown table. See bench/README.md.
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "stale_core.hpp"
#include "timing.hpp"

namespace {

struct Video {
  std::vector<float> class_logits;
  std::vector<float> masks;
};

// A video with a few actions with high logits and smooth bumps as masks; `noise` is added to every mask value.
Video made_video(std::size_t K, std::size_t T, float noise, unsigned seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  Video video{std::vector<float>((K + 1) * T), std::vector<float>(T * T)};
  for (float& value : video.class_logits) value = normal(random);
  std::vector<double> centre(T, -1.0);
  std::vector<double> width(T, 1.0);
  for (int action = 0; action < 4; ++action) {
    const std::size_t label = random() % K;
    const std::size_t start = random() % T;
    const std::size_t end = std::min(T, start + T / 20 + random() % (T / 5 + 1));
    for (std::size_t t = start; t < end; ++t) {
      video.class_logits[label * T + t] += 8.0F;
      centre[t] = static_cast<double>(start + end) / 2.0;
      width[t] = static_cast<double>(end - start) / 2.0;
    }
  }
  for (std::size_t i = 0; i < T; ++i) {
    for (std::size_t t = 0; t < T; ++t) {
      const double distance = centre[i] < 0.0 ? 9.0 : (static_cast<double>(t) - centre[i]) / width[i];
      const float bump = static_cast<float>(1.0 / (1.0 + std::exp(6.0 * (std::fabs(distance) - 1.0))));
      video.masks[i * T + t] = std::min(1.0F, std::max(0.0F, bump + noise * normal(random)));
    }
  }
  return video;
}

}  // namespace

int main() {
  // The default DecodeConfig, and one with the nine thresholds of the paper.
  const double three[] = {0.05, 0.1, 0.2};
  const double nine[] = {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9};
  const stale::SoftNmsParameters soft_nms{stale::SoftNmsMethod::gaussian, 0.5, 0.5, 0.001, 100, 0.0};
  const stale::DecodeParameters policies[] = {{0.05, 100, three, 3, stale::Regions::runs, 1, soft_nms},
                                              {0.05, 100, nine, 9, stale::Regions::runs, 1, soft_nms}};
  std::printf("| K | T | masks | paper ms | nine thresholds ms | release ms |\n|---|---|---|---|---|---|\n");
  for (const std::size_t K : {std::size_t{20}, std::size_t{200}}) {
    for (const std::size_t T : {std::size_t{100}, std::size_t{200}, std::size_t{1000}}) {
      for (const float noise : {0.0F, 0.05F, 0.4F}) {
        std::vector<double> seconds[3];
        for (unsigned seed = 0; seed < 31; ++seed) {
          const Video video = made_video(K, T, noise, seed);
          const float* logits = video.class_logits.data();
          const float* masks = video.masks.data();
          std::vector<stale::Detection> found;
          for (std::size_t i = 0; i < 2; ++i) {
            seconds[i].push_back(bench::seconds([&] { found = stale::decode_paper(logits, masks, K, T, policies[i]); }));
          }
          seconds[2].push_back(bench::seconds([&] { found = stale::decode_release(logits, masks, K, T); }));
        }
        std::printf("| %zu | %zu | noise %.2f | %.3f | %.3f | %.3f |\n", K, T, static_cast<double>(noise),
                    1e3 * bench::median(seconds[0]), 1e3 * bench::median(seconds[1]), 1e3 * bench::median(seconds[2]));
      }
    }
  }
  return 0;
}
