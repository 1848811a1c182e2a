"""The rows of a run's JSON, made from its measurements: timed rows, peers, and videos per second."""

import statistics as stdlib_statistics
from collections.abc import Sequence
from typing import Any

from stale_edge.benchmarking.rates import Rates
from stale_edge.benchmarking.rounds import Measurement
from stale_edge.benchmarking.row_plan import Setup
from stale_edge.benchmarking.statistics import summarize
from stale_edge.config import BenchConfig


def to_rows(measured: Sequence[Measurement], *, config: BenchConfig, rates: Rates) -> list[dict[str, Any]]:
    """Make the rows of timed calls, in the order of the plan."""
    references, eager = (
        {
            (m.plan.device, m.plan.length): m.median_s
            for m in measured
            if m.plan.variant == variant and m.plan.runtime == "pytorch"
        }
        for variant in ("reference", "as-trained")
    )
    rows = []
    for m in measured:
        plan, seconds = m.plan, summarize(m.seconds)
        macs_per_second = None if m.macs is None else m.macs / seconds["median"]
        where = (plan.device, plan.length)
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
                "peak_rss_bytes": m.about["peak_rss_bytes"],
                "model_bytes": m.model_bytes,
                "gmacs": None if m.macs is None else m.macs / 1e9,
                "gmacs_per_second": None if macs_per_second is None else macs_per_second / 1e9,
                "utilization": None
                if macs_per_second is None
                else macs_per_second / rates(plan.device, plan.precision),
                "speedup": references[where] / seconds["median"] if where in references else None,
                "speedup_as_trained": eager[where] / seconds["median"] if where in eager else None,
            }
        )
    return rows


def peer_row(peer: Measurement) -> dict[str, Any]:
    """Describe how a peer was built; its times are in `rows`."""
    plan = peer.plan
    return {
        "variant": plan.variant,
        "device": plan.device,
        "runtime": plan.runtime,
        "precision": plan.precision,
        "length": plan.length,
        "compile_seconds": peer.about.get("compile_seconds"),
        **_compared(peer),
    }


def throughput_row(measured: Measurement, setup: Setup, base: Measurement) -> dict[str, Any]:
    """Describe a setup's videos per second, with the ratio to the first setup of the same product."""
    plan, rates = measured.plan, measured.rates
    median = stdlib_statistics.median(rates) if rates else None
    base_median = stdlib_statistics.median(base.rates) if base.rates else 0.0  # 0 if no call fits into a window
    return {
        "runtime": plan.runtime,
        "precision": plan.precision,
        "length": plan.length,
        "sessions": setup.sessions,
        "threads": setup.threads,
        "batch": setup.batch,
        "videos_per_second": {"median": median, "min": min(rates), "max": max(rates)} if rates else None,
        "ratio": median / base_median if median is not None and base_median else None,
        "seconds": dict(summarize(measured.seconds)) if measured.trials else None,
        **_compared(measured),
    }


def _compared(measured: Measurement) -> dict[str, Any]:
    """Give the differences of the outputs, and why there are none."""
    differences = {name: measured.about.get(name) for name in ("mask_difference", "snippets_apart")}
    return {**differences, "not_measured": measured.reason or None}
