// decode_case CASE.json [--repeat N]: saved network outputs to detections with the core alone, as ../README.md says.
#include <exception>
#include <filesystem>
#include <iostream>
#include <string>

#include "program.hpp"

int main(int argc, char** argv) {
  try {
    if (argc != 2 && !(argc == 4 && std::string(argv[2]) == "--repeat")) throw std::runtime_error("expected CASE.json");
    const std::string path = argv[1];
    const std::string folder = std::filesystem::path(path).parent_path().string();
    const nlohmann::json given = stale::parse_json(stale::read_file(path), path);
    const std::vector<std::string> names = stale::member(given, "class_names");
    std::vector<stale::Matrix> arrays;
    for (const std::string& output : stale::policy_of(stale::member(given, "decode")).reads) {
      arrays.push_back(stale::read_features(folder + "/" + stale::text_of(given, output)));
    }
    std::vector<stale::Output> outputs;
    for (const stale::Matrix& array : arrays) {
      outputs.push_back({array.values.data(), {1, static_cast<std::int64_t>(array.rows), static_cast<std::int64_t>(array.columns)}});
    }
    const stale::Video video{names, arrays.at(0).columns, stale::TimeGrid{stale::number_of(given, "duration_s")}};
    stale::report(stale::stem(path), argc == 4 ? std::stoi(argv[3]) : 0,
                  [&] { return stale::decode(given.at("decode"), outputs, video); });
    return 0;
  } catch (const std::exception& problem) {
    std::cerr << "error: " << problem.what() << "\n";
    return 1;
  }
}
