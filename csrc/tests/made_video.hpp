// Random network outputs for tests.
#pragma once

#include <cstddef>
#include <random>
#include <vector>

struct MadeVideo {
  std::size_t K;
  std::size_t T;
  std::vector<float> class_logits;
  std::vector<float> masks;
};

inline MadeVideo made_video(std::size_t K, std::size_t T, unsigned seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0.0F, 3.0F);
  std::uniform_real_distribution<float> unit(0.0F, 1.0F);
  MadeVideo video{K, T, std::vector<float>((K + 1) * T), std::vector<float>(T * T)};
  for (float& value : video.class_logits) value = normal(random);
  for (float& value : video.masks) value = unit(random);
  return video;
}
