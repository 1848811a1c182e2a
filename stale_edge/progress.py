"""Progress reports of long-running functions."""

from typing import Protocol


class Progress(Protocol):
    """A callback: the stage's name, the units done, the units of the whole stage, and a short remark."""

    def __call__(self, stage: str, done: int, total: int, note: str = "", /) -> None: ...


def silent(stage: str, done: int, total: int, note: str = "", /) -> None:
    """Report nothing."""
