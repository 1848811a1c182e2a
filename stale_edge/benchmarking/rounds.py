"""Measuring in turns: all processes of a group stay alive, and each round asks every one of them for one trial."""

import contextlib
import statistics as stdlib_statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from stale_edge.benchmarking.jobs import Job, calls_per_trial, needs_refresh
from stale_edge.benchmarking.plan import turns
from stale_edge.benchmarking.processes import Worker
from stale_edge.progress import Progress


@dataclass
class Contestant:
    """One measured process and what it answered so far."""

    name: str
    worker: Worker
    model_bytes: int | None = None
    calls: int = 1
    """Timed calls of each of its trials."""
    refresh: bool = True
    """Whether each trial begins with a call that is not timed."""
    stable: bool = False
    """Whether its warm-up ended because times were stable."""
    trials: list[list[float]] = field(default_factory=list)
    """Seconds of every timed call, by trial."""

    def warm_up(self) -> None:
        """Run until times are stable, and choose how many calls a trial makes."""
        seconds, self.stable = self.worker.warm_up()
        typical = stdlib_statistics.median(seconds[-3:])
        self.calls, self.refresh = calls_per_trial(typical), needs_refresh(typical)

    @property
    def median_s(self) -> float:
        """Median over all timed calls."""
        return stdlib_statistics.median(seconds for trial in self.trials for seconds in trial)


@contextlib.contextmanager
def contestants(jobs: Sequence[tuple[str, Job]], *, progress: Progress, stage: str) -> Iterator[list[Contestant]]:
    """Start a process for each (name, job), one after the other warm, and end them all with the block.

    Raises:
        StaleEdgeError: a process died or refused its job.
    """
    with contextlib.ExitStack() as stack:
        group = [Contestant(name, stack.enter_context(Worker(job, name=name))) for name, job in jobs]
        for contestant in group:
            contestant.model_bytes = contestant.worker.ready()
        for done, contestant in enumerate(group):  # only now that nobody else is at work
            progress(stage, done, len(group), contestant.name)
            contestant.warm_up()
        progress(stage, len(group), len(group), "")
        yield group


def run_rounds(group: Sequence[Contestant], rounds: int, *, seed: int, progress: Progress, stage: str) -> None:
    """Ask every contestant for one trial in every round, in an order drawn anew for each; one works at a time."""
    total, done = rounds * len(group), 0
    for order in turns(len(group), rounds, seed=seed):
        for index in order:
            contestant = group[index]
            progress(stage, done, total, contestant.name)
            contestant.trials.append(contestant.worker.trial(contestant.calls, refresh=contestant.refresh))
            done += 1
    progress(stage, total, total, "")
