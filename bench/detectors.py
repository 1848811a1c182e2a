"""Train every detector on the demo's data, for the table of docs/detectors.md.

    .venv/bin/python bench/detectors.py --work DIR --json bench/results/detectors.json

All of them are trained on the same videos of the seen classes and measured on the same validation videos, with the
weights of the last epoch and with the demo's settings. Times are CPU seconds of one thread of ONNX Runtime for
the network alone, the median of `REPEATS` calls in turns. A stopped run continues with what is missing in the JSON.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from worlds import SPLITS, open_world

import stale_edge
from stale_edge.benchmarking.synthetic import random_features
from stale_edge.bundle.files import write_file_atomically
from stale_edge.data import DataSet
from stale_edge.demo.feature_world import training_config
from stale_edge.exporting import export_checkpoint
from stale_edge.machine import machine_card
from stale_edge.training import evaluate_checkpoint, train

SCHEMA = "stale-edge-bench-detectors/1"
LENGTHS = (200, 1000)
REPEATS = 7
CLOSED = ("actionformer", "weak")
ARCHITECTURES = ("stale", "light", "linear", "two-stage", *CLOSED)


def measure(architecture: str, data_set: DataSet, folder: Path, *, seed: int) -> dict[str, Any]:
    """Train, evaluate and export one detector."""
    config = training_config(data_set, seed=seed, architecture=architecture)
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


def main() -> None:
    """Measure what is missing in the JSON file."""
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
            data_set = open_world(world, seed=int(seed), scale=arguments.scale)
            for name in arguments.rows.split(","):
                done = report["rows"].setdefault(name, {})
                if seed not in done:
                    done[seed] = measure(name, data_set, world, seed=int(seed))
                    print(f"{name}, seed {seed}: {done[seed]}", flush=True)
                    write_file_atomically(arguments.json, json.dumps(report, indent=1).encode())
    there = [name for name, done in report["rows"].items() if done.get(seeds[0], {}).get("megabytes_fp32")]
    report["milliseconds"] = times(arguments.work / f"seed-{seeds[0]}", there)
    write_file_atomically(arguments.json, json.dumps(report, indent=1).encode())
    print(f"{arguments.json}: written; bench/tables.py puts it into the documents")


if __name__ == "__main__":
    main()
