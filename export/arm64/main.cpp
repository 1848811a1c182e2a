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
    const nlohmann::json given = nlohmann::json::parse(stale::read_file(path));
    const stale::Matrix logits = stale::read_features(folder + "/" + given.at("class_logits").get<std::string>());
    const stale::Matrix masks = stale::read_features(folder + "/" + given.at("masks").get<std::string>());
    const std::vector<std::string> names = given.at("class_names");
    if (logits.rows != names.size() + 1 || masks.rows != logits.columns || masks.columns != logits.columns) {
      throw std::runtime_error(path + ": class logits must be (K + 1, T) and masks (T, T)");
    }
    stale::report(stale::stem(path), argc == 4 ? std::stoi(argv[3]) : 0, [&] {
      return stale::decode(given.at("decode"), logits.values.data(), masks.values.data(), logits.columns, names,
                           given.at("duration_s"));
    });
    return 0;
  } catch (const std::exception& problem) {
    std::cerr << "error: " << problem.what() << "\n";
    return 1;
  }
}
