"""Time the detectors of all architectures at full size, in turns: ONNX Runtime, one thread, random weights.

    python bench/architectures.py --lengths 200,1000,3000 --json bench/results/MACHINE-architectures.json

Each detector is exported for 200 classes and measured as `stale-edge bench` measures a row, all of one length in the
same rounds. Times do not depend on the values of weights; accuracy is measured elsewhere (`bench/baselines.py`).
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from stale_edge.benchmarking import parse_lengths
from stale_edge.benchmarking.cpus import choose_cpus, load_average, require_idle
from stale_edge.benchmarking.jobs import Job
from stale_edge.benchmarking.network_sizes import full_size
from stale_edge.benchmarking.rounds import Measurement, run_rounds, warmed_up
from stale_edge.benchmarking.statistics import summarize
from stale_edge.benchmarking.torch_rows.counts import describe_network, detector_macs
from stale_edge.benchmarking.torch_rows.made_bundles import make_bundle
from stale_edge.cli.output import progress_bar
from stale_edge.machine import machine_card
from stale_edge.model.architectures import ARCHITECTURES
from stale_edge.progress import Progress

SCHEMA = "stale-edge-architectures/1"
RUNTIME = "onnxruntime"
COMPARED_WITH = "paper"
"""Ratios are to this architecture in fp32 at the same length."""


def measure(
    names: list[str], lengths: tuple[int, ...], precisions: list[str], *, repeats: int, progress: Progress
) -> dict[str, Any]:
    """Measure every architecture at every length.

    Args:
        names: rows of the table of architectures.
        lengths: T in snippets.
        precisions: `fp32`, `int8`.
        repeats: number of rounds.
        progress: called with (stage, done, total, note).
    """
    card, cpus = machine_card() | {"load_average_before": load_average()}, tuple(choose_cpus(1) or ())
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for length in lengths:
            jobs = []
            for name in names:
                network, path = full_size(name).at(length), Path(folder) / f"{name}-{length}"
                if network.model.length_rule.fixed is None:
                    path = Path(folder) / name  # one file for all lengths
                if not path.exists():
                    make_bundle(path, network, [(RUNTIME, p) for p in precisions], seed=0, progress=progress)
                for precision in precisions:
                    plan: Any = {"variant": "detector", "device": "cpu", "runtime": RUNTIME, "precision": precision}
                    jobs.append((name, Job(**plan, length=length, threads=1, cpus=cpus, bundle=str(path))))
            with warmed_up(jobs, progress=progress, stage=f"T = {length}: warm up") as group:
                run_rounds(group, repeats, seed=0, progress=progress, stage=f"T = {length}: measure")
                for measured in group:
                    measured.finish()
            rows += _rows(group, length)
    return {
        "schema": SCHEMA,
        "machine": card | {"load_average_after": load_average()},
        "repeats": repeats,
        "networks": {name: describe_network(full_size(name)) for name in names},
        "rows": rows,
    }


def _rows(group: list[Measurement], length: int) -> list[dict[str, Any]]:
    base = next((m.median_s for m in group if (m.name, m.plan.precision) == (COMPARED_WITH, "fp32")), None)
    return [
        {
            "architecture": measured.name,
            "precision": measured.plan.precision,
            "length": length,
            "seconds": dict(summarize(measured.seconds)),
            "share_of_paper": None if base is None else measured.median_s / base,
            "gmacs": detector_macs(full_size(measured.name), length) / 1e9,
            "model_bytes": measured.model_bytes,
            "peak_rss_bytes": measured.about["peak_rss_bytes"],
        }
        for measured in group
    ]


def main() -> None:
    """Read the options, measure, print a table and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", default="200,1000,3000")
    parser.add_argument("--architectures", default=",".join(ARCHITECTURES))
    parser.add_argument("--precisions", default="fp32,int8")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--record", action="store_true", help="begin only on an idle machine")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.record:
        require_idle()
    with progress_bar() as progress:
        result = measure(
            options.architectures.split(","),
            parse_lengths(options.lengths),
            options.precisions.split(","),
            repeats=options.repeats,
            progress=progress,
        )
    print(f"{'architecture':14} {'':5} {'T':>5} {'median':>11} {'of paper':>9} {'GMACs':>7} {'MB':>6}")
    for row in result["rows"]:
        share = "-" if row["share_of_paper"] is None else f"{row['share_of_paper']:.3f}"
        print(
            f"{row['architecture']:14} {row['precision']:5} {row['length']:5} {row['seconds']['median'] * 1e3:8.2f} ms "
            f"{share:>9} {row['gmacs']:7.2f} {row['model_bytes'] / 1e6:6.1f}"
        )
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
