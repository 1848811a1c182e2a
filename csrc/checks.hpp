// Checks of arguments that several parts of the core share. Each failure names the row.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <string>
#include <vector>

#include "stale_core.hpp"

namespace stale {

// Part of a message: a text, which is borrowed, or a number, which is written as a user would type it.
struct Part {
  Part(const char* words) : words(words) {}                // NOLINT(google-explicit-constructor): used in lists of parts
  Part(const std::string& words) : words(words.c_str()) {}  // NOLINT(google-explicit-constructor)
  template <typename Number>
  Part(Number number) : number(static_cast<double>(number)) {}  // NOLINT(google-explicit-constructor)

  const char* words = nullptr;  // null: a number
  double number = 0.0;
};

[[noreturn]] void fail(std::initializer_list<Part> message);

template <typename Value>
void check_aligned(const Value* values, const char* name) {
  if (reinterpret_cast<std::uintptr_t>(values) % alignof(Value) != 0) {
    fail({name, " is misaligned; its address must be a multiple of ", alignof(Value), ": copy it"});
  }
}

// The largest length of a segment, so that the sum of two lengths is finite.
constexpr double kLongest = std::numeric_limits<double>::max() / 4.0;

void check_segments(const double* segments, std::size_t n, const char* name);
void check_scores(const double* scores, std::size_t n);
// Copy of labelled segments, which no other thread can change.
class LabelledCopy {
 public:
  LabelledCopy(const Labelled& given, const char* name);  // checks them
  explicit LabelledCopy(const std::vector<Detection>& detections);
  Labelled view() const { return {segments_.data(), labels_.data(), scores_.data(), scores_.size()}; }

 private:
  std::vector<double> segments_;
  std::vector<std::int64_t> labels_;
  std::vector<double> scores_;
};

void check_soft_nms(const SoftNmsParameters& parameters);
void check_class_logits(const float* class_logits, std::size_t n_classes, std::size_t n_snippets);
void check_network_output(const float* class_logits, const float* masks, std::size_t n_classes, std::size_t n_snippets);

}  // namespace stale
