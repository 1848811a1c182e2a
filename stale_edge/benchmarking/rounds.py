"""Measuring in turns: all processes of a group stay alive, and each of them runs one trial per round."""

import contextlib
import statistics as stdlib_statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from stale_edge.benchmarking.jobs import Job, calls_per_trial, needs_refresh
from stale_edge.benchmarking.processes import JobProcess
from stale_edge.benchmarking.row_plan import turns
from stale_edge.progress import Progress


@dataclass
class MeasuredProcess:
    """One measured process and its measurements so far."""

    name: str
    process: JobProcess
    model_bytes: int | None = None
    calls: int = 1
    """Number of timed calls per trial."""
    refresh: bool = True
    """Whether each trial begins with an untimed call."""
    stable: bool = False
    """Whether its warm-up ended because times were stable."""
    trials: list[list[float]] = field(default_factory=list)
    """Seconds of every timed call, by trial."""

    def warm_up(self) -> None:
        """Run until times are stable, and choose the number of calls per trial."""
        seconds, self.stable = self.process.warm_up()
        typical = stdlib_statistics.median(seconds[-3:])
        self.calls, self.refresh = calls_per_trial(typical), needs_refresh(typical)

    @property
    def median_s(self) -> float:
        """Median over all timed calls."""
        return stdlib_statistics.median(seconds for trial in self.trials for seconds in trial)


@contextlib.contextmanager
def warmed_up(jobs: Sequence[tuple[str, Job]], *, progress: Progress, stage: str) -> Iterator[list[MeasuredProcess]]:
    """Start a process for each (name, job), warm them up one by one, and end them all with the block.

    Raises:
        StaleEdgeError: a process died or refused its job.
    """
    with contextlib.ExitStack() as stack:
        group = [MeasuredProcess(name, stack.enter_context(JobProcess(job, name=name))) for name, job in jobs]
        for measured in group:
            measured.model_bytes = measured.process.ready()
        for done, measured in enumerate(group):  # only now, when no other process works
            progress(stage, done, len(group), measured.name)
            measured.warm_up()
        progress(stage, len(group), len(group), "")
        yield group


def run_rounds(group: Sequence[MeasuredProcess], rounds: int, *, seed: int, progress: Progress, stage: str) -> None:
    """Run one trial of every process in every round, in a new random order per round; one process works at a time."""
    total, done = rounds * len(group), 0
    for order in turns(len(group), rounds, seed=seed):
        for index in order:
            measured = group[index]
            progress(stage, done, total, measured.name)
            measured.trials.append(measured.process.trial(measured.calls, refresh=measured.refresh))
            done += 1
    progress(stage, total, total, "")
