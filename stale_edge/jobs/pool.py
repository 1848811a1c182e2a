"""The same work on many inputs: one by one in this process, or in many processes and machines through Ray Data."""

import contextlib
import hashlib
import json
import logging
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from stale_edge.errors import StaleEdgeError

Row = dict[str, Any]
"""One input or one result: JSON values by name; `video` identifies it."""


class Worker(Protocol):
    """Processes inputs one by one, with resources that it opened once at the start."""

    def __call__(self, row: Row) -> Row:
        """Process one input; raises StaleEdgeError if the input is bad."""
        ...


@dataclass(frozen=True)
class RayPool:
    """Settings of Ray.

    scratch: folder that every process on every machine can read and write; temporary files are removed at the end.
    address: address of a cluster, such as `auto` or `ray://host:10001`; None: a cluster of this machine, for this run.
    workers: number of processes that work at the same time, >= 1.
    cpus: number of cores per process, >= 1.
    """

    scratch: Path
    address: str | None = None
    workers: int = 2
    cpus: int = 1


ERROR = "error"
"""Key of the error message in a failed input's result."""

MOST_TRIES = 2
"""Number of times that an input is started: once more if its process died."""


def run_all(make: Callable[[], Worker], rows: Sequence[Row], *, pool: RayPool | None = None) -> Iterator[Row]:
    """Process every input; yields results as they are done, in any order.

    A bad input does not stop the others: its result is its row with the key `error`. With Ray, if a worker dies,
    another one tries its input once more; if that one dies too, the input has failed.

    Args:
        make: makes a worker; called once per process, so slow resources are opened here.
        rows: inputs, each with a distinct `video`.
        pool: None: this process.

    Raises:
        StaleEdgeError: a worker cannot be made, for a reason other than an input.
    """
    if pool is not None:
        yield from _run_on_ray(make, rows, pool)
        return
    worker = make()
    for row in rows:
        yield _attempt(worker, row)


def _attempt(worker: Worker, row: Row) -> Row:
    try:
        return worker(row)
    except (StaleEdgeError, OSError) as error:
        return {**row, ERROR: " ".join(str(error).split())}


class _RayWorker:
    """One worker in a process of the pool, made when the process starts."""

    def __init__(self, make: Callable[[], Worker], tries: Path) -> None:
        self._worker = make()
        self._tries = tries

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        # Rows are sent as JSON: Arrow needs the same keys in all rows, but rows of different inputs may differ.
        done = [json.dumps(self._once(json.loads(str(row)))) for row in batch["row"]]
        return {"row": np.array(done, dtype=object)}

    def _once(self, row: Row) -> Row:
        """Process an input, unless it was started `MOST_TRIES` times before; each start first leaves a mark.

        Ray restarts the input of a dead process without limit, so an input that kills every process would never end.
        """
        name = hashlib.sha256(row["video"].encode()).hexdigest()
        if len(list(self._tries.glob(f"{name}.*"))) >= MOST_TRIES:
            return {**row, ERROR: f"the process that worked on {row['path']} died, and so did the one that tried again"}
        (self._tries / f"{name}.{secrets.token_hex(8)}").touch()
        try:
            return _attempt(self._worker, row)
        except Exception as error:  # Ray would drop it with its block, and the error would be lost
            return {**row, ERROR: f"{row['path']}: {type(error).__name__}: {' '.join(str(error).split())}"}


def _run_on_ray(make: Callable[[], Worker], rows: Sequence[Row], pool: RayPool) -> Iterator[Row]:
    make()  # an error that every worker would have is raised here, once
    waiting = {row["video"]: row for row in rows}
    with _cluster(pool), tempfile.TemporaryDirectory(dir=pool.scratch, prefix=".tries.") as tries:
        import ray

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.max_errored_blocks = -1
        results = ray.data.from_items(
            [{"row": json.dumps(row)} for row in rows], override_num_blocks=len(rows)
        ).map_batches(
            _RayWorker,
            fn_constructor_args=(make, Path(tries)),
            batch_size=1,
            # One at a time: inputs that wait behind an input that kills its process are not started.
            compute=ray.data.ActorPoolStrategy(size=min(pool.workers, len(rows)), max_tasks_in_flight_per_actor=1),
            num_cpus=pool.cpus,
        )
        for result in results.iter_rows():
            row = json.loads(result["row"])
            del waiting[row["video"]]
            yield row
    for row in waiting.values():
        yield {**row, ERROR: f"{row['path']}: no result came back from the cluster"}


@contextlib.contextmanager
def _cluster(pool: RayPool) -> Iterator[None]:
    """Join a cluster, or start one on this machine: loopback only, without dashboard and usage reports."""
    if pool.address is None:
        # Read when Ray is first imported: without this, a cluster of one machine listens on all its addresses.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray.data  # the import sets up its log

    if ray.is_initialized():
        yield
        return
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if pool.address is None:
        ray.init(num_cpus=pool.workers * pool.cpus, include_dashboard=False, **quiet)
    else:
        ray.init(address=pool.address, **quiet)
    data_log = logging.getLogger("ray.data")
    level = data_log.level
    data_log.setLevel(logging.CRITICAL)  # errors.jsonl has its messages about inputs, one line each
    try:
        yield
    finally:
        data_log.setLevel(level)
        ray.shutdown()
