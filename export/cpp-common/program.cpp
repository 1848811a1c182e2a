#include "program.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <iostream>
#include <stdexcept>

namespace stale {
namespace {

struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

template <typename Number>
Number number(const std::string& text, const std::string& option, Number (*parse)(const std::string&, std::size_t*)) {
  std::size_t used = 0;
  try {
    const Number value = parse(text, &used);
    if (used == text.size()) return value;
  } catch (const std::exception&) {  // falls through to the message
  }
  throw UsageError(option + " must be a number; got '" + text + "'");
}

Options parsed(const std::vector<std::string>& arguments) {
  Options options;
  std::vector<std::string> paths;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& name = arguments[i];
    if (name.compare(0, 2, "--") != 0) {
      paths.push_back(name);
      continue;
    }
    if (i + 1 == arguments.size()) throw UsageError(name + " needs a value");
    const std::string& value = arguments[++i];
    if (name == "--duration") {
      options.duration_s = number<double>(value, name, [](const std::string& s, std::size_t* n) { return std::stod(s, n); });
    } else if (name == "--repeat") {
      options.repeat = number<int>(value, name, [](const std::string& s, std::size_t* n) { return std::stoi(s, n); });
    } else if (name == "--precision") {
      options.precision = value;
    } else if (name == "--graph") {
      options.graph = value == "localizer" ? "pipeline" : value;  // format 1 calls its role so
    } else {
      throw UsageError("unknown option " + name);
    }
  }
  if (paths.size() != 2) throw UsageError("expected BUNDLE and FEATURES.npy");
  if (!std::isfinite(options.duration_s) || options.duration_s <= 0.0) {
    throw UsageError("--duration must be the length of the video in seconds, finite and > 0");
  }
  options.bundle = paths[0];
  options.features = paths[1];
  return options;
}

constexpr std::size_t kLongestLine = 900;

// What a terminal shows as one line, whatever a bundle holds.
std::string one_line(std::string text) {
  const auto is_control = [](unsigned char c) { return c < ' ' || c == 0x7F; };
  std::replace_if(text.begin(), text.end(), is_control, '?');
  return text.size() > kLongestLine ? text.substr(0, kLongestLine) + "..." : text;
}

constexpr const char* kUsage =
    " BUNDLE FEATURES.npy --duration SECONDS [--precision fp32|int8] [--graph detector|pipeline] [--repeat N]\n";
constexpr const char* kHelp = R"(
Finds actions in a video's features with a bundle, and prints them as JSON.

  BUNDLE          the bundle's folder
  FEATURES.npy    features (T, C) of the whole video, float32 or float16
  --duration      length of the video in seconds, > 0
  --precision     fp32 (the default) or int8
  --graph         detector: the network, then the C++ core decodes; pipeline: one file from features to segments
  --repeat        run N more times and write the median time to stderr
  --version       print the version of the runtime
)";

}  // namespace

int run_program(int argc, char** argv, const std::string& version, const std::function<void(const Options&)>& run) {
  try {
    const std::vector<std::string> arguments(argv + 1, argv + argc);
    if (arguments == std::vector<std::string>{"--version"}) {
      std::cout << version << "\n";
      return 0;
    }
    if (arguments == std::vector<std::string>{"--help"} || arguments == std::vector<std::string>{"-h"}) {
      std::cout << "usage: " << argv[0] << kUsage << kHelp;
      return 0;
    }
    run(parsed(arguments));
    return 0;
  } catch (const UsageError& problem) {
    std::cerr << one_line(problem.what()) << "; usage: " << argv[0] << kUsage;
    return 2;
  } catch (const std::exception& problem) {
    std::cerr << "error: " << one_line(problem.what()) << "\n";
    return 1;
  }
}

void report(const std::string& video, int repeat, const std::function<std::vector<NamedDetection>()>& localize) {
  auto rows = nlohmann::ordered_json::array();
  for (const NamedDetection& d : localize()) {
    rows.push_back({{"label", d.label}, {"score", d.score}, {"segment", {d.start_s, d.end_s}}});
  }
  nlohmann::ordered_json layout;
  layout["version"] = "1.3";
  layout["results"] = {{video, rows}};
  layout["external_data"] = nlohmann::ordered_json::object();
  std::cout << layout.dump(2) << std::endl;

  if (repeat < 1) return;
  constexpr int kWarmUps = 3;
  std::vector<double> milliseconds;
  for (int i = -kWarmUps; i < repeat; ++i) {
    const auto start = std::chrono::steady_clock::now();
    localize();
    const std::chrono::duration<double, std::milli> passed = std::chrono::steady_clock::now() - start;
    if (i >= 0) milliseconds.push_back(passed.count());
  }
  std::sort(milliseconds.begin(), milliseconds.end());
  const std::size_t n = milliseconds.size();
  std::fprintf(stderr, "milliseconds: %.3f\n", (milliseconds[(n - 1) / 2] + milliseconds[n / 2]) / 2);
}

std::string stem(const std::string& path) { return std::filesystem::path(path).stem().string(); }

Matrix read_features(const std::string& path) { return matrix_of(parse_npy(read_file(path), path), path); }

}  // namespace stale
