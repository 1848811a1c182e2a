// Soft-NMS that does not touch every pair.
//
// A pick can only lower scores, so a score that has not yet heard of the latest picks is an upper bound of the true one.
// A heap holds these bounds. The top candidate catches up with the picks it has missed, in the order they were made; if it
// falls below the next bound on the way, it goes back into the heap at once, with a cursor that says how far it got.
// The candidate that is up to date and still on top is the next pick.
//
// The gaussian rule is a product of exponentials; its logarithm is a sum, so the heap is ordered by
// log(score) - sum(tiou^2) / sigma, and exp is called once a pick instead of once a pair.
#include <algorithm>
#include <cmath>
#include <limits>

#include "checks.hpp"
#include "overlap.hpp"
#include "stale_core.hpp"

namespace stale {
namespace {

struct Candidate {
  double key;  // what the heap is ordered by: the score, or for the gaussian rule its logarithm
  double start;
  double end;
  std::uint32_t row;
  std::uint32_t cursor;  // how many picks the key has heard of
};

bool worse(const Candidate& a, const Candidate& b) { return a.key < b.key || (a.key == b.key && a.row > b.row); }

// Lets heap[0], which has changed, sink to its place.
void sink(std::vector<Candidate>& heap) {
  const std::size_t n = heap.size();
  const Candidate moving = heap[0];
  std::size_t hole = 0;
  for (std::size_t child = 1; child < n; child = 2 * hole + 1) {
    if (child + 1 < n && worse(heap[child], heap[child + 1])) ++child;
    if (!worse(moving, heap[child])) break;
    heap[hole] = heap[child];
    hole = child;
  }
  heap[hole] = moving;
}

struct Span {
  double start;
  double end;
};

template <SoftNmsMethod method>
double decayed(double key, double tiou, const SoftNmsParameters& p) {
  if constexpr (method == SoftNmsMethod::gaussian) return key - tiou * tiou / p.sigma;
  if (tiou < p.tiou_threshold) return key;
  if constexpr (method == SoftNmsMethod::linear) return key * (1.0 - tiou);
  return 0.0;
}

template <SoftNmsMethod method>
std::vector<Pick> lazy_soft_nms(const double* segments, const double* scores, std::size_t n, const SoftNmsParameters& p) {
  constexpr bool logarithmic = method == SoftNmsMethod::gaussian;
  const double floor_key = logarithmic ? std::log(p.min_score) : p.min_score;
  // A threshold of zero is reached by every pair, also by those that do not overlap.
  const bool every_pair = method == SoftNmsMethod::hard && p.tiou_threshold <= 0.0;

  std::vector<Candidate> heap;
  heap.reserve(n);
  for (std::size_t i = 0; i < n; ++i) {
    if (scores[i] < p.min_score) continue;
    const double key = logarithmic ? std::log(scores[i]) : scores[i];
    heap.push_back({key, segments[2 * i], segments[2 * i + 1], static_cast<std::uint32_t>(i), 0});
  }
  std::make_heap(heap.begin(), heap.end(), worse);

  const std::size_t limit = p.top_k == kNoLimit ? n : static_cast<std::size_t>(p.top_k);
  std::vector<Pick> picks;
  std::vector<Span> picked;
  while (!heap.empty() && picks.size() < limit) {
    Candidate& top = heap[0];
    double next = -std::numeric_limits<double>::infinity();
    if (heap.size() > 1) next = heap[1].key;
    if (heap.size() > 2) next = std::max(next, heap[2].key);
    const double stop = std::max(next, floor_key);
    while (top.cursor < picked.size() && top.key >= stop) {
      const Span& pick = picked[top.cursor++];
      if (every_pair) {
        top.key = 0.0;
      } else if (pick.start < top.end && top.start < pick.end) {
        top.key = decayed<method>(top.key, overlap(pick.start, pick.end, top.start, top.end), p);
      }
    }
    const bool dead = top.key < floor_key;
    const bool current = top.cursor == picked.size();
    const bool first = current && !(heap.size() > 1 && worse(top, heap[1])) && !(heap.size() > 2 && worse(top, heap[2]));
    if (!dead && !first) {
      sink(heap);
      continue;
    }
    if (!dead) {
      picks.push_back({static_cast<std::int64_t>(top.row), logarithmic ? 0.0 : top.key});
      if (logarithmic) {
        // Undecayed scores come back as they went in, not through log and exp.
        const double score = scores[top.row];
        const double key = std::log(score);
        picks.back().score = key == top.key ? score : std::exp(top.key);
      }
      picked.push_back({top.start, top.end});
    }
    heap[0] = heap.back();
    heap.pop_back();
    if (!heap.empty()) sink(heap);
  }
  return picks;
}

}  // namespace

std::vector<Pick> soft_nms(const double* segments, const double* scores, std::size_t n, const SoftNmsParameters& parameters) {
  check_soft_nms(parameters);
  check_segments(segments, n, "segments");
  check_scores(scores, n);
  if (n > std::numeric_limits<std::uint32_t>::max()) fail("at most 2^32 - 1 candidates; got " + std::to_string(n));
  switch (parameters.method) {
    case SoftNmsMethod::gaussian:
      return lazy_soft_nms<SoftNmsMethod::gaussian>(segments, scores, n, parameters);
    case SoftNmsMethod::linear:
      return lazy_soft_nms<SoftNmsMethod::linear>(segments, scores, n, parameters);
    case SoftNmsMethod::hard:
      return lazy_soft_nms<SoftNmsMethod::hard>(segments, scores, n, parameters);
  }
  fail("method must be gaussian, linear or hard");
}

}  // namespace stale
