"""`bench --throughput`: videos per second, in batches, on two threads, and in two processes at once."""

import contextlib
import itertools
import random
import statistics as stdlib_statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stale_edge.benchmarking.cpus import choose_cpus
from stale_edge.benchmarking.jobs import Job
from stale_edge.benchmarking.processes import JobProcess
from stale_edge.benchmarking.result_rows import throughput_row
from stale_edge.benchmarking.rounds import Measurement
from stale_edge.benchmarking.row_plan import RowPlan, Setup
from stale_edge.config import BenchConfig
from stale_edge.config.runtimes import RUNTIMES
from stale_edge.machine import allowed_cpus
from stale_edge.progress import Progress

WINDOW_SECONDS = 2.0
WINDOW_CALLS = 3
LEAD_SECONDS = 0.05
"""Time between the request to all sessions and their common start, in seconds."""
COUNTED_RUNTIMES = tuple(name for name, runtime in RUNTIMES.items() if runtime.format == "onnx")
RULE = (
    f"videos per second in a window of {WINDOW_SECONDS:g} s, or of {WINDOW_CALLS} calls where those take longer, that "
    "all sessions begin at one moment of the machine's clock; of the call that the window's end interrupts, the share "
    "that lay inside counts. In each round every product is measured, in an order drawn anew, and of a product every "
    "setup; a session is a process, each of its threads pinned to a core of its own. Median over rounds"
)


SETUPS = (Setup(1, 1, 1), Setup(1, 1, 4), Setup(1, 1, 16), Setup(1, 2, 1), Setup(2, 1, 1))

Counted = list[tuple[Setup, Measurement]]
"""One product in every setup."""


def measure_throughput(
    plans: Sequence[RowPlan], bundle: Path, *, config: BenchConfig, setups: Sequence[Setup] = SETUPS, progress: Progress
) -> list[dict[str, Any]]:
    """Measure videos per second of a bundle's detectors in ONNX Runtime and OpenVINO.

    Only one product's processes are alive at a time, since long videos in large batches need gigabytes.

    Args:
        plans: rows of one length; only their detectors on the CPU are measured.
        bundle: bundle with their files.
        config: rounds and seed; `threads` is not read.
        setups: setups to measure; the first one is the base of ratios.
        progress: called with (stage, done, total, note).

    Returns:
        One entry per product and setup: `runtime`, `precision`, `length`, `sessions`, `threads` (per session), `batch`,
        `videos_per_second` (`median`, `min`, `max`), `ratio` (to the first setup of the same product), `seconds` of one
        call (as in `rows`), `mask_difference` and `snippets_apart` (of the batch from its videos one at a time), and
        `not_measured`, a reason or null. Values that were not measured are null.

    Raises:
        StaleEdgeError: a process died.
    """
    products = products_of(plans)
    counted = [[(setup, Measurement(plan.name, plan)) for setup in setups] for plan in products]
    n_cpus = len(allowed_cpus())
    for setup, measured in itertools.chain(*counted):
        if setup.cores > n_cpus:
            measured.reason = f"needs {setup.cores} CPUs, and this process may use {n_cpus}"
    generator = random.Random(config.seed)
    total, done = config.repeats * len(products), 0
    for _ in range(config.repeats):
        for of_product in generator.sample(counted, len(counted)):
            progress(f"T = {products[0].length}: throughput", done, total, of_product[0][1].name)
            _count_once(generator.sample(of_product, len(of_product)), bundle, seed=config.seed)
            done += 1
    if products:
        progress(f"T = {products[0].length}: throughput", total, total, "")
    return [throughput_row(one, setup, of_product[0][1]) for of_product in counted for setup, one in of_product]


def products_of(plans: Sequence[RowPlan]) -> list[RowPlan]:
    """Choose the rows whose detectors are measured."""
    return [
        plan
        for plan in plans
        if plan.variant == "detector" and plan.device == "cpu" and plan.runtime in COUNTED_RUNTIMES
    ]


def videos_in_window(ends: Sequence[float], begun: float, batch: int, *, start: float, seconds: float) -> float:
    """Count the videos of a session between `start` and `start + seconds`.

    Args:
        ends: end time of each call; the first call starts at `begun`, each other call when the one before it ends.
        begun: start time of the first call, >= start.
        batch: videos per call.
    """
    stop, videos, before = start + seconds, 0.0, begun
    for end in ends:
        share = 1.0 if end <= stop else max(0.0, (stop - before) / (end - before))
        videos += batch * share
        before = end
    return videos


def _count_once(of_product: Counted, bundle: Path, *, seed: int) -> None:
    """Measure one window of each setup of a product."""
    with contextlib.ExitStack() as stack:
        workers: dict[tuple[int, int], JobProcess] = {}
        for setup, measured in of_product:
            for session in range(0 if measured.reason else setup.sessions):
                key = session, setup.threads
                if key not in workers:
                    job = _job(measured.plan, bundle, *key, seed=seed)
                    workers[key] = stack.enter_context(JobProcess(job, name=f"throughput of {measured.name}"))
        for worker in workers.values():
            worker.ready()
        for setup, measured in of_product:
            if not measured.reason:
                _count_window(measured, setup.batch, [workers[i, setup.threads] for i in range(setup.sessions)])


def _count_window(one: Measurement, batch: int, sessions: Sequence[JobProcess]) -> None:
    prepared = [worker.ask(do="prepare", batch=batch, check=not one.rates) for worker in sessions]
    one.reason = next((answer["refused"] for answer in prepared if "refused" in answer), "")
    if one.reason:
        return
    one.about = prepared[0] | one.about
    slowest = max(stdlib_statistics.median(answer["seconds"]) for answer in prepared)
    seconds, start = max(WINDOW_SECONDS, WINDOW_CALLS * slowest), time.monotonic() + LEAD_SECONDS
    for worker in sessions:
        worker.send(do="window", batch=batch, start=start, seconds=seconds)
    videos = 0.0
    for worker in sessions:
        answer = worker.receive()
        begun, ends = answer["begun"], answer["ends"]
        videos += videos_in_window(ends, begun, batch, start=start, seconds=seconds)
        one.trials.append([end - before for before, end in zip([begun, *ends[:-1]], ends, strict=True)])
    one.rates.append(videos / seconds)


def _job(plan: RowPlan, bundle: Path, session: int, threads: int, *, seed: int) -> Job:
    """Pin the first session to the last CPU, and the second to the one before it."""
    cpus = choose_cpus(threads) if session == 0 else (choose_cpus(session + 1) or [])[:1]
    batches = {**vars(plan), "variant": "throughput"}
    return Job(**batches, threads=threads, cpus=tuple(cpus or ()), bundle=str(bundle), seed=seed)
