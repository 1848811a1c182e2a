#include "bundle.hpp"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>
#include <utility>

namespace stale {
namespace {

constexpr const char* kFormat = "stale-edge-bundle/1";

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
  const std::string path = folder_ + "/manifest.json";
  manifest_ = nlohmann::json::parse(read_file(path), nullptr, /*allow_exceptions=*/false);
  if (!manifest_.is_object()) refuse(path + ": not a JSON object");
  const nlohmann::json format = manifest_.value("format", nlohmann::json());
  if (format != kFormat) refuse(path + ": bundle of format " + format.dump() + "; this program reads \"" + kFormat + "\"");
}

std::string Bundle::checked_file(const nlohmann::json& entry) const {
  const std::string name = entry.at("path");
  const std::string content = read_file(folder_ + "/" + name);
  if (content.size() != entry.at("bytes").get<std::size_t>() || sha256(content) != entry.at("sha256")) {
    refuse(folder_ + ": " + name + " has changed: its bytes are not those that the manifest names");
  }
  return content;
}

std::string Bundle::network(const std::string& role, const std::string& runtime, const std::string& precision) const {
  std::string held = "none";
  for (const auto& entry : manifest_.at("files")) {
    if (entry.at("role") != role) continue;
    if (entry.at("runtime") == runtime && entry.at("precision") == precision) return checked_file(entry);
    held = held == "none" ? "" : held + ", ";
    held += entry.at("runtime").get<std::string>() + " " + entry.at("precision").get<std::string>();
  }
  refuse(folder_ + ": the bundle has no " + runtime + " " + precision + " " + role + "; it has " + held);
}

ClassBank Bundle::class_bank() const {
  for (const auto& entry : manifest_.at("files")) {
    if (entry.at("role") != "class_bank") continue;
    const std::string where = folder_ + "/" + entry.at("path").get<std::string>();
    const auto arrays = parse_npz(checked_file(entry), where);
    ClassBank bank{strings_of(arrays.at("names"), where), matrix_of(arrays.at("embeddings"), where)};
    if (bank.names.size() != bank.embeddings.rows) refuse(where + ": names and embeddings are not equally many");
    return bank;
  }
  refuse(folder_ + ": the bundle has no class bank");
}

Matrix Bundle::fitted(const Matrix& features) const {
  const nlohmann::json& contract = manifest_.at("feature_contract");
  const std::string got = "; got T = " + std::to_string(features.rows) + ", C = " + std::to_string(features.columns);
  const auto channels = contract.at("channels").get<std::size_t>();
  if (features.columns != channels) {
    refuse("features must have C = " + std::to_string(channels) + " channels (encoder " +
           contract.at("encoder").get<std::string>() + ")" + got);
  }
  if (features.rows == 0) refuse("features need at least one snippet" + got);
  const auto bad = std::find_if_not(features.values.begin(), features.values.end(), [](float x) { return std::isfinite(x); });
  if (bad != features.values.end()) {
    const auto index = static_cast<std::size_t>(bad - features.values.begin());
    refuse("features must be finite; snippet " + std::to_string(index / channels) + ", channel " +
           std::to_string(index % channels) + " is not");
  }
  const std::string resampling = contract.at("resampling");
  if (resampling == "linear") return resampled(features, contract.at("resample_to").get<std::size_t>());
  if (resampling != "none") refuse("the feature contract's resampling '" + resampling + "' is not known to this program");
  if (!contract.at("length").is_null() && features.rows != contract.at("length").get<std::size_t>()) {
    refuse("features must have T = " + contract.at("length").dump() + " snippets, the length of this network" + got);
  }
  return features;
}

std::vector<NamedDetection> Bundle::decode(const float* class_logits, const float* masks, std::size_t n_snippets,
                                           const std::vector<std::string>& class_names, double duration_s) const {
  return stale::decode(manifest_.at("decode"), class_logits, masks, n_snippets, class_names, duration_s);
}

Matrix resampled(const Matrix& features, std::size_t length) {
  if (features.rows == length) return features;
  const std::size_t C = features.columns;
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
