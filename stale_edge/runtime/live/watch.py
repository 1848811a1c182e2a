"""The events of a watched source, as plain JSON values."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stale_edge.bundle import ClassBank
from stale_edge.errors import StaleEdgeError
from stale_edge.runtime.base import BaseLocalizer
from stale_edge.runtime.live.intake import Intake
from stale_edge.runtime.live.sources import Incoming, LiveSource
from stale_edge.runtime.streaming import StreamingLocalizer
from stale_edge.segments import Detection, FloatArray

DEFAULT_WAITING = 8
"""Number of snippets that may wait before one is skipped."""

Event = dict[str, Any]


@dataclass(frozen=True)
class WatchSettings:
    """How a live source is watched.

    window, overlap: in snippets, as in `Localizer.detect`.
    class_bank: as in `Localizer.detect`.
    tentative: also report segments that may still change.
    min_score: segments that score less are not reported, in [0, 1].
    waiting: number of snippets that may wait, >= 1.
    skip: whether snippets are skipped; False: the source waits; None: False for pipes and at speed 0, else True.
    speed: multiple of real time at which a file is read, by presentation time; 0: as fast as possible.

    Raises:
        ValueError: min_score, waiting or speed is not allowed.
    """

    window: int
    overlap: int | None = None
    class_bank: ClassBank | Sequence[str] | None = None
    tentative: bool = True
    min_score: float = 0.0
    waiting: int = DEFAULT_WAITING
    skip: bool | None = None
    speed: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.min_score <= 1:
            raise ValueError(f"min_score must be in [0, 1]; got {self.min_score}")
        if self.waiting < 1:
            raise ValueError(f"waiting must be at least 1 snippet; got {self.waiting}")
        if not 0 <= self.speed < float("inf"):
            raise ValueError(f"speed must be a finite number >= 0; got {self.speed}")


def watch(
    localizer: BaseLocalizer,
    source: LiveSource,
    settings: WatchSettings,
    *,
    stop: threading.Event | None = None,
    intake: Callable[..., Intake] = Intake,
) -> Iterator[Event]:
    """Detect actions in a live source.

    If detection is too slow, at most `settings.waiting` snippets wait. When another comes, the oldest is skipped: it
    is not encoded, and the features of the one before it replace its own, so that times stay right. If a whole window
    or more is missing, the segments before it are ended and a new stream begins after it. Tentative segments are
    computed only when no snippet waits.

    Args:
        localizer: detects in one window.
        source: from `open_live`; it is closed at the end.
        settings: windows, classes, and what happens when detection is too slow.
        stop: once it is set, the source counts as ended.
        intake: makes the intake; tests pass one with their own clock.

    Yields:
        `{"event": "start", ...}`, the settings of the whole stream; `{"event": "tentative", "time_s", "segments"}`, the
        segments as they would be if the source ended now, in place of those of the tentative event before it;
        `{"event": "final", "time_s", "label", "score", "segment"}`, each segment once, at most `final_within_s` of the
        start event after its end; `{"event": "skipped", "time_s", "segment", "snippets"}`; `{"event": "behind",
        "time_s", "behind_s"}`, once per window while results are more than `waiting` snippets late;
        `{"event": "end", ...}`, the last event. Times are seconds of the source.

    Raises:
        ValueError: window or overlap is not allowed.
        DataError, FeatureContractError: the source failed; segments final by then have been reported.
    """
    skip = settings.skip if settings.skip is not None else not source.is_pipe and settings.speed > 0
    paced = 0.0 if source.is_pipe else settings.speed
    queue = intake(source, size=settings.waiting, skip=skip, speed=paced, stop=stop)
    events = _Events(localizer, source, settings)
    try:
        yield events.start(skip=skip, speed=paced)
        try:
            for item in queue:
                yield from events.take(item, behind_s=queue.behind_s(item.step))
                if settings.tentative and queue.n_waiting == 0:
                    yield from events.tentative()
        except StaleEdgeError:
            yield from events.end()
            raise
        yield from events.end(interrupted=stop is not None and stop.is_set())
    finally:
        queue.close()


class _Events:
    """Turns snippets into events; remembers what was reported."""

    def __init__(self, localizer: BaseLocalizer, source: LiveSource, settings: WatchSettings) -> None:
        self._source = source
        self._settings = settings
        self._provider = localizer.provider
        self._new_stream: Callable[[], StreamingLocalizer] = lambda: StreamingLocalizer(
            localizer,
            window=settings.window,
            overlap=settings.overlap,
            snippet_s=source.snippet_s,
            class_bank=settings.class_bank,
        )
        self._stream = self._new_stream()
        self._first = 0  # the snippet at which this stream began
        self._next = 0
        self._last: FloatArray | None = None
        self._reported: list[Event] = []
        self._n_final = 0
        self._n_skipped = 0
        self._said_behind_at = -settings.window

    @property
    def _time_s(self) -> float:
        return self._next * self._source.snippet_s

    def start(self, *, skip: bool, speed: float) -> Event:
        plan = self._stream.plan
        return {
            "event": "start",
            "source": self._source.name,
            "snippet_s": self._source.snippet_s,
            "window": plan.window,
            "overlap": plan.overlap,
            "final_within_s": self._stream.delay_s,
            "speed": speed,
            "waiting": self._settings.waiting,
            "skip": skip,
            "provider": self._provider,
        }

    def take(self, item: Incoming, *, behind_s: float) -> Iterator[Event]:
        """Take the next snippet that was not skipped."""
        if item.step > self._next:
            yield from self._skip_to(item.step)
        features = item.features()
        final = self._stream.push(features)
        self._last, self._next = features, item.step + 1
        yield from self._final(final)
        if (
            behind_s > self._settings.waiting * self._source.snippet_s
            and item.step >= self._said_behind_at + self._stream.plan.window
        ):
            self._said_behind_at = item.step
            yield {"event": "behind", "time_s": self._time_s, "behind_s": behind_s}

    def tentative(self) -> Iterator[Event]:
        """Report the segments that may still change, if they differ from the last report."""
        segments = [self._segment(d) for d in self._stream.tentative() if d.score >= self._settings.min_score]
        if segments != self._reported:
            self._reported = segments
            yield {"event": "tentative", "time_s": self._time_s, "segments": segments}

    def end(self, *, interrupted: bool = False) -> Iterator[Event]:
        """Report what is left; a source that was stopped is not called short of what it announces."""
        yield from self._final(self._stream.finish())
        short = self._source.shortfall()
        yield {
            "event": "end",
            "time_s": self._time_s,
            "snippets": self._next,
            "skipped": self._n_skipped,
            "final": self._n_final,
            "notes": [*([short] if short and not interrupted else []), *self._source.notes()],
        }

    def _skip_to(self, step: int) -> Iterator[Event]:
        n_missing = step - self._next
        self._n_skipped += n_missing
        span = [self._time_s, step * self._source.snippet_s]
        yield {"event": "skipped", "time_s": span[1], "segment": span, "snippets": n_missing}
        if self._last is None or n_missing >= self._stream.plan.window:
            yield from self._final(self._stream.finish())
            self._stream, self._first = self._new_stream(), step
        else:
            yield from self._final(self._stream.push(np.repeat(self._last[None], n_missing, axis=0)))
        self._next = step

    def _final(self, detections: Sequence[Detection]) -> Iterator[Event]:
        for detection in detections:
            if detection.score >= self._settings.min_score:
                self._n_final += 1
                yield {"event": "final", "time_s": self._time_s, **self._segment(detection)}

    def _segment(self, detection: Detection) -> Event:
        began_s = self._first * self._source.snippet_s
        return {
            "label": detection.label,
            "score": detection.score,
            "segment": [began_s + detection.start_s, began_s + detection.end_s],
        }
