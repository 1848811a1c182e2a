// The tiny networks of the paper's localizer, for the snippets whose masks are read.
//
// The video is processed in blocks whose hidden channels stay in the nearest cache. The innermost loops run over snippets, so
// that the compiler vectorises them.
#include <algorithm>
#include <array>
#include <cmath>

#include "checks.hpp"
#include "softmax.hpp"
#include "stale_core.hpp"

namespace stale {
namespace {

constexpr std::size_t kBlock = 64;  // snippets

using Channel = std::array<float, kBlock>;

// The weights of one tiny network of n channels.
struct Network {
  Network(const float* weights, std::size_t width)
      : n(width + 1),
        w1(weights),
        slope(w1 + n * width),
        b1(slope + n),
        w2(b1 + n),
        w3(w2 + n * n) {}

  std::size_t n;
  const float* w1;
  const float* slope;
  const float* b1;
  const float* w2;
  const float* w3;
};

void relu(Channel& channel) {
  for (float& value : channel) value = std::max(value, 0.0F);
}

void add(Channel& sum, float weight, const float* values) {
  for (std::size_t t = 0; t < kBlock; ++t) sum[t] += weight * values[t];
}

// The first layer: features (width + 2, kBlock), channels `stride` numbers apart.
void first_layer(const Network& network, const float* features, std::size_t stride, float position, std::vector<Channel>& hidden) {
  const std::size_t width = network.n - 1;
  for (std::size_t k = 0; k < network.n; ++k) {
    hidden[k].fill(network.b1[k] - network.slope[k] * position);
    for (std::size_t j = 0; j < width; ++j) add(hidden[k], network.w1[k * width + j], features + j * stride);
    add(hidden[k], network.slope[k], features + width * stride);
    relu(hidden[k]);
  }
}

void second_layer(const Network& network, const std::vector<Channel>& from, std::vector<Channel>& to) {
  for (std::size_t k = 0; k < network.n; ++k) {
    to[k].fill(0.0F);
    for (std::size_t j = 0; j < network.n; ++j) add(to[k], network.w2[k * network.n + j], from[j].data());
    relu(to[k]);
  }
}

void third_layer(const Network& network, const std::vector<Channel>& from, Channel& mask) {
  mask.fill(0.0F);
  for (std::size_t j = 0; j < network.n; ++j) add(mask, network.w3[j], from[j].data());
  for (float& value : mask) {
    const float e = exp_nonpositive(-std::fabs(value));
    value = (value < 0.0F ? e : 1.0F) / (1.0F + e);
  }
}

}  // namespace

std::size_t mask_network_size(std::size_t width) {
  const std::size_t n = width + 1;
  return n * width + 2 * n + n * n + n;
}

void mask_rows(const float* networks, const float* features, std::size_t width, std::size_t n_snippets,
               const std::int64_t* given_rows, std::size_t n_rows, float* out) {
  check_aligned(networks, "networks");
  check_aligned(features, "features");
  check_aligned(given_rows, "rows");
  check_aligned(out, "out");
  const std::vector<std::int64_t> rows(given_rows, given_rows + n_rows);  // a copy, which no other thread changes
  if (width == 0 || n_snippets == 0) {
    fail({"features must have shape (width + 2, T) with width >= 1 and T >= 1; got (", width + 2, ", ", n_snippets, ")"});
  }
  for (std::size_t i = 0; i < n_rows; ++i) {
    if (rows[i] < 0 || rows[i] >= static_cast<std::int64_t>(n_snippets)) {
      fail({"rows must be snippets in [0, ", n_snippets, "); rows[", i, "] is ", rows[i]});
    }
  }
  const float* positions = features + width * n_snippets;
  std::vector<Channel> first(width + 1);
  std::vector<Channel> second(width + 1);
  std::vector<float> rest((width + 2) * kBlock);
  Channel mask;
  for (std::size_t start = 0; start < n_snippets; start += kBlock) {
    const std::size_t length = std::min(kBlock, n_snippets - start);
    const float* block = features + start;
    std::size_t stride = n_snippets;
    if (length < kBlock) {  // the last block is padded, so that every loop has a fixed length
      for (std::size_t j = 0; j < width + 2; ++j) std::copy_n(block + j * n_snippets, length, rest.begin() + static_cast<std::ptrdiff_t>(j * kBlock));
      block = rest.data();
      stride = kBlock;
    }
    for (std::size_t i = 0; i < n_rows; ++i) {
      const auto row = static_cast<std::size_t>(rows[i]);
      const Network network(networks + row * mask_network_size(width), width);
      first_layer(network, block, stride, positions[row], first);
      second_layer(network, first, second);
      third_layer(network, second, mask);
      std::copy_n(mask.begin(), length, out + i * n_snippets + start);
    }
  }
}

}  // namespace stale
