"""Bounded queue of live snippets, read by a thread of its own and paced by a clock."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from stale_edge.runtime.live.sources import Incoming, LiveSource

_LOOK_S = 0.1
"""Seconds between two checks for the stop signal while waiting."""


class Intake:
    """Reads a source in a thread and hands its snippets on, one by one.

    At most `size` snippets wait. When one more comes, the oldest of them is skipped (`skip=True`), or the source waits
    (`skip=False`). So a slow consumer costs snippets or time, never memory.

    Args:
        source: the source to read.
        size: number of snippets that may wait, >= 1.
        skip: whether the oldest is skipped when there is no room.
        speed: snippets are handed on `step * snippet_s / speed` seconds after the first one, not earlier; 0: as they
            come.
        stop: once it is set, nothing more is handed on, as if the source had ended.
        clock, sleep: as in `time`; None: sleep until it is time or the intake is closed.
    """

    def __init__(
        self,
        source: LiveSource,
        *,
        size: int,
        skip: bool,
        speed: float,
        stop: threading.Event | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self._source = source
        self._size = size
        self._skip = skip
        self._speed = speed
        self._clock = clock
        self._stop = stop
        self._closed = threading.Event()
        self._sleep = sleep or self._closed.wait
        self._waiting: deque[Incoming] = deque()
        self._changed = threading.Condition()
        self._failure: BaseException | None = None
        self._ended = False
        self._began_s: float | None = None
        self._thread = threading.Thread(target=self._read, name="stale-edge-intake", daemon=True)

    def __iter__(self) -> Iterator[Incoming]:
        self._thread.start()
        while True:
            with self._changed:
                while not (self._waiting or self._ended or self._stopped):
                    self._changed.wait(_LOOK_S)
                if not self._waiting or self._stopped:
                    break
                item = self._waiting.popleft()
                self._changed.notify_all()
            yield item
        if self._failure is not None:
            raise self._failure

    @property
    def n_waiting(self) -> int:
        """Number of snippets waiting."""
        return len(self._waiting)

    def behind_s(self, step: int) -> float:
        """Delay of a snippet behind its time, in seconds of the clock; 0 without pacing."""
        return 0.0 if self._began_s is None else max(0.0, self._clock() - self._due_s(step))

    def close(self) -> None:
        """Stop reading; a source that blocks is left to end with the process."""
        self._closed.set()

    @property
    def _stopped(self) -> bool:
        return self._closed.is_set() or (self._stop is not None and self._stop.is_set())

    def _due_s(self, step: int) -> float:
        return (self._began_s or 0.0) + step * self._source.snippet_s / self._speed

    def _read(self) -> None:
        try:
            for item in self._source.snippets:
                if self._speed > 0:
                    self._wait_for(item.step)
                if not self._put(item):
                    break
        except Exception as error:  # handed on to the consumer, which raises it
            self._failure = error
        finally:
            self._source.close()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _wait_for(self, step: int) -> None:
        if self._began_s is None:
            self._began_s = self._clock() - step * self._source.snippet_s / self._speed
        early_s = self._due_s(step) - self._clock()
        if early_s > 0:
            self._sleep(early_s)

    def _put(self, item: Incoming) -> bool:
        with self._changed:
            while len(self._waiting) >= self._size and not self._stopped:
                if self._skip:
                    self._waiting.popleft()
                else:
                    self._changed.wait(_LOOK_S)
            self._waiting.append(item)
            self._changed.notify_all()
            return not self._stopped
