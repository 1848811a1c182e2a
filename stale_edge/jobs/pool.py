"""Doing the same work on many inputs: one after the other here, or on many processes and machines through Ray Data."""

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
"""One input or one result: JSON values by name; `video` says which."""


class Worker(Protocol):
    """Does one input after the other, with whatever it opened once when it was made."""

    def __call__(self, row: Row) -> Row:
        """Do one input; raises StaleEdgeError when the input is bad."""
        ...


@dataclass(frozen=True)
class RayPool:
    """Where Ray runs.

    scratch: folder that every process sees, on every machine; it is left as it was.
    address: of a cluster, such as `auto` or `ray://host:10001`; None: a cluster of this machine alone, for this run.
    workers: processes that work at once, >= 1.
    cpus: cores that each is given, >= 1.
    """

    scratch: Path
    address: str | None = None
    workers: int = 2
    cpus: int = 1


ERROR = "error"
"""The key under which a result says why an input failed."""

MOST_TRIES = 2
"""How often an input is begun: again once, where the process that worked on it died."""


def run_all(make: Callable[[], Worker], rows: Sequence[Row], *, pool: RayPool | None = None) -> Iterator[Row]:
    """Do every input; results come as they are done, in any order.

    A bad input costs itself: its result is the input's row with the key `error`. With Ray, an input whose worker died
    is done again once by another; if that one dies too, the input has failed.

    Args:
        make: makes a worker; called once a process, so opens what is slow to open.
        rows: inputs, each with a distinct `video`.
        pool: None: this process.

    Raises:
        StaleEdgeError: a worker cannot be made, which no input is to blame for.
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
    """What a process of the pool holds: one worker, made when the process starts."""

    def __init__(self, make: Callable[[], Worker], tries: Path) -> None:
        self._worker = make()
        self._tries = tries

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        # Rows travel as JSON: those of different inputs need not have the same keys, and Arrow would want them to.
        done = [json.dumps(self._once(json.loads(str(row)))) for row in batch["row"]]
        return {"row": np.array(done, dtype=object)}

    def _once(self, row: Row) -> Row:
        """Do an input, unless it was begun before as often as it may be: each beginning leaves a mark first.

        Ray begins the input of a dead process again and again; one that kills every process would never end.
        """
        name = hashlib.sha256(row["video"].encode()).hexdigest()
        if len(list(self._tries.glob(f"{name}.*"))) >= MOST_TRIES:
            return {**row, ERROR: f"the process that worked on {row['path']} died, and so did the one that tried again"}
        (self._tries / f"{name}.{secrets.token_hex(8)}").touch()
        try:
            return _attempt(self._worker, row)
        except Exception as error:  # Ray would drop it with its block, and nobody would learn what it was
            return {**row, ERROR: f"{row['path']}: {type(error).__name__}: {' '.join(str(error).split())}"}


def _run_on_ray(make: Callable[[], Worker], rows: Sequence[Row], pool: RayPool) -> Iterator[Row]:
    make()  # what no worker can open is found here, in one line, and not in every process
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
            # One at a time: whoever waits behind an input that kills its process is not begun.
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
    """Join a cluster, or start one of this machine: on the loopback alone, without dashboard and usage reports."""
    if pool.address is None:
        # Read when Ray is first imported: without this, a cluster of one machine listens on all its addresses.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray.data  # it sets up its log when it is imported

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
    data_log.setLevel(logging.CRITICAL)  # what it says of inputs, errors.jsonl says in a line
    try:
        yield
    finally:
        data_log.setLevel(level)
        ray.shutdown()
