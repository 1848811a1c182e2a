"""Detection in a stream: snippets go in one by one, segments come out as soon as they are final."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stale_edge.bundle import ClassBank
from stale_edge.errors import FeatureContractError
from stale_edge.runtime.contract import checked_features, implied_duration_s
from stale_edge.runtime.timings import Watch
from stale_edge.runtime.windows import Window, WindowedPass, WindowPlan, inside_video
from stale_edge.segments import Detection, FloatArray

if TYPE_CHECKING:
    from stale_edge.runtime.base import BaseLocalizer


class StreamingLocalizer:
    """Finds actions in a stream of snippets; every segment is reported once, when final, and never changes.

    Windows lie as in `Localizer.detect(window=, overlap=)` and are joined alike, so after `finish` the final segments
    are those of that call on the whole file. A network that subtracts the mean of the video's features subtracts the
    mean of each window, and in `tentative` the mean of the snippets so far. The network runs once per window;
    `tentative` runs it once more. Memory holds one window of features, the candidates in the last overlap, and final
    segments that overlap it and so still lower scores there (soft-NMS, paper policy), however long the stream is.

        stream = StreamingLocalizer(load_bundle("bundle"), window=100)
        for snippet in snippets:              # (C,) float32
            for detection in stream.push(snippet):
                print("final", detection)
            print("so far", stream.tentative())
        for detection in stream.finish():
            print("final", detection)

    Args:
        localizer: runs on one window.
        window, overlap: in snippets, see `WindowPlan`.
        snippet_s: seconds per snippet, finite, > 0; None: stride / fps of the feature contract.
        class_bank: as in `Localizer.detect`.
        watch: counts the seconds of network and post-processing; None: they are not measured.

    Raises:
        ValueError: window or overlap is not allowed, or the length of a snippet is unknown.
    """

    def __init__(
        self,
        localizer: "BaseLocalizer",
        *,
        window: int,
        overlap: int | None = None,
        snippet_s: float | None = None,
        class_bank: ClassBank | Sequence[str] | None = None,
        watch: Watch | None = None,
    ) -> None:
        self._contract = localizer.feature_contract
        seconds = implied_duration_s(self._contract, 1) if snippet_s is None else snippet_s
        if seconds is None:
            raise ValueError("the feature contract has no fps and stride: give snippet_s, the seconds of a snippet")
        if isinstance(seconds, bool) or not math.isfinite(seconds) or seconds <= 0:
            raise ValueError(f"snippet_s must be a finite number of seconds > 0; got {seconds!r}")
        self.plan = WindowPlan.of(window, overlap)
        self.snippet_s = float(seconds)
        self.n_snippets = 0
        """Number of snippets taken so far."""
        self._windows = WindowedPass(localizer, self.plan, snippet_s=self.snippet_s, class_bank=class_bank, watch=watch)
        self._n_windows = 0
        self._ended = False
        self._last: FloatArray = np.empty((self.plan.window, self._contract.channels), dtype=np.float32)  # a ring
        self._tentative: tuple[int, list[Detection]] | None = None

    @property
    def delay_s(self) -> float:
        """Longest delay from a segment's end until it is final, in seconds of video: the length of a window."""
        return self.plan.window * self.snippet_s

    @property
    def time_s(self) -> float:
        """Length of the video taken so far, in seconds."""
        return self.n_snippets * self.snippet_s

    def push(self, features: Any) -> list[Detection]:
        """Take the next snippet, or several in order.

        Args:
            features: (C,), or (n, C) with n >= 0, floating, as the feature contract says.

        Returns:
            The segments that are final now and have not been reported before, best first for each window.

        Raises:
            FeatureContractError: (a ValueError) a snippet does not fit; none of these was taken.
            ValueError: the stream has ended.
        """
        if self._ended:
            raise ValueError("this stream has ended: finish was called; another stream is another StreamingLocalizer")
        array = np.asarray(features)
        rows = array[None] if array.ndim == 1 else array
        if rows.ndim == 2 and len(rows) == 0:
            return []
        if rows.ndim != 2:
            raise FeatureContractError(f"push takes snippets, (C,) or (n, C); got shape {array.shape}")
        try:
            values = checked_features(rows, self._contract, any_length=True)
        except FeatureContractError as error:
            raise FeatureContractError(f"after snippet {self.n_snippets}: {error}") from error
        found: list[Detection] = []
        for value in values:
            self._last[self.n_snippets % self.plan.window] = value
            self.n_snippets += 1
            window = self.plan.regular(self._n_windows)
            if window.end == self.n_snippets:
                found += self._windows.add(self._features_of(window), window)
                self._n_windows += 1
        return found

    def tentative(self) -> list[Detection]:
        """Return the segments that would become final if the stream ended here, best first; they may still change.

        This runs the network on the last window. A second call before the next snippet costs nothing.
        """
        if self._tentative is None or self._tentative[0] != self.n_snippets:
            window = self._open_window()
            pending = self._windows.pending
            found = pending if window is None else self._windows.preview(self._features_of(window), window)
            self._tentative = (self.n_snippets, inside_video(found, duration_s=self.time_s))
        return list(self._tentative[1])

    def finish(self) -> list[Detection]:
        """End the stream: return the segments that were not final yet, best first. It accepts no snippet afterwards."""
        window = None if self._ended else self._open_window()
        self._ended = True
        self._tentative = (self.n_snippets, [])
        last = [] if window is None else self._windows.add(self._features_of(window), window)
        found = inside_video(last + self._windows.finish(), duration_s=self.time_s)
        return sorted(found, key=lambda d: -d.score)

    def _open_window(self) -> Window | None:
        """Return the window that would end the stream here; None: a regular window ends here, or no snippet came."""
        seen = self.plan.regular(self._n_windows - 1).end if self._n_windows else 0
        return None if seen == self.n_snippets else self.plan.last(self.n_snippets)

    def _features_of(self, window: Window) -> FloatArray:
        return self._last[np.arange(window.start, window.end) % self.plan.window]
