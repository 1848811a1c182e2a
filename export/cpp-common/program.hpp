// What all programs do alike: read the command line, print detections, time, and turn whatever goes wrong into one line.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "bundle.hpp"

namespace stale {

struct Options {
  std::string bundle;
  std::string features;
  double duration_s = 0.0;
  std::string precision = "fp32";
  std::string graph = "detector";
  int repeat = 0;
};

// main() of a program: PROGRAM BUNDLE FEATURES.npy --duration SECONDS [--precision P] [--graph G] [--repeat N], or --version.
// Returns the exit code: 0; 1 with one line on stderr for whatever `run` throws; 2 for a wrong command line.
int run_program(int argc, char** argv, const std::string& version, const std::function<void(const Options&)>& run);

// Localizes once and prints the detections as JSON; with options.repeat, times it and writes the median to stderr.
void report(const std::string& video, int repeat, const std::function<std::vector<NamedDetection>()>& localize);

// The stem of a path: "videos/jump.npy" gives "jump".
std::string stem(const std::string& path);

// The features of a file, float32 or float16 (T, C).
Matrix read_features(const std::string& path);

}  // namespace stale
