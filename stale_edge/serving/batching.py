"""One thread that runs the network: a bounded queue, from which videos of equal T and equal classes go together."""

import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

Work = Callable[[Sequence[Any]], Sequence[Any]]
"""Processes items that go together; gives one result an item."""


class QueueFullError(Exception):
    """As many requests wait as may wait; the client tries again later."""


class ClosedError(Exception):
    """The server is stopping and takes no more requests."""


@dataclass
class _Item:
    key: Hashable
    value: Any
    work: Work
    result: "Future[Any]" = field(default_factory=Future)


class BatchingWorker:
    """Runs work in a thread of its own.

    Args:
        most_waiting: requests that may wait, >= 1.
        most_together: items that go into one call, >= 1.
    """

    def __init__(self, *, most_waiting: int, most_together: int) -> None:
        self._most_waiting, self._most_together = most_waiting, most_together
        self._waiting: deque[_Item] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self.batches: dict[int, int] = {}
        """Number of calls by number of items."""
        self._thread = threading.Thread(target=self._run, name="stale-edge-network", daemon=True)
        self._thread.start()

    @property
    def n_waiting(self) -> int:
        """Number of requests that wait."""
        return len(self._waiting)

    def submit(self, key: Hashable, value: Any, work: Work) -> "Future[Any]":
        """Queue an item; items of equal keys may go into one call of `work`.

        Raises:
            QueueFullError: too many wait already.
            ClosedError: `close` was called.
        """
        with self._changed:
            if self._closed:
                raise ClosedError
            if len(self._waiting) >= self._most_waiting:
                raise QueueFullError
            item = _Item(key, value, work)
            self._waiting.append(item)
            self._changed.notify()
        return item.result

    def close(self) -> None:
        """Take nothing more, finish what waits, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._next():
            items = [item for item in batch if item.result.set_running_or_notify_cancel()]
            if not items:
                continue
            self.batches[len(items)] = self.batches.get(len(items), 0) + 1
            try:
                results = items[0].work([item.value for item in items])
            except Exception as error:  # of one item: the others are tried alone
                if len(items) == 1:
                    items[0].result.set_exception(error)
                    continue
                for item in items:
                    self._alone(item)
                continue
            for item, result in zip(items, results, strict=True):
                item.result.set_result(result)

    def _alone(self, item: _Item) -> None:
        try:
            item.result.set_result(item.work([item.value])[0])
        except Exception as error:  # handed to the request that caused it
            item.result.set_exception(error)

    def _next(self) -> list[_Item]:
        """Wait for items, and take the oldest with those that go with it; none: closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return []
            first = self._waiting.popleft()
            together = [first]
            for item in list(self._waiting):
                if len(together) == self._most_together:
                    break
                if item.key == first.key:
                    self._waiting.remove(item)
                    together.append(item)
            return together
