// Checks of arguments that several parts of the core share. Each failure names the row.
#pragma once

#include <cstddef>
#include <string>

#include "stale_core.hpp"

namespace stale {

[[noreturn]] void fail(const std::string& message);

// A number as a user would type it.
std::string text(double value);

void check_segments(const double* segments, std::size_t n, const char* name);
void check_scores(const double* scores, std::size_t n);
void check_soft_nms(const SoftNmsParameters& parameters);
void check_network_output(const float* class_logits, const float* masks, std::size_t n_classes, std::size_t n_snippets);

}  // namespace stale
