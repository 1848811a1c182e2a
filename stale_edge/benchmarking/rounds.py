"""Measuring in turns: all processes of a group stay alive, and each of them runs one trial per round."""

import contextlib
import statistics as stdlib_statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from stale_edge.benchmarking.jobs import Job, calls_per_trial, needs_refresh
from stale_edge.benchmarking.processes import JobProcess
from stale_edge.benchmarking.row_plan import RowPlan, turns
from stale_edge.progress import Progress


@dataclass
class Measurement:
    """A row, or a matrix product beside the rows, and all that is measured of it."""

    name: str
    plan: RowPlan
    running: JobProcess | None = None
    """Its measuring process; None: it has none, see `reason`, or several, as in `throughput`."""
    reason: str = ""
    """Why it is not measured; empty: it is."""
    model_bytes: int | None = None
    calls: int = 1
    """Number of timed calls per trial."""
    refresh: bool = True
    """Whether each trial begins with an untimed call."""
    stable: bool = False
    """Whether its warm-up ended because times were stable."""
    trials: list[list[float]] = field(default_factory=list)
    """Seconds of every timed call, by trial."""
    rates: list[float] = field(default_factory=list)
    """Videos per second, one value per round; `throughput` alone."""
    macs: int | None = None
    """Multiply-accumulates of one call; None: not counted."""
    about: dict[str, Any] = field(default_factory=dict)
    """`compile_seconds`, `mask_difference` and `snippets_apart` where the outputs were compared, `peak_rss_bytes` and
    `peak_device_bytes` after `finish`."""

    @property
    def process(self) -> JobProcess:
        """Its measuring process.

        Raises:
            ValueError: it has none.
        """
        if self.running is None:
            raise ValueError(f"{self.name} has no process: {self.reason or 'it is not started'}")
        return self.running

    def build(self) -> None:
        """Wait until the job is built."""
        self.model_bytes = self.process.ready()
        self.about = {**self.process.about, **self.about}

    def warm_up(self) -> None:
        """Run until times are stable, and choose the number of calls per trial."""
        seconds, self.stable = self.process.warm_up()
        typical = stdlib_statistics.median(seconds[-3:])
        self.calls, self.refresh = calls_per_trial(typical), needs_refresh(typical)

    def finish(self) -> None:
        """End its process, and note the peak memory."""
        self.about |= self.process.finish()

    @property
    def seconds(self) -> list[float]:
        """Seconds of every timed call."""
        return [seconds for trial in self.trials for seconds in trial]

    @property
    def median_s(self) -> float:
        """Median over all timed calls."""
        return stdlib_statistics.median(self.seconds)


@contextlib.contextmanager
def warmed_up(jobs: Sequence[tuple[str, Job]], *, progress: Progress, stage: str) -> Iterator[list[Measurement]]:
    """Start a process for each (name, job), warm them up one by one, and end them all with the block.

    Raises:
        StaleEdgeError: a process died or refused its job.
    """
    with contextlib.ExitStack() as stack:
        group = [Measurement(name, job, stack.enter_context(JobProcess(job, name=name))) for name, job in jobs]
        for measured in group:
            measured.build()
        for done, measured in enumerate(group):  # only now, when no other process works
            progress(stage, done, len(group), measured.name)
            measured.warm_up()
        progress(stage, len(group), len(group), "")
        yield group


def run_rounds(group: Sequence[Measurement], rounds: int, *, seed: int, progress: Progress, stage: str) -> None:
    """Run one trial of every process in every round, in a new random order per round; one process works at a time."""
    total, done = rounds * len(group), 0
    for order in turns(len(group), rounds, seed=seed):
        for index in order:
            measured = group[index]
            progress(stage, done, total, measured.name)
            measured.trials.append(measured.process.trial(measured.calls, refresh=measured.refresh))
            done += 1
    progress(stage, total, total, "")
