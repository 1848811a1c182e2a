"""Detection in a video of any length, window by window: linear time, memory of one window."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from stale_edge.bundle import ClassBank
from stale_edge.config import DecodeSettings, FrameGrid, TimeGrid
from stale_edge.decoding import DecodedArrays, decoder_of
from stale_edge.decoding.inference import check_enhancement
from stale_edge.errors import FeatureContractError
from stale_edge.runtime.seams import SeamMerger
from stale_edge.runtime.timings import Measured, Watch
from stale_edge.segments import Detection


class WindowCandidates(NamedTuple):
    """Candidates of a localizer in one window, before windows are joined."""

    found: DecodedArrays
    """Proposals with raw scores or detections, as the policy joins them. Segments in the network's snippets."""
    n_snippets: int
    """T, number of the network's snippets in the window; the same for all windows of one length."""
    class_names: tuple[str, ...]
    """K names; `found.labels` are indices into them."""


class LooksAtWindows(Protocol):
    """Interface of a localizer that windows need."""

    @property
    def decode_config(self) -> DecodeSettings:
        """The policy and its settings, the same for all windows."""
        ...

    def candidates(
        self, features: Any, *, class_bank: ClassBank | Sequence[str] | None = None, watch: Watch | None = None
    ) -> WindowCandidates:
        """Find candidates in one window as in a video of that length; `watch` counts the seconds."""
        ...


class Enhancement(NamedTuple):
    """A video-level class and its score for score enhancement; both or neither."""

    label: str | None = None
    score: float | None = None


NO_ENHANCEMENT = Enhancement()


class Window(NamedTuple):
    """Snippets [start, end) of one call of the network; from `seam` on, the next window's results are preferred."""

    start: int
    end: int
    seam: float


