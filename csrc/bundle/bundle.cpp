#include "bundle.hpp"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <stdexcept>
#include <utility>

namespace stale {
namespace {

const std::vector<std::string> kFormats{"stale-edge-bundle/1", "stale-edge-bundle/2"};

std::string sha256(const std::string& content) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  if (EVP_Digest(content.data(), content.size(), digest.data(), &size, EVP_sha256(), nullptr) != 1) {
    throw std::runtime_error("OpenSSL cannot compute a sha256");
  }
  std::string text;
  for (unsigned i = 0; i < size; ++i) {
    text += "0123456789abcdef"[digest[i] >> 4];
    text += "0123456789abcdef"[digest[i] & 15];
  }
  return text;
}

[[noreturn]] void refuse(const std::string& message) { throw std::runtime_error(message); }

}  // namespace

Bundle::Bundle(std::string folder) : folder_(std::move(folder)) {
  manifest_ = parse_json(read_inside(folder_, "manifest.json", std::nullopt, kMostManifestBytes), folder_ + "/manifest.json");
  const std::string format = text_of(manifest_, "format");
  if (std::find(kFormats.begin(), kFormats.end(), format) == kFormats.end()) {
    refuse(folder_ + ": bundle of format " + shown(format) + "; this program reads " + kFormats[0] + " and " + kFormats[1]);
  }
  const nlohmann::json& files = member(manifest_, "files");
  const bool objects = std::all_of(files.begin(), files.end(), [](const auto& entry) { return entry.is_object(); });
  if (!files.is_array() || !objects) refuse(folder_ + ": files of the manifest must be a list of objects");
}

const nlohmann::json& Bundle::file(const std::string& role, const std::string& runtime, const std::string& precision) const {
  const nlohmann::json* found = nullptr;
  std::string held;
  for (const auto& entry : member(manifest_, "files")) {
    if (member(entry, "role") != role) continue;
    const bool runs = member(entry, "runtime").is_string();  // a class bank does not
    if (runs) held += (held.empty() ? "" : ", ") + text_of(entry, "runtime") + " " + text_of(entry, "precision");
    if (runs && (text_of(entry, "runtime") != runtime || text_of(entry, "precision") != precision)) continue;
    if (found != nullptr) refuse(folder_ + ": the manifest lists two files of role " + role + " for " + runtime + " " + precision);
    found = &entry;
  }
  if (found != nullptr) return *found;
  refuse(folder_ + ": the bundle has no " + role + " for " + runtime + " " + precision + "; it has " +
         (held.empty() ? "none" : shown(held)));
}

std::string Bundle::checked_file(const nlohmann::json& entry) const {
  const std::string name = text_of(entry, "path");
  std::string folded = name;
  std::transform(folded.begin(), folded.end(), folded.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
  if (folded == "manifest.json") refuse(folder_ + ": no file of a bundle can be called " + shown(name));
  const std::string content = read_inside(folder_, name, integer_of(entry, "bytes", 0, kMostFileBytes), kMostFileBytes);
  if (sha256(content) != text_of(entry, "sha256")) {
    refuse(folder_ + ": " + shown(name) + " has changed: its bytes are not those that the manifest names");
  }
  return content;
}

std::string Bundle::network(const std::string& role, const std::string& runtime, const std::string& precision) const {
  return checked_file(file(role, runtime, precision));
}

std::vector<Read> Bundle::reads(const std::string& runtime, const std::string& precision) const {
  const Policy& policy = policy_of(decode_settings());
  const nlohmann::json& outputs = member(file("detector", runtime, precision), "outputs");
  std::vector<Read> reads;
  const auto add = [&](const std::string& name) {
    const auto named = [&](const nlohmann::json& output) { return text_of(output, "name") == name; };
    const auto found = std::find_if(outputs.begin(), outputs.end(), named);
    if (found != outputs.end()) reads.push_back({name, static_cast<std::size_t>(found - outputs.begin())});
    return found != outputs.end();
  };
  for (const std::string& name : policy.reads) {
    if (!add(name)) {
      refuse("policy " + policy.name + " reads " + name + ", which is no output of the " + runtime + " " + precision + " detector");
    }
  }
  for (const std::string& name : policy.may_read) add(name);
  return reads;
}

ClassBank Bundle::class_bank() const {
  const nlohmann::json& entry = file("class_bank", "", "");
  const std::string where = folder_ + "/" + text_of(entry, "path");
  const auto arrays = parse_npz(checked_file(entry), where);
  if (arrays.count("names") == 0 || arrays.count("embeddings") == 0) refuse(where + ": must hold names and embeddings");
  ClassBank bank{strings_of(arrays.at("names"), where), matrix_of(arrays.at("embeddings"), where)};
  const std::vector<float>& values = bank.embeddings.values;
  if (values.empty() || bank.names.size() != bank.embeddings.rows) {
    refuse(where + ": must hold at least one class, and one embedding a name; got " + std::to_string(bank.names.size()) +
           " names and " + std::to_string(bank.embeddings.rows) + " embeddings");
  }
  if (!std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); })) {
    refuse(where + ": an embedding is not finite");
  }
  const std::set<std::string> distinct(bank.names.begin(), bank.names.end());
  if (distinct.size() < bank.names.size() || distinct.count("") > 0) refuse(where + ": a name is empty, or stands there twice");
  return bank;
}

