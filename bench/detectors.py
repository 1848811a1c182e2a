"""Train every detector on the demo's data, and write the table of docs/detectors.md.

    .venv/bin/python bench/detectors.py --work DIR --json bench/results/detectors.json

All of them are trained on the same videos of the seen classes and measured on the same validation videos, with the
weights of the last epoch. STALE, `light` and the linear probe have the demo's settings, the others those of the
studies, two-stage and ActionFormer with the epochs of STALE. Times are CPU seconds of one thread of ONNX Runtime for
the network alone, the median of `REPEATS` calls in turns. A stopped run continues with what is missing in the JSON.
"""

import argparse
import dataclasses
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

import stale_edge
from stale_edge.benchmarking.synthetic import random_features
from stale_edge.bundle.files import write_file_atomically
from stale_edge.config import Config
from stale_edge.data import DataSet, open_data_set
from stale_edge.demo.feature_world import make_data_set, training_config
from stale_edge.exporting import export_checkpoint
from stale_edge.machine import machine_card
from stale_edge.model.weak.settings import AlternatingConfig
from stale_edge.study.other_systems import actionformer_config, effprompt_config
from stale_edge.study.weak_supervision import weak_config
from stale_edge.training import evaluate_checkpoint, train

SCHEMA = "stale-edge-bench-detectors/1"
SPLITS = {"seen": "train.list", "unseen": "test.list"}
LENGTHS = (200, 1000)
REPEATS = 7
CLOSED = ("actionformer", "weak")
ARCHITECTURES = ("stale", "light", "linear", "two-stage", *CLOSED)
WARM_UP, STEP = 20, 20


def config_of(architecture: str, data_set: DataSet, *, seed: int) -> Config:
    """Choose the settings of a detector for the demo's data."""
    if architecture in ("stale", "light", "linear"):
        return training_config(data_set, seed=seed, architecture=architecture)
    stale = training_config(data_set, seed=seed)
    if architecture == "actionformer":
        return actionformer_config(stale, data_set, full=False)
    if architecture == "two-stage":
        config = effprompt_config(stale, data_set)
        if config is None:
            raise ValueError("text and features of the demo have different widths")
        return config
    schedule = AlternatingConfig(
        epochs=WARM_UP, vlp_epochs=STEP, cbp_epochs=STEP, batch_size=16, learning_rate=1e-3, seed=seed, device="cpu"
    )
    return dataclasses.replace(weak_config(data_set, schedule), classes=stale.classes)


def measure(architecture: str, data_set: DataSet, folder: Path, *, seed: int) -> dict[str, Any]:
    """Train, evaluate and export one detector."""
    config = config_of(architecture, data_set, seed=seed)
    run = folder / architecture
    result = train(config, data_set.root, run, resume=run.exists())
    found: dict[str, Any] = {
        "epochs": result.epochs,
        "training_seconds": sum(record["seconds"] for record in result.records),
        "parameters": sum(p.numel() for p in torch_parameters(result.last)),
    }
    for part, split in SPLITS.items():
        if part == "unseen" and architecture in CLOSED:
            found[part] = None
            continue
        report = evaluate_checkpoint(result.last, data_set.root, split=data_set.root / "splits" / split)
        found[part] = report.result.average_mAP
        if report.baseline is not None:
            found[f"training-free, {part}"] = report.baseline.average_mAP
    bundle = run / "bundle"
    export_checkpoint(
        result.last, bundle, formats=("onnx",), precisions=("fp32", "int8"), data=data_set.root, keep_passing=True
    )
    for file in stale_edge.load_bundle(bundle).manifest.files:
        if file.role == "detector":
            found[f"megabytes_{file.precision}"] = file.bytes / 1e6
    return found


def torch_parameters(checkpoint: Path) -> list[torch.Tensor]:
    """List the weights of a trained network."""
    from stale_edge.model.checkpoint import read_checkpoint

    return list(read_checkpoint(checkpoint).model.parameters())