@dataclass(frozen=True)
class WindowPlan:
    """Positions of windows: window i covers snippets [i * stride, i * stride + window), stride = window - overlap.

    A video that is no longer than one window is one window. The end of a longer one gets a window of full length that
    ends with the video, so all windows have the same length, except in a video shorter than a window.

    window: snippets, >= 2; of the features as they are stored, before the feature contract resamples them.
    overlap: snippets that two windows share, 1 <= overlap <= window / 2, so that no snippet is in three. An action no
        longer than the overlap lies completely in some window.
    """

    window: int
    overlap: int

    def __post_init__(self) -> None:
        for name in ("window", "overlap"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise ValueError(f"{name} must be an integer, in snippets; got {value!r}")
        if self.window < 2:
            raise ValueError(f"window must be at least 2 snippets; got {self.window}")
        if not 1 <= self.overlap <= self.window // 2:
            raise ValueError(
                f"overlap must be at least 1 snippet and at most half a window of {self.window}; got {self.overlap}"
            )

    @classmethod
    def of(cls, window: int, overlap: int | None = None) -> "WindowPlan":
        """Make a plan whose windows overlap by half unless `overlap` is given."""
        return cls(window, overlap if overlap is not None else window // 2)

    @property
    def stride(self) -> int:
        """Snippets from the start of a window to that of the next."""
        return self.window - self.overlap

    def regular(self, index: int) -> Window:
        """Return window `index`, counted from 0, of a video that goes on after it."""
        start = index * self.stride
        return Window(start, start + self.window, start + (self.window + self.stride) / 2)

    def last(self, n_snippets: int) -> Window:
        """Return the window that ends with a video of `n_snippets`."""
        return Window(max(0, n_snippets - self.window), n_snippets, float(n_snippets))

    def cut(self, n_snippets: int) -> Iterator[Window]:
        """Cut a video of `n_snippets` >= 1 into its windows, in time order; the seam of the last one is its end."""
        index = 0
        while (window := self.regular(index)).end < n_snippets:
            yield window
            index += 1
        yield self.last(n_snippets)


def check_windows(window: int | None, overlap: int | None) -> None:
    """Refuse a window or overlap that is not allowed, before any file is opened; None is allowed.

    Raises:
        ValueError: see `WindowPlan`, or an overlap without a window.
    """
    if window is not None:
        WindowPlan.of(window, overlap)
    elif overlap is not None:
        raise ValueError(f"overlap is that of windows: give window too; got overlap {overlap!r} alone")


class WindowedPass:
    """Steps shared by a pass over a file and a live stream: run one window after the other and join the results.

    Times are counted in units of 1 / T snippet, T as in `WindowCandidates`: whole numbers, so that rounding has no
    effect and a video of one window has the same scores as without windows.

    Args:
        localizer: finds candidates in one window as in a video of that length.
        plan: positions of the windows.
        snippet_s: seconds per snippet, > 0.
        class_bank: as in `Localizer.detect`.
        enhancement: if windows join detections, the video-level label is given to the detections of each window before
            joining, else to the final ones.
        watch: counts the seconds of network and post-processing; None: they are not measured.

    Raises:
        ValueError: video_label or video_score is not allowed.
    """

    def __init__(
        self,
        localizer: LooksAtWindows,
        plan: WindowPlan,
        *,
        snippet_s: float,
        class_bank: ClassBank | Sequence[str] | None = None,
        enhancement: Enhancement = NO_ENHANCEMENT,
        watch: Watch | None = None,
    ) -> None:
        check_enhancement(*enhancement)
        self._localizer = localizer
        self._plan = plan
        self._snippet_s = snippet_s
        self._class_bank = class_bank
        self._watch = Watch() if watch is None else watch
        self._video_label = enhancement.label
        self._video_score = -math.inf if enhancement.score is None else enhancement.score
        self._relabels_windows = not decoder_of(localizer.decode_config).joins_candidates
        self._merger = SeamMerger(localizer.decode_config)
        self._labels: tuple[str, ...] = ()
        self._ticks = 1  # a snippet

    def add(self, features: Any, window: Window) -> list[Detection]:
        """Run the next window; return the segments that are final now, best first.

        Args:
            features: (window.end - window.start, C).
            window: as the plan cuts it.
        """
        found = self._found(features, window)
        is_last = window.seam >= window.end
        with self._watch.postprocessing():
            final = self._merger.add(
                found,
                start=window.start * self._ticks,
                end=window.end * self._ticks,
                seam=window.seam * self._ticks,
                next_start=None if is_last else (window.start + self._plan.stride) * self._ticks,
            )
            return self._in_seconds(final)

    def preview(self, features: Any, window: Window) -> list[Detection]:
        """Return the segments that would be final if the video ended with this window, best first; nothing is kept."""
        found = self._found(features, window)
        with self._watch.postprocessing():
            return self._in_seconds(self._merger.preview(found, start=window.start * self._ticks))

    @property
    def pending(self) -> list[Detection]:
        """Segments found so far that may still change, best first."""
        with self._watch.postprocessing():
            return self._in_seconds(self._merger.pending)

    def finish(self) -> list[Detection]:
        """Return the pending segments as final, best first."""
        with self._watch.postprocessing():
            return self._in_seconds(self._merger.finish())

    def _found(self, features: Any, window: Window) -> DecodedArrays:
        """Find candidates in one window: times in ticks of the whole video, labels as rows of `self._labels`."""
        try:
            candidates = self._localizer.candidates(features, class_bank=self._class_bank, watch=self._watch)
        except FeatureContractError as error:
            raise FeatureContractError(f"snippets {window.start} to {window.end}: {error}") from error
        self._ticks, self._labels = candidates.n_snippets, candidates.class_names
        found = candidates.found
        labels = found.labels
        if self._relabels_windows and self._video_label is not None:
            if self._video_label not in self._labels:
                self._labels += (self._video_label,)
            labels = np.where(found.scores <= self._video_score, self._labels.index(self._video_label), labels)
        segments = found.segments * (window.end - window.start) + window.start * self._ticks
        return DecodedArrays(segments, labels, found.scores)

    def _in_seconds(self, found: DecodedArrays) -> list[Detection]:
        # A point near the start of a video may propose a segment that begins before it.
        seconds = (np.maximum(found.segments, 0) / self._ticks * self._snippet_s).tolist()
        return [
            Detection(self._named(label, score), score, start_s, end_s)
            for label, score, (start_s, end_s) in zip(
                found.labels.tolist(), found.scores.tolist(), seconds, strict=True
            )
        ]

    def _named(self, label: int, score: float) -> str:
        if self._video_label is not None and not self._relabels_windows and score <= self._video_score:
            return self._video_label
        return self._labels[label]


def inside_video(detections: Sequence[Detection], *, duration_s: float) -> list[Detection]:
    """Cut segments at the ends of the video: points may predict beyond it, and T * (duration_s / T) may round up."""
    return [
        d._replace(start_s=min(max(d.start_s, 0.0), duration_s), end_s=min(max(d.end_s, 0.0), duration_s))
        for d in detections
    ]


def detect_windowed(
    localizer: LooksAtWindows,
    features: Any,
    *,
    grid: TimeGrid,
    plan: WindowPlan,
    class_bank: ClassBank | Sequence[str] | None = None,
    enhancement: Enhancement = NO_ENHANCEMENT,
    keep_scores: bool = False,
) -> Measured:
    """Find the actions in a video of any length, window by window.

    The network sees each window as a separate video, resampled alike; a network that subtracts the mean of the video's
    features subtracts the window's mean (docs/deviations.md gives the cost). Under the paper policy the proposals of
    windows are joined and soft-NMS runs on the joined ones; under the release policy each window has its own soft-NMS,
    the public script's, and its detections are joined. `stale_edge.runtime.seams` says how. `max_detections` is the
    limit of each window. A video that fits into one window has the same result as without windows.

    Args:
        localizer: finds candidates in one window as in a video of that length.
        features: (T, C) floating, T >= 1; anything with a shape whose rows can be sliced: an array, a memory map, an
            HDF5 dataset. One window of it is read at a time.
        grid: positions of snippets in time; on a `RelativeGrid` snippet t covers [t, t + 1) / T of the video.
        plan: positions of the windows.
        class_bank: as in `Localizer.detect`.
        enhancement: see `WindowedPass`.
        keep_scores: keep the network's class scores of each window.

    Returns:
        Detections by falling score, with segments in seconds in [0, duration_s], and their timings.

    Raises:
        FeatureContractError: (a ValueError) features do not fit; the window is named.
        ValueError: the enhancement is not allowed.
    """
    shape = tuple(features.shape) if hasattr(features, "shape") else np.shape(features)
    if len(shape) != 2 or shape[0] < 1:
        raise FeatureContractError(f"detect takes one video, features (T, C) with T >= 1; got shape {shape}")
    watch = Watch(class_scores=[] if keep_scores else None)
    windows = WindowedPass(
        localizer,
        plan,
        snippet_s=grid.stride / grid.fps if isinstance(grid, FrameGrid) else grid.duration_s / shape[0],
        class_bank=class_bank,
        enhancement=enhancement,
        watch=watch,
    )
    found: list[Detection] = []
    for place in plan.cut(shape[0]):
        found += windows.add(np.asarray(features[place.start : place.end]), place)
    found += windows.finish()
    within = inside_video(found, duration_s=grid.duration_s)
    return Measured(sorted(within, key=lambda d: -d.score), watch.timings, watch.class_scores)
