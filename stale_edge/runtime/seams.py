"""What overlapping windows find, joined window by window into the detections of one video, as they come.

Two windows that follow each other share a *zone*, and in its middle lies their *seam*. Left of it the earlier window
knows better, since more of what follows is in it; right of it the later one. From this follow four rules:

- Two segments of one label are the same action when, cut to the zone, their tIoU is at least `SAME_ACTION`. Outside
  the zone each window saw what the other could not, so nothing outside speaks against it: an action that one window
  cuts and the next one has whole, or that both cut, is joined. Matching is one to one, best scores first.
- Of one action seen twice, a boundary is taken from the window that owns the place where it lies: the start from the
  earlier window and the end from the later one when the action crosses the seam; both from one window when it does not.
  It scores as its owner says, and as the better of both when it crosses.
- What only one of the two windows saw counts where that window owns the middle of it, and is dropped elsewhere.
- What ends before the zone of the next window begins cannot change any more and is final. The last window may begin
  before that; of what is final it is not asked again.

Under the policies paper and runs these rules join *proposals*, and soft-NMS runs on the joined ones, window by window:
what becomes final is decayed by all that is known then. What may still change keeps its raw score. A final segment goes
on decaying what it overlaps, as a pick of soft-NMS does, for as long as there can be such. So soft-NMS comes out as
over the whole video, except where a chain of segments that overlap each other is longer than the overlap of two
windows: then a segment may have become final before all that would decay those that decay it was known.

Under the release and points policies the rules join *detections*: their soft-NMS is that of public code (the release's
can raise scores and knows no classes, that of points votes), so each window runs it by itself and there is none across
a seam.

The rules look only at the window that comes and the one before, which is what lets a live stream end with the same
segments as a pass over the whole file.
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
"""Final segments that may go on decaying others, at most; of more, those are kept that overlap them most.

Reached only where an action that goes on through ten windows and more overlaps that many others of its class.
"""


class SeamMerger:
    """Joins the candidates of windows that come in time order: proposals or detections, as the policy says.

    All times are of the whole video, in a unit that stays the same. However long the video is, it holds what reaches
    into the zone of the next window (raw), and of what is final that which may still decay others; nothing else.

    Args:
        config: the policy, and where proposals are joined its soft-NMS, `min_score` (of decayed scores) and
            `max_detections`: of all that a window knows, final or not, only so many best ones count.
    """

    def __init__(self, config: DecodeSettings) -> None:
        self._config = config
        self._pending = NOTHING
        self._settled = NOTHING
        self._told = NOTHING.scores
        self._end = 0.0
        self._seam = 0.0
        self._final_until = -np.inf

    @property
    def pending(self) -> DecodedArrays:
        """What is known so far and may still change, best first, with the scores that it has as things stand."""
        return self._seen(self._pending, told=self._told)[1]

    def add(
        self, found: DecodedArrays, *, start: float, end: float, seam: float, next_start: float | None
    ) -> DecodedArrays:
        """Take the candidates of the next window.

        Args:
            found: of this window.
            start, end: the window; windows come by rising start.
            seam: where the next window begins to know better than this one.
            next_start: where the next window starts, unless it is the last one, which ends with the video; None: this
                is the last one. Then nothing is final before `finish`.

        Returns:
            What is final now, best first: of all that ends by `next_start`.
        """
        joined = self._joined(found, start)
        self._end, self._seam = end, seam
        if next_start is None:
            self._pending, self._told = joined, NOTHING.scores
            return NOTHING
        rows, seen = self._seen(joined)
        final = rows_of(seen, joined.segments[rows, 1] <= next_start)
        self._pending = rows_of(joined, joined.segments[:, 1] > next_start)
        self._final_until = next_start
        self._told = final.scores
        if self._suppresses:
            self._settled = self._still_decaying(both(self._settled, final), start)
        return final

    def preview(self, found: DecodedArrays, *, start: float) -> DecodedArrays:
        """Say what would be pending if the video ended with a window from `start` on, best first; nothing is kept."""
        return self._seen(self._joined(found, start))[1]

    def finish(self) -> DecodedArrays:
        """Give what is pending as final, best first; the merger is empty afterwards."""
        last = self.pending
        self._pending = self._settled = NOTHING
        return last

    @property
    def _suppresses(self) -> bool:
        return decoder_of(self._config).joins_candidates

    def _joined(self, found: DecodedArrays, start: float) -> DecodedArrays:
        """Join what is pending with the candidates of a window from `start` on."""
        return joined_at_seam(
            self._pending,
            found,
            zone=(start, self._end),
            seam=self._seam,
            final_until=self._final_until,
            same_action=SAME_ACTION,
        )

    def _seen(
        self, candidates: DecodedArrays, *, told: NDArray[np.float64] = NOTHING.scores
    ) -> tuple[IntArray, DecodedArrays]:
        """Rank candidates, decayed where the policy says so.

        `told`: falling scores of what the same window has given already, which counts for `max_detections`.
        """
        if not self._suppresses:
            order = np.argsort(-candidates.scores, kind="stable")
            return order, rows_of(candidates, order)
        rows, seen = suppressed(candidates, settled=self._settled, config=self._config)
        rank = np.arange(len(rows)) + np.searchsorted(-told, -seen.scores, side="right")
        counts = rank < self._config.max_detections
        return rows[counts], rows_of(seen, counts)

    def _still_decaying(self, settled: DecodedArrays, start: float) -> DecodedArrays:
        """Leave out what no candidate to come can overlap: none begins before the last window or what is pending."""
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
