// Joining the segments of two windows over a long video.
#include <algorithm>
#include <cmath>
#include <utility>

#include "checks.hpp"
#include "order.hpp"
#include "stale_core.hpp"

namespace stale {
namespace {

struct Segment {
  double start;
  double end;
};

Segment segment_of(const Labelled& all, std::size_t row) { return {all.segments[2 * row], all.segments[2 * row + 1]}; }

Detection detection_of(const Labelled& all, std::size_t row) {
  return {all.labels[row], all.scores[row], all.segments[2 * row], all.segments[2 * row + 1]};
}

double middle_of(const Segment& segment) { return segment.start / 2.0 + segment.end / 2.0; }  // the sum may be infinite

// Compares the parts of two segments inside the shared zone.
bool are_same(const Segment& a, const Segment& b, const Seam& at) {
  const double a_start = std::max(a.start, at.zone_start);
  const double b_start = std::max(b.start, at.zone_start);
  const double a_end = std::min(a.end, at.zone_end);
  const double b_end = std::min(b.end, at.zone_end);
  const double shared = std::min(a_end, b_end) - std::max(a_start, b_start);
  return shared > 0.0 && shared >= at.same_action * (std::max(a_end, b_end) - std::min(a_start, b_start));
}

// The start comes from the earlier window if it lies left of the seam, the end from the later one if it lies right of it.
Detection joined(const Detection& earlier, const Detection& later, double seam) {
  if (!(earlier.start < seam)) return later;
  if (!(later.end >= seam)) return earlier;
  return {earlier.label, std::max(earlier.score, later.score), earlier.start, later.end};
}

std::vector<std::uint32_t> rows_by_label_and_score(const Labelled& all) {
  return rows_in_order(
      all.n,
      [](const void* pointer, std::uint32_t row, std::uint32_t other) {
        const auto& given = *static_cast<const Labelled*>(pointer);
        if (given.labels[row] != given.labels[other]) return given.labels[row] < given.labels[other];
        return given.scores[row] > given.scores[other];
      },
      &all);
}

constexpr std::int64_t kAlone = -1;

void check_seam(const Seam& seam) {
  if (!(seam.same_action > 0.0)) fail({"same_action must be > 0; got ", seam.same_action});
  const std::pair<const char*, double> times[] = {{"zone_start", seam.zone_start},
                                                  {"zone_end", seam.zone_end},
                                                  {"seam", seam.seam},
                                                  {"final_until", seam.final_until}};
  for (const auto& [name, time] : times) {
    if (std::isnan(time)) fail({name, " must be a number, infinity too; got ", time});
  }
}

}  // namespace

std::vector<Detection> join_at_seam(const Labelled& given_earlier, const Labelled& given_later, const Seam& seam) {
  const LabelledCopy own_earlier(given_earlier, "earlier");
  const LabelledCopy own_later(given_later, "later");
  check_seam(seam);
  const Labelled earlier = own_earlier.view();
  const Labelled later = own_later.view();
  const std::vector<std::uint32_t> known = rows_by_label_and_score(earlier);
  std::vector<bool> taken(earlier.n, false);
  std::vector<std::int64_t> partners(later.n, kAlone);
  std::size_t first = 0;  // first row of the label in `known`
  for (const std::uint32_t row : rows_by_label_and_score(later)) {
    const std::int64_t label = later.labels[row];
    while (first < known.size() && earlier.labels[known[first]] < label) ++first;
    const Segment own = segment_of(later, row);
    if (own.end <= seam.final_until) continue;
    for (std::size_t i = first; i < known.size() && earlier.labels[known[i]] == label; ++i) {
      if (taken[known[i]] || !are_same(segment_of(earlier, known[i]), own, seam)) continue;
      taken[known[i]] = true;
      partners[row] = std::int64_t{known[i]};
      break;
    }
  }
  std::vector<Detection> result;
  for (std::size_t row = 0; row < later.n; ++row) {
    if (partners[row] != kAlone) {
      result.push_back(joined(detection_of(earlier, static_cast<std::size_t>(partners[row])), detection_of(later, row), seam.seam));
    } else if (segment_of(later, row).end > seam.final_until && middle_of(segment_of(later, row)) >= seam.seam) {
      result.push_back(detection_of(later, row));
    }
  }
  for (std::size_t row = 0; row < earlier.n; ++row) {
    if (!taken[row] && middle_of(segment_of(earlier, row)) < seam.seam) result.push_back(detection_of(earlier, row));
  }
  return result;
}

}  // namespace stale
