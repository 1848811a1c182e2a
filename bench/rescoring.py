"""Measure `model.rescoring = video-class`: average mAP of STALE and `light` with and without it, on validation.

    .venv/bin/python bench/rescoring.py --work DIR --json bench/results/rescoring.json

Worlds of seeds 10 and 11 with half of the demo's videos, which no result reports; with the DIR of
`bench/stale_training.py` its worlds and its run of STALE are used. Weights are the same with and without.
"""

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from worlds import average_maps, open_world

from stale_edge.bundle.files import write_file_atomically
from stale_edge.demo.feature_world import training_config
from stale_edge.machine import machine_card
from stale_edge.model.checkpoint import read_checkpoint
from stale_edge.training import train

SCHEMA = "stale-edge-bench-rescoring/1"
RUNS = {"STALE": "paper", "light": "light"}
SCALE = 0.5
CHOICES = ("none", "video-class")


def measure(world: Path, detectors: list[str], *, seed: int) -> dict[str, dict[str, dict[str, float]]]:
    """Train what is missing in a world, and give average mAP by detector, choice and part."""
    data_set, found = open_world(world, seed=seed, scale=SCALE), dict[str, dict[str, dict[str, float]]]()
    for name in detectors:
        architecture = RUNS[name]
        config = training_config(data_set, seed=seed, architecture=architecture)
        run = world / "runs" / name
        train(config, data_set.root, run, resume=run.exists())
        checkpoint = read_checkpoint(run / "last")
        model: Any = checkpoint.model
        for choice in CHOICES:
            model.config = replace(model.config, rescoring=choice)
            found.setdefault(name, {})[choice] = average_maps(checkpoint, data_set)
    return found


def main() -> None:
    """Measure, write the record and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for data and runs")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--seeds", default="10,11")
    parser.add_argument("--detectors", default=",".join(RUNS), help="of which the rows are measured; others are kept")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    report: dict[str, Any] = json.loads(arguments.json.read_text()) if arguments.json.is_file() else {"rows": {}}
    report |= {"schema": SCHEMA, "scale": SCALE, "machine": machine_card()}
    for seed in arguments.seeds.split(","):
        world = arguments.work / f"seed-{seed}"
        for name, choices in measure(world, arguments.detectors.split(","), seed=int(seed)).items():
            for choice, parts in choices.items():
                report["rows"].setdefault(f"{name}, {choice}", {})[seed] = parts
                print(f"| {seed} | {name} | {choice} | {parts['seen']:.1f} | {parts['unseen']:.1f} |", flush=True)
    write_file_atomically(arguments.json, json.dumps(report, indent=1).encode())


if __name__ == "__main__":
    main()
