"""Parts of a study: its options, its runs, and their summary."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from stale_edge.errors import ConfigError
from stale_edge.progress import Progress
from stale_edge.report.curves import Panel


@dataclass(frozen=True)
class StudyOptions:
    """Options of a study.

    out: folder of the study's results; an existing one is resumed.
    data: data set folder; None: data are simulated into `out/data`.
    scale: multiplies videos, repeats and epochs, > 0; at 1 a study takes at most half an hour on two cores.
    full: use the protocol of the papers, however long it takes; `scale` is ignored.
    seed: seed of all random numbers, >= 0.
    videos, repeats: numbers in place of those from `scale` and `full`, >= 1; None: those.
    settings: of training, such as `train.epochs=6`, over those that the study chooses.
    """

    out: Path
    data: Path | None = None
    scale: float = 1.0
    full: bool = False
    seed: int = 0
    videos: int | None = None
    repeats: int | None = None
    settings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.scale < float("inf"):
            raise ConfigError(f"the scale of a study must be a number > 0; got {self.scale!r}")
        if self.seed < 0:
            raise ConfigError(f"the seed of a study must be an integer >= 0; got {self.seed!r}")
        for name in ("videos", "repeats"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"the {name} of a study must be an integer >= 1; got {value!r}")

    def count(self, default: int, full: int, *, at_least: int = 1) -> int:
        """Scale a number of videos, repeats or epochs: `full` in the papers' protocol, else `default` times `scale`."""
        return full if self.full else max(at_least, round(default * self.scale))

    def n_repeats(self, default: int, full: int) -> int:
        """Give the number of repeats: `repeats`, or the result of `count`."""
        return self.repeats or self.count(default, full)


@dataclass(frozen=True)
class Run:
    """One experiment of a study.

    key: names its file `runs/<key>.json`; letters, digits, `.`, `_` and `-`.
    parameters: plain JSON values, all that decides the result; a file made with other parameters is never mixed in.
    """

    key: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class FinishedRun:
    """A run with its result, as read from its file.

    result: the JSON values that `execute` gave.
    seconds: duration of the run.
    """

    run: Run
    result: Mapping[str, Any]
    seconds: float


class Spread(NamedTuple):
    """Mean and sample standard deviation over `n` repeats; the deviation is None where n is 1."""

    mean: float
    std: float | None
    n: int


Cell = float | int | str | Spread | None


class Column(NamedTuple):
    """A column of a table: its key in the rows, its heading, and the decimals of its numbers."""

    key: str
    title: str
    digits: int = 1


@dataclass(frozen=True)
class Table:
    """A table of a study; a row lacks a cell, or has None, where there is no figure.

    caption: what is measured, on which features (real or simulated), and where the published figures stand.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Mapping[str, Cell], ...]


@dataclass(frozen=True)
class Plot:
    """A figure of a study, written as `<name>.png` and `<name>.svg`."""

    name: str
    caption: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Summary:
    """The results of a study.

    features: description of its features, from `describe_features`.
    notes: sentences about what was left out and about limits of the results.
    """

    title: str
    features: str
    tables: tuple[Table, ...]
    plots: tuple[Plot, ...] = ()
    notes: tuple[str, ...] = ()


class Study(Protocol):
    """An experiment of the papers: plans runs, executes one, sums them up."""

    @property
    def name(self) -> str:
        """As on the command line, such as `data-efficiency`."""
        ...

    def plan(self, progress: Progress) -> Sequence[Run]:
        """List every run in the order of execution; may prepare data."""
        ...

    def execute(self, run: Run, *, scratch: Path, progress: Progress) -> Mapping[str, Any]:
        """Make one run and give its result in plain JSON values.

        `scratch` is a folder of the run's own; what an interrupted run left in it is still there, and it is removed
        when the result is written.
        """
        ...

    def summarise(self, finished: Sequence[FinishedRun]) -> Summary:
        """Make tables and plots of all runs, in the order of the plan."""
        ...


def spread(values: Sequence[float]) -> Spread:
    """Compute mean and standard deviation of repeats.

    Raises:
        ValueError: there is none.
    """
    if not values:
        raise ValueError("a mean needs at least one value")
    mean = sum(values) / len(values)
    if len(values) == 1:
        return Spread(mean, None, 1)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return Spread(mean, float(variance**0.5), len(values))
