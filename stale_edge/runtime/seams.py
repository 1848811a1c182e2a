"""Join the candidates of overlapping windows, one window after the other, into the detections of one video.

Two windows that follow each other share a *zone*, and in its middle lies their *seam*. Left of it the earlier window
is more reliable, as it contains more of the context; right of it the later one is. Four rules follow:

- Two segments of one label are the same action when, cut to the zone, their tIoU is at least `SAME_ACTION`. Outside
  the zone only one window has data, so nothing outside is compared: an action that one window cuts and the next one
  contains completely, or that both cut, is joined. Matching is one to one, best scores first.
- If both windows found one action, each boundary is taken from the window that owns its place: the start from the
  earlier window and the end from the later one when the action crosses the seam; both from one window when it does not.
  Its score is that of its owner, or the higher of both when it crosses.
- A segment that only one of the two windows found is kept if that window owns its middle, and dropped otherwise.
- A segment that ends before the zone of the next window begins cannot change any more and is final. The last window
  may begin before that; it does not change final segments.

Under the policies paper and runs these rules join *proposals*, and soft-NMS runs on the joined ones, window by window:
a segment that becomes final is decayed by all segments known then. A segment that may still change keeps its raw score.
A final segment still decays candidates that overlap it, like a pick of soft-NMS, as long as such candidates can come.
So the result equals soft-NMS over the whole video, except if a chain of overlapping segments is longer than the overlap
of two windows: then a segment may become final before all segments are known that change its decay indirectly.

Under the release and points policies the rules join *detections*: their soft-NMS is that of public code (the release's
can raise scores and ignores classes, that of points averages boundaries by voting), so each window runs its own, and
there is none across a seam.

The rules use only the new window and the one before. Therefore a live stream ends with the same segments as a pass over
the whole file.
"""

import numpy as np
from numpy.typing import NDArray

from stale_edge.config import DecodeSettings
from stale_edge.decoding import DecodedArrays, decoder_of, joined_at_seam, suppressed
from stale_edge.decoding.joining import NOTHING, both, rows_of
from stale_edge.segments import IntArray, tiou

SAME_ACTION = 0.5
"""Smallest tIoU inside the zone at which two segments are one action."""

MOST_SETTLED = 1000
"""Largest number of final segments that still decay others; of more, those with the most overlap are kept.

Reached only if an action of ten or more windows overlaps that many others of its class.
"""


class SeamMerger:
    """Joins the candidates of windows that come in time order: proposals or detections, as the policy says.

    All times are of the whole video, in one unit. Whatever the length of the video, it holds only the raw segments that
    reach into the zone of the next window, and the final segments that may still decay others.

    Args:
        config: the policy, and if proposals are joined its soft-NMS, `min_score` (of decayed scores) and
            `max_detections`: largest number of segments kept per window, final or not, best first.
    """

    def __init__(self, config: DecodeSettings) -> None:
        self._config = config
        self._pending = NOTHING
        self._settled = NOTHING
        self._reported = NOTHING.scores
        self._end = 0.0
        self._seam = 0.0
        self._final_until = -np.inf

    @property
    def pending(self) -> DecodedArrays:
        """Segments found so far that may still change, best first, with their current scores."""
        return self._seen(self._pending, reported=self._reported)[1]

    def add(
        self, found: DecodedArrays, *, start: float, end: float, seam: float, next_start: float | None
    ) -> DecodedArrays:
        """Take the candidates of the next window.

        Args:
            found: candidates of this window.
            start, end: the window; windows come by rising start.
            seam: time from which the next window is more reliable than this one.
            next_start: start of the next window, unless that is the last one, which ends with the video; None: this is
                the last one. Then nothing is final before `finish`.

        Returns:
            The segments that are final now, best first; they end by `next_start`.
        """
        joined = self._joined(found, start)
        self._end, self._seam = end, seam
        if next_start is None:
            self._pending, self._reported = joined, NOTHING.scores
            return NOTHING
        rows, seen = self._seen(joined)
        final = rows_of(seen, joined.segments[rows, 1] <= next_start)
        self._pending = rows_of(joined, joined.segments[:, 1] > next_start)
        self._final_until = next_start
        self._reported = final.scores
        if self._suppresses:
            self._settled = self._still_decaying(both(self._settled, final), start)
        return final

    def preview(self, found: DecodedArrays, *, start: float) -> DecodedArrays:
        """Return the pending segments if the video ended with a window from `start` on, best first; keep nothing."""
        return self._seen(self._joined(found, start))[1]

    def finish(self) -> DecodedArrays:
        """Return the pending segments as final, best first; the merger is empty afterwards."""
        last = self.pending
        self._pending = self._settled = NOTHING
        return last

    @property
    def _suppresses(self) -> bool:
        return decoder_of(self._config).joins_candidates

    def _joined(self, found: DecodedArrays, start: float) -> DecodedArrays:
        """Join the pending segments with the candidates of a window from `start` on."""
        return joined_at_seam(
            self._pending,
            found,
            zone=(start, self._end),
            seam=self._seam,
            final_until=self._final_until,
            same_action=SAME_ACTION,
        )

    def _seen(
        self, candidates: DecodedArrays, *, reported: NDArray[np.float64] = NOTHING.scores
    ) -> tuple[IntArray, DecodedArrays]:
        """Rank candidates, decayed if the policy says so.

        `reported`: falling scores of segments that this window has returned; they count for `max_detections`.
        """
        if not self._suppresses:
            order = np.argsort(-candidates.scores, kind="stable")
            return order, rows_of(candidates, order)
        rows, seen = suppressed(candidates, settled=self._settled, config=self._config)
        rank = np.arange(len(rows)) + np.searchsorted(-reported, -seen.scores, side="right")
        counts = rank < self._config.max_detections
        return rows[counts], rows_of(seen, counts)

    def _still_decaying(self, settled: DecodedArrays, start: float) -> DecodedArrays:
        """Drop segments that end before `start` and before all pending ones of their label: nothing later overlaps."""
        pending = self._pending
        n_labels = 1 + max(pending.labels.max(initial=-1), settled.labels.max(initial=-1))
        earliest = np.full(n_labels, start)
        np.minimum.at(earliest, pending.labels, pending.segments[:, 0])
        kept = rows_of(settled, settled.segments[:, 1] > earliest[settled.labels])
        if len(kept.scores) <= MOST_SETTLED:
            return kept
        overlap = tiou(kept.segments, pending.segments) * (kept.labels[:, None] == pending.labels)
        nearest = np.argsort(-overlap.max(axis=1, initial=0.0), kind="stable")[:MOST_SETTLED]
        return rows_of(kept, np.sort(nearest))
