"""A measuring process: `python -m stale_edge.benchmarking.child`; `jobs.py` lists its messages."""

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from stale_edge.benchmarking.batched_calls import Batches
from stale_edge.benchmarking.cpus import cpus_near, peak_rss_bytes, pin_all_threads
from stale_edge.benchmarking.jobs import WARM_UP_CALLS, WARM_UP_SECONDS, Job, Workload, is_stable, read_job
from stale_edge.benchmarking.workloads import build_workload
from stale_edge.errors import StaleEdgeError

Timer = Callable[[Callable[[], object]], float]


def serve(questions: TextIO, answers: TextIO) -> None:
    """Build the job of the first line, then answer one question per line until `finish`."""

    def answer(values: dict[str, Any]) -> None:
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    job = read_job(json.loads(questions.readline()))
    if job.cpus:
        # By default OpenVINO binds callers to the CPUs that it found when it was loaded, the same in all processes.
        pin_all_threads(job.cpus if job.runtime == "openvino" else cpus_near(job.cpus))
    try:
        batches = Batches(job) if job.variant == "throughput" else None
        workload = Workload(_nothing, batches.model_bytes) if batches is not None else build_workload(job)
        if job.cpus:
            pin_all_threads(job.cpus)  # only now: processes are built at the same time, on all cores of a node
        timer, peak_device_bytes = _timer(job)
        answer({"model_bytes": workload.model_bytes, "about": workload.about})
        gc.disable()  # as timeit does; each trial collects first instead
        for line in questions:
            question = json.loads(line)
            if question["do"] == "warm":
                answer(warm_up(workload.call, timer))
            elif question["do"] == "trial":
                answer({"seconds": trial(workload.call, timer, question["calls"], refresh=question["refresh"])})
            elif question["do"] == "prepare" and batches is not None:
                answer(batches.prepare(question["batch"], check=question["check"]))
            elif question["do"] == "window" and batches is not None:
                answer(batches.window(question["batch"], start=question["start"], seconds=question["seconds"]))
            else:
                answer({"peak_rss_bytes": peak_rss_bytes(), "peak_device_bytes": peak_device_bytes()})
                return
    except StaleEdgeError as error:
        answer({"error": str(error)})


def warm_up(call: Callable[[], object], timer: Timer) -> dict[str, Any]:
    """Call until the times are stable, by `jobs.WARM_UP_RULE`."""
    seconds: list[float] = []
    while not is_stable(seconds) and len(seconds) < WARM_UP_CALLS and sum(seconds) < WARM_UP_SECONDS:
        seconds.append(timer(call))
    return {"seconds": seconds, "stable": is_stable(seconds)}


def trial(call: Callable[[], object], timer: Timer, calls: int, *, refresh: bool) -> list[float]:
    """Time `calls` calls; if `refresh`, one untimed call first brings code and data back into the caches."""
    gc.collect()
    if refresh:
        timer(call)
    return [timer(call) for _ in range(calls)]


def wall_seconds(call: Callable[[], object]) -> float:
    """Time one call that works on the CPU."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _timer(job: Job) -> tuple[Timer, Callable[[], int | None]]:
    """Choose the timer of calls on the job's device, and the function that returns its peak device memory."""
    if job.device != "cuda":
        return wall_seconds, lambda: None
    from stale_edge.benchmarking.torch_rows.cuda import cuda_seconds, peak_device_bytes

    return cuda_seconds, peak_device_bytes


def _nothing() -> None:
    """Replace the call in a process that only runs batches."""


def main() -> None:
    """Write answers to the original standard output; libraries' prints go to standard error."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
