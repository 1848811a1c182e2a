// Runs a fuzz target without libFuzzer: every file that is named, and N changed copies of each, always the same ones.
//
//     fuzz_points_replay N FILE...
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>

#include "bytes.hpp"

namespace {

std::vector<std::uint8_t> changed(std::vector<std::uint8_t> bytes, std::mt19937& random) {
  if (bytes.empty()) bytes.resize(64);
  for (int i = 0; i < 4; ++i) bytes[random() % bytes.size()] = static_cast<std::uint8_t>(random());
  if (random() % 8 == 0) bytes.resize(1 + random() % (2 * bytes.size()));
  return bytes;
}

// In a heap block of exactly its size, so that AddressSanitizer sees every byte too far.
void run(const std::vector<std::uint8_t>& input) {
  const std::vector<std::uint8_t> own(input.begin(), input.end());
  LLVMFuzzerTestOneInput(own.data(), own.size());
}

}  // namespace

int main(int n_arguments, char** arguments) {
  CHECK(n_arguments >= 3);
  const long copies = std::strtol(arguments[1], nullptr, 10);
  std::mt19937 random(1);
  long n = 0;
  for (int i = 2; i < n_arguments; ++i) {
    std::ifstream file(arguments[i], std::ios::binary);
    CHECK(file.good());
    const std::vector<std::uint8_t> seed{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    run(seed);
    std::vector<std::uint8_t> input = seed;
    for (long copy = 0; copy < copies; ++copy, ++n) {
      input = copy % 16 == 0 ? changed(seed, random) : changed(input, random);
      run(input);
    }
    ++n;
  }
  std::printf("%ld inputs\n", n);
  return 0;
}
