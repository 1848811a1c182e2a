"""The messages between the parent and a measuring process: one job at its start, then one JSON line a question.

The process answers each line with one line: `{"error": text}`, or what the question asks for.

    (start)                        {"model_bytes": int | null, "about": {...}}      built, not yet run
    {"do": "warm"}                 {"seconds": [...], "stable": bool}
    {"do": "trial", "calls": n, "refresh": bool}
                                   {"seconds": [...]}               n timed calls, after one that is not if so asked
    {"do": "prepare", "batch": n, "check": bool}
                                   what `Batches.prepare` returns    of throughput alone, as is the next
    {"do": "window", "batch": n, "start": t, "seconds": s}
                                   {"begun": t, "ends": [...]}
    {"do": "finish"}               {"peak_rss_bytes": int | null, "peak_device_bytes": int | null}, then it ends
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from stale_edge.benchmarking.network_sizes import Network
from stale_edge.config import Precision

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

JobVariant = Literal[
    "reference", "detector", "text", "localizer", "postprocess", "matrix-product", "compile", "throughput"
]
"""`compile` writes what a `detector` of another process will run; `throughput` runs batches."""


@dataclass(frozen=True)
class Job:
    """One process' work: a row, or the matrix product that measures the machine's rate."""

    variant: JobVariant
    device: Literal["cpu", "cuda"]
    runtime: str
    """Runtime of the row; for a matrix product, the engine that multiplies."""
    precision: Precision
    length: int
    """T; for a matrix product the size of its square matrices."""
    threads: int
    cpus: tuple[int, ...] = ()
    """CPUs to stay on; empty: the system cannot pin."""
    network: Network | None = None
    """Sizes of the network, for rows that PyTorch runs."""
    bundle: str = ""
    """Path of the bundle, for rows that run its files and for post-processing."""
    n_classes: int = 0
    """K of post-processing's input."""
    seed: int = 0
    scratch: str = ""
    """Folder that PyTorch's compilers write to."""
    artifact: str = ""
    """File that AOTInductor writes in `compile` and runs in `detector`."""


@dataclass(frozen=True)
class Workload:
    """One call, ready to be timed, and the bytes of what it runs: weights in PyTorch, the file of an artifact."""

    call: Callable[[], object]
    model_bytes: int | None
    about: Mapping[str, float] = field(default_factory=dict)
    """What else was found when it was built."""


def is_stable(seconds: list[float]) -> bool:
    """Whether the last calls of a warm-up lie close together, by `WARM_UP_RULE`."""
    if len(seconds) < WARM_UP_WINDOW:
        return False
    window = sorted(seconds[-WARM_UP_WINDOW:])
    middle = window[WARM_UP_WINDOW // 2]
    return max(middle - window[0], window[-1] - middle) <= WARM_UP_SPREAD * middle


def needs_refresh(seconds: float) -> bool:
    """Whether a trial begins with a call that is not timed, given the seconds of one, by `TRIAL_RULE`."""
    return seconds < LONG_CALL_SECONDS


def calls_per_trial(seconds: float) -> int:
    """Return how many timed calls a trial makes, given the seconds of one, by `TRIAL_RULE`."""
    return min(TRIAL_CALLS, max(1, round(TRIAL_SECONDS / seconds))) if seconds > 0 else TRIAL_CALLS
