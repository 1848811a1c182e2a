// Reading files and text that may be hostile: limits, paths that stay inside the bundle, strict JSON.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

namespace stale {

// Limits of these programs; BUNDLE.md lists them.
constexpr std::uint64_t kMostFileBytes = std::uint64_t{1} << 31;      // a network is a protobuf, which is never larger
constexpr std::uint64_t kMostManifestBytes = std::uint64_t{1} << 26;  // 64 MiB
constexpr int kMostDepth = 100;                                       // objects and lists of manifest.json inside each other
constexpr std::size_t kMostNumbers = std::size_t{1} << 28;            // float32 values of an array: 1 GiB
constexpr std::size_t kMostSnippets = std::size_t{1} << 20;           // T
constexpr std::size_t kMostDetections = std::size_t{1} << 20;
constexpr std::size_t kMostCount = std::size_t{1} << 53;  // of settings that nothing is sized by: what a double holds exactly
constexpr std::size_t kMostThresholds = 1000;

// Text from outside as a message may repeat it: 80 characters, in quotation marks.
std::string shown(const std::string& text);

// The bytes of a regular file, at most `most`. Throws std::runtime_error with the path when it cannot be read.
std::string read_file(const std::string& path, std::uint64_t most = kMostFileBytes);

// The bytes of a regular file of a folder. The name must not lead out of the folder, by ".." or by a link.
// `size`: the bytes that it must have.
std::string read_inside(const std::string& folder, const std::string& name, std::optional<std::uint64_t> size,
                        std::uint64_t most);

// A JSON object: UTF-8, no key twice, every number finite, at most kMostDepth deep.
nlohmann::json parse_json(const std::string& text, const std::string& where);

// Members of a JSON object that must be there and of this type.
const nlohmann::json& member(const nlohmann::json& object, const std::string& key);
std::string text_of(const nlohmann::json& object, const std::string& key);
double number_of(const nlohmann::json& object, const std::string& key);
std::size_t integer_of(const nlohmann::json& object, const std::string& key, std::size_t least, std::size_t most);

}  // namespace stale