Matrix Bundle::fitted(const Matrix& features) const {
  const nlohmann::json& contract = member(manifest_, "feature_contract");
  const std::string got = "; got T = " + std::to_string(features.rows) + ", C = " + std::to_string(features.columns);
  const std::size_t channels = integer_of(contract, "channels", 1, kMostNumbers);
  const std::string resampling = text_of(contract, "resampling");
  const bool linear = resampling == "linear";
  if (!linear && resampling != "none") {
    refuse("the feature contract's resampling " + shown(resampling) + " is not known to this program; it knows linear and none");
  }
  std::size_t length = 0;  // 0: any
  if (linear) length = integer_of(contract, "resample_to", 1, kMostSnippets);
  if (!linear && !member(contract, "length").is_null()) length = integer_of(contract, "length", 1, kMostSnippets);
  if (features.columns != channels) {
    refuse("features must have C = " + std::to_string(channels) + " channels (encoder " + shown(text_of(contract, "encoder")) +
           ")" + got);
  }
  if (features.rows == 0 || features.rows > kMostSnippets) {
    refuse("features need 1 to " + std::to_string(kMostSnippets) + " snippets" + got);
  }
  const auto bad = std::find_if_not(features.values.begin(), features.values.end(), [](float x) { return std::isfinite(x); });
  if (bad != features.values.end()) {
    const auto index = static_cast<std::size_t>(bad - features.values.begin());
    refuse("features must be finite; snippet " + std::to_string(index / channels) + ", channel " +
           std::to_string(index % channels) + " is not");
  }
  if (linear) return resampled(features, length);
  if (length != 0 && features.rows != length) {
    refuse("features must have T = " + std::to_string(length) + " snippets, the length of this network" + got);
  }
  return features;
}

Matrix resampled(const Matrix& features, std::size_t length) {
  if (features.rows == length) return features;
  const std::size_t C = features.columns;
  if (length > kMostNumbers / C) refuse("resampled features would be more than " + std::to_string(kMostNumbers) + " numbers");
  Matrix result{length, C, std::vector<float>(length * C)};
  const double step = static_cast<double>(features.rows) / static_cast<double>(length);
  for (std::size_t i = 0; i < length; ++i) {
    const double position = std::max((static_cast<double>(i) + 0.5) * step - 0.5, 0.0);
    const std::size_t left = std::min(static_cast<std::size_t>(position), features.rows - 1);
    const std::size_t right = std::min(left + 1, features.rows - 1);
    const auto weight = static_cast<float>(position - static_cast<double>(left));
    for (std::size_t c = 0; c < C; ++c) {
      result.values[i * C + c] =
          features.values[left * C + c] * (1.0F - weight) + features.values[right * C + c] * weight;
    }
  }
  return result;
}

}  // namespace stale
