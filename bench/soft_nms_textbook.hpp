// Textbook soft-NMS: after every pick, all other candidates decay. O(N^2), one scalar pair at a time.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "stale_core.hpp"

namespace bench {

inline std::vector<stale::Pick> soft_nms_textbook(const double* segments, const double* scores, std::size_t n,
                                                  const stale::SoftNmsParameters& p) {
  struct Candidate {
    double start, end, score;
    std::int64_t row;
  };
  std::vector<Candidate> left;
  for (std::size_t i = 0; i < n; ++i) {
    if (scores[i] >= p.min_score) {
      left.push_back({segments[2 * i], segments[2 * i + 1], scores[i], static_cast<std::int64_t>(i)});
    }
  }
  std::vector<stale::Pick> picks;
  while (!left.empty() && (p.top_k == stale::kNoLimit || picks.size() < static_cast<std::size_t>(p.top_k))) {
    std::size_t best = 0;
    for (std::size_t i = 1; i < left.size(); ++i) {
      if (left[i].score > left[best].score || (left[i].score == left[best].score && left[i].row < left[best].row)) best = i;
    }
    const Candidate pick = left[best];
    picks.push_back({pick.row, pick.score});
    left[best] = left.back();
    left.pop_back();
    for (std::size_t i = 0; i < left.size();) {
      Candidate& other = left[i];
      const double shared = std::max(0.0, std::min(pick.end, other.end) - std::max(pick.start, other.start));
      const double either = (pick.end - pick.start) + (other.end - other.start) + 2.0 * p.length_margin - shared;
      const double tiou = shared > 0.0 ? shared / either : 0.0;
      switch (p.method) {
        case stale::SoftNmsMethod::gaussian: other.score *= std::exp(-tiou * tiou / p.sigma); break;
        case stale::SoftNmsMethod::linear: other.score *= tiou >= p.tiou_threshold ? 1.0 - tiou : 1.0; break;
        case stale::SoftNmsMethod::hard: other.score *= tiou >= p.tiou_threshold ? 0.0 : 1.0; break;
      }
      if (other.score < p.min_score) {
        other = left.back();
        left.pop_back();
      } else {
        ++i;
      }
    }
  }
  return picks;
}

}  // namespace bench
