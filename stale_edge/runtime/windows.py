"""A video of any length, window by window: linear time, and no more memory than one window needs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from stale_edge.bundle import ClassBank
from stale_edge.errors import FeatureContractError
from stale_edge.runtime.seams import Found, SeamMerger
from stale_edge.segments import Detection


class DetectsInWindow(Protocol):
    """What windows need of a localizer."""

    def detect(
        self,
        features: Any,
        *,
        duration_s: float,
        class_bank: ClassBank | Sequence[str] | None = None,
        video_label: str | None = None,
        video_score: float | None = None,
    ) -> list[Detection]:
        """Detect in one window as in a video of that length."""
        ...


class Window(NamedTuple):
    """Snippets [start, end) that the network sees at once; `seam` is where the next window begins to know better."""

    start: int
    end: int
    seam: float


@dataclass(frozen=True)
class WindowPlan:
    """Where windows lie: window i covers snippets [i * stride, i * stride + window), stride = window - overlap.

    A video that is no longer than one window is one window. The end of a longer one gets a window of full length that
    ends with the video, so every window but that of a short video shows the network as much time as any other.

    window: snippets, >= 2; of the features as they are stored, before the feature contract resamples them.
    overlap: snippets that two windows share, 1 <= overlap <= window / 2, so that no snippet is in three. An action no
        longer than the overlap lies whole in some window.
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
        """Make a plan whose windows overlap by half where nothing else is said."""
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
    """Refuse windows that cannot be before anything is opened; no window at all is allowed.

    Raises:
        ValueError: see `WindowPlan`, or an overlap without a window.
    """
    if window is not None:
        WindowPlan.of(window, overlap)
    elif overlap is not None:
        raise ValueError(f"overlap is that of windows: give window too; got overlap {overlap!r} alone")


class WindowedPass:
    """What a pass over a file and a live stream do alike: detect in one window after the other and join them.

    Args:
        localizer: detects in one window as in a video of that length.
        plan: where the windows lie.
        snippet_s: seconds a snippet stands for, > 0.
        class_bank, video_label, video_score: as in `Localizer.detect`.
    """

    def __init__(
        self,
        localizer: DetectsInWindow,
        plan: WindowPlan,
        *,
        snippet_s: float,
        class_bank: ClassBank | Sequence[str] | None = None,
        video_label: str | None = None,
        video_score: float | None = None,
    ) -> None:
        self._localizer = localizer
        self._plan = plan
        self._snippet_s = snippet_s
        self._options: dict[str, Any] = {
            "class_bank": class_bank,
            "video_label": video_label,
            "video_score": video_score,
        }
        self._merger = SeamMerger()

    def add(self, features: Any, window: Window) -> list[Detection]:
        """Detect in the next window; returns what is final now, best first.

        Args:
            features: (window.end - window.start, C).
            window: as the plan cuts it.
        """
        return self._in_seconds(
            self._merger.add(
                self._found(features, window),
                start=window.start,
                end=window.end,
                seam=window.seam,
                next_start=window.start + self._plan.stride,
            )
        )

    def preview(self, features: Any, window: Window) -> list[Detection]:
        """Return what would become final if the video ended with this window, best first; nothing is kept."""
        return self._in_seconds(self._merger.preview(self._found(features, window), start=window.start))

    @property
    def pending(self) -> list[Detection]:
        """What is known so far and may still change, best first."""
        return self._in_seconds(self._merger.pending)

    def finish(self) -> list[Detection]:
        """Return what was still pending as final, best first."""
        return self._in_seconds(self._merger.finish())

    def _found(self, features: Any, window: Window) -> list[Found]:
        """Detect in one window. Joining goes in snippets, so that rounding of seconds decides nothing."""
        try:
            detections = self._localizer.detect(features, duration_s=float(window.end - window.start), **self._options)
        except FeatureContractError as error:
            raise FeatureContractError(f"snippets {window.start} to {window.end}: {error}") from error
        return [Found(d.label, d.score, window.start + d.start_s, window.start + d.end_s) for d in detections]

    def _in_seconds(self, found: list[Found]) -> list[Detection]:
        return [Detection(d.label, d.score, d.start * self._snippet_s, d.end * self._snippet_s) for d in found]


def detect_windowed(
    localizer: DetectsInWindow,
    features: Any,
    *,
    duration_s: float,
    window: int,
    overlap: int | None = None,
    class_bank: ClassBank | Sequence[str] | None = None,
    video_label: str | None = None,
    video_score: float | None = None,
) -> list[Detection]:
    """Find which action happens when in a video of any length, window by window.

    Each window is treated like a video of its own (resampled, detected in, decoded, soft-NMS), so
    `DecodeConfig.max_detections` holds a window. `stale_edge.runtime.seams` says how windows are joined. A video that
    fits into one window gives what it gives without windows.

    Args:
        localizer: detects in one window.
        features: (T, C) floating, T >= 1; anything with a shape whose rows can be sliced: an array, a memory map, an
            HDF5 dataset. One window of it is read at a time.
        duration_s: length of the video in seconds, > 0; snippet t covers [t, t + 1) / T of it.
        window, overlap: in snippets, see `WindowPlan`.
        class_bank, video_label, video_score: as in `Localizer.detect`.

    Returns:
        Detections by falling score, their segments in seconds in [0, duration_s].

    Raises:
        FeatureContractError: (a ValueError) features do not fit; the window is named.
        ValueError: window, overlap or another argument is not allowed.
    """
    plan = WindowPlan.of(window, overlap)
    shape = tuple(features.shape) if hasattr(features, "shape") else np.shape(features)
    if len(shape) != 2 or shape[0] < 1:
        raise FeatureContractError(f"detect takes one video, features (T, C) with T >= 1; got shape {shape}")
    windows = WindowedPass(
        localizer,
        plan,
        snippet_s=duration_s / shape[0],
        class_bank=class_bank,
        video_label=video_label,
        video_score=video_score,
    )
    found: list[Detection] = []
    for place in plan.cut(shape[0]):
        found += windows.add(np.asarray(features[place.start : place.end]), place)
    found += windows.finish()
    within = [d._replace(end_s=min(d.end_s, duration_s)) for d in found]  # T * (duration_s / T) may round up
    return sorted(within, key=lambda d: -d.score)
