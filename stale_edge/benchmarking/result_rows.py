"""The rows of a run's JSON, made from its measurements."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stale_edge.benchmarking.rates import Rates
from stale_edge.benchmarking.rounds import MeasuredProcess
from stale_edge.benchmarking.row_plan import RowPlan
from stale_edge.benchmarking.statistics import summarize
from stale_edge.config import BenchConfig


@dataclass(frozen=True)
class Measured:
    """The plan of a row and its measurements."""

    plan: RowPlan
    process: MeasuredProcess
    peak_rss_bytes: int | None
    peak_device_bytes: int | None
    macs: int | None


def to_rows(measured: Sequence[Measured], *, config: BenchConfig, rates: Rates) -> list[dict[str, Any]]:
    """Turn measurements into the rows of the JSON, in the order of the plan."""
    references = {(m.plan.device, m.plan.length): m.process.median_s for m in measured if m.plan.variant == "reference"}
    rows = []
    for m in measured:
        plan, seconds = m.plan, summarize([s for trial in m.process.trials for s in trial])
        macs_per_second = None if m.macs is None else m.macs / seconds["median"]
        reference = references.get((plan.device, plan.length))
        rows.append(
            {
                "variant": plan.variant,
                "device": plan.device,
                "runtime": plan.runtime,
                "precision": plan.precision,
                "threads": config.threads,
                "length": plan.length,
                "repeats": config.repeats,
                "seconds": dict(seconds),
                "peak_rss_bytes": m.peak_rss_bytes,
                "model_bytes": m.process.model_bytes,
                "gmacs": None if m.macs is None else m.macs / 1e9,
                "gmacs_per_second": None if macs_per_second is None else macs_per_second / 1e9,
                "utilization": None
                if macs_per_second is None
                else macs_per_second / rates(plan.device, plan.precision),
                "speedup": None if reference is None else reference / seconds["median"],
            }
        )
    return rows
