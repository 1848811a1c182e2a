// Softmax over the classes of every snippet, in the layout (K+1, T).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace stale {

// exp(x) for x <= 0, relative error below 1e-7. Unlike std::exp it is vectorised in a loop.
// exp(x) = 2^n * exp(r) with n = round(x / ln 2) and |r| <= ln(2) / 2; with the minimax polynomial of Cephes' expf.
inline float exp_nonpositive(float x) {
  constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer kept in the low bits
  x = std::max(x, -87.0F);               // below, the result is less than the smallest normal float
  const float shifted = x * 1.44269504F + kRound;
  std::int32_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  const float n = shifted - kRound;
  const float r = (x - n * 0.693359375F) + n * 2.12194440e-4F;
  float y = 1.9875691500e-4F;
  y = y * r + 1.3981999507e-3F;
  y = y * r + 8.3334519073e-3F;
  y = y * r + 4.1665795894e-2F;
  y = y * r + 1.6666665459e-1F;
  y = y * r + 5.0000001201e-1F;
  y = y * r * r + r + 1.0F;
  const std::uint32_t power = static_cast<std::uint32_t>(bits - 0x4B400000 + 127) << 23;
  float scale;
  std::memcpy(&scale, &power, sizeof scale);
  return y * scale;
}

// Unnormalised softmax: probability[k, t] = weights[k * T + t] / sums[t].
template <typename Sum>
struct SnippetSoftmax {
  std::vector<float> weights;  // (K+1, T), exp(logit - max of the snippet)
  std::vector<Sum> sums;       // (T,), added from the first row to the last
};

template <typename Sum>
SnippetSoftmax<Sum> snippet_softmax(const float* class_logits, std::size_t n_rows, std::size_t n_snippets) {
  const std::size_t T = n_snippets;
  std::vector<float> highest(class_logits, class_logits + T);
  for (std::size_t k = 1; k < n_rows; ++k) {
    const float* row = class_logits + k * T;
    for (std::size_t t = 0; t < T; ++t) highest[t] = std::max(highest[t], row[t]);
  }
  SnippetSoftmax<Sum> result{std::vector<float>(n_rows * T), std::vector<Sum>(T, Sum{0})};
  for (std::size_t k = 0; k < n_rows; ++k) {
    const float* row = class_logits + k * T;
    float* weights = result.weights.data() + k * T;
    Sum* sums = result.sums.data();
    for (std::size_t t = 0; t < T; ++t) weights[t] = exp_nonpositive(row[t] - highest[t]);
    for (std::size_t t = 0; t < T; ++t) sums[t] += static_cast<Sum>(weights[t]);
  }
  return result;
}

}  // namespace stale
