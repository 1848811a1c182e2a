"""The complete ActivityNet v1.3 annotations with simulated features: open set and data efficiency.

    .venv/bin/python bench/activitynet.py --annotations DIR --splits DIR --work DIR --results bench/results

DIR of the annotations holds `activitynet_v1-3_{train,valid}_tsp_groundtruth.csv` (Alwassel et al., TSP: 10,024 and
4,926 videos, 200 classes) and `stale_best_score.json`, the video-level scores of the public STALE code; DIR of the
splits holds the published class lists, `75_25/train/split_0.list` ... Videos, durations, segments and classes are real,
features are simulated. So the runs can show whether a finding of the thesis follows from the protocol and the
annotations; they cannot show how good a model is on CLIP features. A stopped run is resumed.
"""

import argparse
import csv
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch

from stale_edge.config import SimulateConfig
from stale_edge.data import simulate
from stale_edge.study import StudyOptions, run_study
from stale_edge.study.data_efficiency import DataEfficiency
from stale_edge.study.open_set import OpenSet

SUBSETS = {"train": "training", "valid": "validation"}
SIMULATION = SimulateConfig(channels=64, stride=64)
"""A snippet is four seconds and has 64 channels, so that 15,000 videos take 60 MB and one core is enough."""
SETTINGS = (
    "train.epochs=6",
    "train.n_snippets=32",
    "train.batch_size=32",
    "model.dropout=0.2",
    "model.n_mask_queries=5",
)
PERCENTS = (10, 40, 100)


def read_annotations(folder: Path) -> dict[str, Any]:
    """Read TSP's tables into ActivityNet's layout; videos without an action stay."""
    database: dict[str, Any] = {}
    for name, subset in SUBSETS.items():
        with (folder / f"activitynet_v1-3_{name}_tsp_groundtruth.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                video = database.setdefault(
                    f"v_{row['video-name']}",
                    {"duration": float(row["video-duration"]), "subset": subset, "annotations": []},
                )
                if row["temporal-region-label"] == "Action":
                    segment = [float(row["t-start"]), float(row["t-end"])]
                    video["annotations"].append({"segment": segment, "label": row["action-label"]})
    return {"version": "1.3", "taxonomy": [], "database": database}


def show(stage: str, done: int, total: int, note: str = "") -> None:
    """Print a line after each percent."""
    if done == total or done % max(1, total // 20) == 0:
        print(f"\r{stage} {done}/{total} {note}"[:110].ljust(112), end="", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--splits", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for the data set and the runs")
    parser.add_argument("--results", type=Path, help="folder that tables, summaries and plots are copied to")
    parser.add_argument("--videos", type=int, default=1_000_000, help="at most so many (for a try)")
    parser.add_argument("--only", choices=("open-set", "data-efficiency"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = arguments.work / "activitynet"
    if not (data / "annotations.json").exists():
        shutil.rmtree(data, ignore_errors=True)
        truth = arguments.work / "annotations.json"
        truth.parent.mkdir(parents=True, exist_ok=True)
        truth.write_text(json.dumps(read_annotations(arguments.annotations)))
        simulate(data, config=SIMULATION, annotations=truth, progress=show)
    scores = arguments.annotations / "stale_best_score.json"
    common: dict[str, Any] = {"data": data, "videos": arguments.videos, "repeats": 1, "settings": SETTINGS}
    studies = {
        "open-set": lambda out: OpenSet(StudyOptions(out=out, **common), scores=scores, class_splits=arguments.splits),
        "data-efficiency": lambda out: DataEfficiency(
            StudyOptions(out=out, **common), scores=scores, percents=PERCENTS
        ),
    }
    for name, make in studies.items():
        if arguments.only in (None, name):
            out = arguments.work / name
            run_study(make(out), out, progress=show)
            if arguments.results:
                keep(out, arguments.results / f"activitynet-simulated-{name}")


def keep(study: Path, target: Path) -> None:
    """Copy the results of a study, without lists of classes and videos."""
    target.mkdir(parents=True, exist_ok=True)
    for path in [*study.glob("*.md"), *study.glob("*.json"), *study.glob("*.png")]:
        shutil.copyfile(path, target / path.name)
    (target / "runs").mkdir(exist_ok=True)
    for path in (study / "runs").glob("*.json"):
        shutil.copyfile(path, target / "runs" / path.name)


if __name__ == "__main__":
    main()
