"""The messages between the parent and a measuring process: one job at its start, then one JSON line per question.

The process answers each line with one line: `{"error": text}`, or the answer in this table.

    (start)                        {"model_bytes": int | null, "about": {...}}      built, not yet run
    {"do": "warm"}                 {"seconds": [...], "stable": bool}
    {"do": "trial", "calls": n, "refresh": bool}
                                   {"seconds": [...]}               n timed calls; if refresh, after one untimed call
    {"do": "prepare", "batch": n, "check": bool}
                                   result of `Batches.prepare`      this and the next only for throughput
    {"do": "window", "batch": n, "start": t, "seconds": s}
                                   {"begun": t, "ends": [...]}
    {"do": "finish"}               {"peak_rss_bytes": int | null, "peak_device_bytes": int | null}, then it ends
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from stale_edge.benchmarking.network_sizes import Network, read_network
from stale_edge.benchmarking.row_plan import RowPlan
from stale_edge.config import from_dict

WARM_UP_WINDOW = 3
WARM_UP_SPREAD = 0.05
WARM_UP_SECONDS = 10.0
WARM_UP_CALLS = 200
TRIAL_SECONDS = 0.05
TRIAL_CALLS = 20
LONG_CALL_SECONDS = 0.5
WARM_UP_RULE = (
    f"calls until {WARM_UP_WINDOW} in succession lie within {WARM_UP_SPREAD:.0%} of their median, "
    f"at most {WARM_UP_SECONDS:g} s or {WARM_UP_CALLS} calls"
)
TRIAL_RULE = (
    "one call that is not timed, which brings code and data back into the caches, then as many timed ones "
    f"as fill {TRIAL_SECONDS:g} s by the warm-up's median, 1 to {TRIAL_CALLS}; where a call takes "
    f"{LONG_CALL_SECONDS:g} s or more, that cost is negligible, and all calls are timed"
)


@dataclass(frozen=True)
class Job(RowPlan):
    """The work of one process: what is measured, and how."""

    threads: int
    cpus: tuple[int, ...] = ()
    """CPUs to run on; empty: the system cannot pin."""
    network: Network | None = None
    """Sizes of the network, for rows that PyTorch runs."""
    bundle: str = ""
    """Path of the bundle, for rows that run its files and for post-processing."""
    n_classes: int = 0
    """K of post-processing's input."""
    seed: int = 0
    scratch: str = ""
    """Output folder of PyTorch's compilers."""
    artifact: str = ""
    """File of AOTInductor: written in `compile`, run in `detector`."""


def read_job(values: Mapping[str, Any]) -> Job:
    """Read a job from the plain values that `to_dict` makes of it; only a job with a network imports torch."""
    job, network = from_dict(Job, {**values, "network": None}), values["network"]
    return job if network is None else replace(job, network=read_network(network))


@dataclass(frozen=True)
class Workload:
    """One call, ready to be timed, and the bytes of its model: weights in PyTorch, the file of an artifact."""

    call: Callable[[], object]
    model_bytes: int | None
    about: Mapping[str, float] = field(default_factory=dict)
    """Other measurements made while it was built."""


def is_stable(seconds: list[float]) -> bool:
    """Check whether the last times of a warm-up are close together, by `WARM_UP_RULE`."""
    if len(seconds) < WARM_UP_WINDOW:
        return False
    window = sorted(seconds[-WARM_UP_WINDOW:])
    middle = window[WARM_UP_WINDOW // 2]
    return max(middle - window[0], window[-1] - middle) <= WARM_UP_SPREAD * middle


def needs_refresh(seconds: float) -> bool:
    """Decide whether a trial begins with an untimed call, from the seconds of one call, by `TRIAL_RULE`."""
    return seconds < LONG_CALL_SECONDS


def calls_per_trial(seconds: float) -> int:
    """Return the number of timed calls per trial, from the seconds of one call, by `TRIAL_RULE`."""
    return min(TRIAL_CALLS, max(1, round(TRIAL_SECONDS / seconds))) if seconds > 0 else TRIAL_CALLS
