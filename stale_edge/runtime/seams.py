"""Detections of overlapping windows, joined window by window into those of one video, as they come.

Two windows that follow each other share a *zone*, and in its middle lies their *seam*. Left of it the earlier window
knows better, since more of what follows is in it; right of it the later one. From this follow four rules:

- Two detections of one label are the same action when, cut to the zone, their tIoU is at least `SAME_ACTION`. Outside
  the zone each window saw what the other could not, so nothing outside speaks against it: an action that one window
  cuts and the next one has whole, or that both cut, is joined. Matching is one to one, best scores first.
- Of one action seen twice, a boundary is taken from the window that owns the place where it lies: the start from the
  earlier window and the end from the later one when the action crosses the seam; both from one window when it does not.
  It scores as its owner says, and as the better of both when it crosses.
- What only one of the two windows saw counts where that window owns the middle of it, and is dropped elsewhere.
- What ends before the zone of the next window begins cannot change any more and is final.

Detections of one window have suppressed each other already. Of two windows, none are left that share a label and half
of their time, so there is nothing to suppress across a seam: soft-NMS there moved average mAP by less than 0.02 points.
The rules look only at the window that comes and the one before, which is what lets a live stream end with the same
segments as a pass over the whole file.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

SAME_ACTION = 0.5
"""Smallest tIoU inside the zone at which two detections are one action.

From 0.3 to 0.7 average mAP on the long videos of bench/windows.py moved by less than one point, in either direction.
"""


class Found(NamedTuple):
    """A detection before its segment is in seconds: `start` and `end` are snippets of the whole video, [start, end)."""

    label: str
    score: float
    start: float
    end: float


class SeamMerger:
    """Joins the detections of windows that come in time order; all times are snippets of the whole video.

    It holds what reaches into the zone of the next window and nothing else, however long the video is.
    """

    def __init__(self) -> None:
        self._pending: list[Found] = []
        self._end = 0.0
        self._seam = 0.0

    @property
    def pending(self) -> list[Found]:
        """What is known so far and may still change, best first."""
        return _ranked(self._pending)

    def add(
        self, detections: Sequence[Found], *, start: float, end: float, seam: float, next_start: float
    ) -> list[Found]:
        """Take the detections of the next window.

        Args:
            detections: of this window, best first.
            start, end: the window; windows come by rising start.
            seam: where the next window begins to know better than this one.
            next_start: where the next window starts, unless it is the last one, which ends with the video.

        Returns:
            What is final now, best first: all that ends by `next_start`.
        """
        joined = self._joined(detections, start)
        self._pending = [d for d in joined if d.end > next_start]
        self._end, self._seam = end, seam
        return _ranked(d for d in joined if d.end <= next_start)

    def preview(self, detections: Sequence[Found], *, start: float) -> list[Found]:
        """Say what would be pending if the video ended with a window from `start` on, best first; nothing is kept."""
        return _ranked(self._joined(detections, start))

    def finish(self) -> list[Found]:
        """Give what is pending as final, best first; the merger is empty afterwards."""
        last = self.pending
        self._pending = []
        return last

    def _joined(self, detections: Sequence[Found], start: float) -> list[Found]:
        """Join what is pending with the detections of a window from `start` on."""
        earlier = defaultdict(list)
        for detection in self._pending:
            earlier[detection.label].append(detection)
        result = []
        for later in detections:
            same = [d for d in earlier[later.label] if self._are_same(d, later, start)]
            if same:
                best = max(same, key=lambda d: d.score)
                earlier[later.label].remove(best)
                result.append(self._join(best, later))
            elif _middle(later) >= self._seam:
                result.append(later)
        left = [detection for group in earlier.values() for detection in group]
        return result + [d for d in left if _middle(d) < self._seam]

    def _are_same(self, earlier: Found, later: Found, start: float) -> bool:
        """Compare what two windows say of the zone [start, end of the earlier window)."""
        ends = min(earlier.end, self._end), min(later.end, self._end)
        starts = max(earlier.start, start), max(later.start, start)
        shared = min(ends) - max(starts)
        return shared > 0 and shared >= SAME_ACTION * (max(ends) - min(starts))

    def _join(self, earlier: Found, later: Found) -> Found:
        starts_early = earlier.start < self._seam
        ends_late = later.end >= self._seam
        if starts_early and ends_late:
            return Found(earlier.label, max(earlier.score, later.score), earlier.start, later.end)
        return earlier if starts_early else later


def _middle(detection: Found) -> float:
    return (detection.start + detection.end) / 2


def _ranked(detections: Iterable[Found]) -> list[Found]:
    return sorted(detections, key=lambda d: -d.score)