def times(folder: Path, architectures: list[str]) -> dict[str, dict[str, float]]:
    """Time the exported networks in turns, in milliseconds by architecture and T."""
    opened = {name: stale_edge.load_bundle(folder / name / "bundle") for name in architectures}
    seconds: dict[str, dict[int, list[float]]] = {name: {length: [] for length in LENGTHS} for name in opened}
    for repeat in range(REPEATS + 1):
        for name, localizer in opened.items():
            for length in LENGTHS:
                features = random_features(length, localizer.feature_contract.channels, seed=repeat)
                started = time.thread_time()
                localizer.forward(features)
                if repeat:  # the first call warms up
                    seconds[name][length].append(time.thread_time() - started)
    return {
        name: {str(length): 1000 * float(np.median(values)) for length, values in by_length.items()}
        for name, by_length in seconds.items()
    }


def table(report: dict[str, Any]) -> str:
    """Write the rows as Markdown."""
    lines = [
        "| `--arch` | mAP seen | mAP unseen | ms, T = 200 | ms, T = 1,000 | MB fp32 | MB int8 | epochs | s to train |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    free = [row for row in report["rows"].get("stale", {}).values() if "training-free, seen" in row]
    if free:
        cells = [statistics.mean(row[f"training-free, {part}"] for row in free) for part in SPLITS]
        lines.append(f"| training-free | {cells[0]:.1f} | {cells[1]:.1f} | - | - | - | - | - | - |")
    for name, seeds in report["rows"].items():
        runs = list(seeds.values())
        cells = []
        for key, digits in (("seen", 1), ("unseen", 1)):
            cells.append(_mean(runs, key, digits))
        spent = report.get("milliseconds", {}).get(name, {})
        cells += [f"{spent[str(n)]:.1f}" if spent else "-" for n in LENGTHS]
        cells += [_mean(runs, "megabytes_fp32", 2), _mean(runs, "megabytes_int8", 2)]
        cells += [_mean(runs, "epochs", 0), _mean(runs, "training_seconds", 0)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _mean(runs: list[dict[str, Any]], key: str, digits: int) -> str:
    values = [run[key] for run in runs if run.get(key) is not None]
    return f"{statistics.mean(values):.{digits}f}" if values else "-"


def main() -> None:
    """Measure what is missing in the JSON file, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for data and runs")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the demo's videos")
    parser.add_argument("--rows", default=",".join(ARCHITECTURES))
    parser.add_argument("--times", action="store_true", help="only time what is trained; on a quiet machine")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    report: dict[str, Any] = {"schema": SCHEMA, "scale": arguments.scale, "rows": {}}
    if arguments.json.is_file():
        report = json.loads(arguments.json.read_text())
        if report["scale"] != arguments.scale:
            raise SystemExit(f"{arguments.json} is of --scale {report['scale']}; choose another file")
    report["machine"] = machine_card()
    seeds = arguments.seeds.split(",")
    if not arguments.times:
        for seed in seeds:
            world = arguments.work / f"seed-{seed}"
            if not (world / "data").exists():
                make_data_set(world / "data", seed=int(seed), scale=arguments.scale)
            for name in arguments.rows.split(","):
                done = report["rows"].setdefault(name, {})
                if seed not in done:
                    done[seed] = measure(name, open_data_set(world / "data"), world, seed=int(seed))
                    print(f"{name}, seed {seed}: {done[seed]}", flush=True)
                    write_file_atomically(arguments.json, json.dumps(report, indent=1).encode())
    there = [name for name, done in report["rows"].items() if done.get(seeds[0], {}).get("megabytes_fp32")]
    report["milliseconds"] = times(arguments.work / f"seed-{seeds[0]}", there)
    write_file_atomically(arguments.json, json.dumps(report, indent=1).encode())
    print(table(report))


if __name__ == "__main__":
    main()
