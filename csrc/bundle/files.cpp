#include "files.hpp"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <unordered_set>
#include <vector>

namespace stale {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void refuse(const std::string& message) { throw std::runtime_error(message); }

std::string read_regular(const fs::path& path, std::optional<std::uint64_t> size, std::uint64_t most) {
  std::error_code problem;
  const fs::file_status status = fs::status(path, problem);
  if (!fs::exists(status)) refuse(path.string() + ": cannot be read: " + problem.message());
  if (!fs::is_regular_file(status)) refuse(path.string() + ": must be a regular file");  // a pipe would never end
  const std::uint64_t found = fs::file_size(path, problem);
  if (problem) refuse(path.string() + ": cannot be read: " + problem.message());
  if (size && found != *size) {
    refuse(path.string() + ": has " + std::to_string(found) + " bytes; the manifest says " + std::to_string(*size));
  }
  if (found > most) {
    refuse(path.string() + ": has " + std::to_string(found) + " bytes; at most " + std::to_string(most) + " are read");
  }
  std::string content(static_cast<std::size_t>(found), '\0');
  std::ifstream file(path, std::ios::binary);
  if (!file.read(content.data(), static_cast<std::streamsize>(found))) refuse(path.string() + ": cannot be read");
  return content;
}

// Whether a path of the manifest stays inside by its name alone, on every system.
bool is_inside(const std::string& name) {
  if (name.empty() || name.find_first_of(std::string(":\\\0", 3)) != std::string::npos) return false;
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('/', begin), name.size());
    const std::string part = name.substr(begin, end - begin);
    if (part.empty() || part == "." || part == "..") return false;
    begin = end + 1;
  }
  return true;
}

}  // namespace

std::string shown(const std::string& text) {
  return "'" + (text.size() > 80 ? text.substr(0, 77) + "..." : text) + "'";
}

std::string read_file(const std::string& path, std::uint64_t most) { return read_regular(path, std::nullopt, most); }

std::string read_inside(const std::string& folder, const std::string& name, std::optional<std::uint64_t> size,
                        std::uint64_t most) {
  if (!is_inside(name)) {
    refuse("the manifest names a path outside the bundle: " + shown(name) + "; only relative paths inside are allowed");
  }
  std::error_code problem;
  const fs::path real_folder = fs::canonical(folder, problem);
  if (problem) refuse(folder + ": cannot be read: " + problem.message());
  const fs::path real = fs::canonical(real_folder / name, problem);
  if (problem) refuse(folder + ": " + shown(name) + " cannot be read: " + problem.message());
  const fs::path relative = real.lexically_relative(real_folder);
  if (relative.empty() || *relative.begin() == "..") {
    refuse(folder + ": " + shown(name) + " is a link that leads outside the bundle, to " + real.string());
  }
  return read_regular(real, size, most);
}

nlohmann::json parse_json(const std::string& text, const std::string& where) {
  std::vector<std::unordered_set<std::string>> keys;  // of the objects that are open
  const auto check = [&](int depth, nlohmann::json::parse_event_t event, nlohmann::json& value) {
    using Event = nlohmann::json::parse_event_t;
    if (depth > kMostDepth) refuse(where + ": objects and lists are more than " + std::to_string(kMostDepth) + " deep");
    if (event == Event::object_start) keys.emplace_back();
    if (event == Event::object_end) keys.pop_back();
    if (event == Event::key && !keys.back().insert(value.get<std::string>()).second) {
      refuse(where + ": the key " + shown(value.get<std::string>()) + " stands twice in one object");
    }
    return true;
  };
  const nlohmann::json value = nlohmann::json::parse(text, check, /*allow_exceptions=*/false);
  if (!value.is_object()) refuse(where + ": not a JSON object in UTF-8 with finite numbers");
  return value;
}

const nlohmann::json& member(const nlohmann::json& object, const std::string& key) {
  if (!object.is_object() || object.find(key) == object.end()) refuse("manifest.json: " + key + " is missing");
  return *object.find(key);
}

std::string text_of(const nlohmann::json& object, const std::string& key) {
  const nlohmann::json& value = member(object, key);
  if (!value.is_string()) refuse("manifest.json: " + key + " must be a string; got " + shown(value.dump()));
  return value.get<std::string>();
}

double number_of(const nlohmann::json& object, const std::string& key) {
  const nlohmann::json& value = member(object, key);
  if (!value.is_number()) refuse("manifest.json: " + key + " must be a number; got " + shown(value.dump()));
  return value.get<double>();
}

std::size_t integer_of(const nlohmann::json& object, const std::string& key, std::size_t least, std::size_t most) {
  const double value = number_of(object, key);
  if (!(value >= static_cast<double>(least) && value <= static_cast<double>(most)) || value != std::floor(value)) {
    refuse("manifest.json: " + key + " must be an integer from " + std::to_string(least) + " to " + std::to_string(most) +
           "; got " + shown(member(object, key).dump()));
  }
  return static_cast<std::size_t>(value);
}

}  // namespace stale
