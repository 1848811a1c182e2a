"""Compare detectors on the demo's data, from the training-free baseline to STALE, with five seeds.

    .venv/bin/python bench/baselines.py --work DIR --json bench/results/baselines.json

Every seed has its own classes, videos and weights. Settings were chosen on seeds 10 and 11. Detectors are trained on
the training videos of the seen classes and reported on the validation videos, which are not used to choose anything.
`--kinds` measures videos of several actions and videos of short actions apart; runs in DIR are used, not made again.
`--shot-s 30` makes data whose scenes change at cuts. A stopped run continues with the rows missing in the JSON. If
`../shared` exists next to the checkout, action and background of one real CLIP video are compared too.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from worlds import SPLITS, average_maps, open_world

from stale_edge.bundle.class_bank import ClassBank
from stale_edge.bundle.files import write_file_atomically
from stale_edge.config import FeaturesConfig, Normalize
from stale_edge.data import DataSet
from stale_edge.data.annotations import VideoAnnotation
from stale_edge.decoding import training_free_detections
from stale_edge.demo.feature_world import training_config
from stale_edge.evaluation import mean_average_precision
from stale_edge.machine import machine_card
from stale_edge.model.checkpoint import read_checkpoint
from stale_edge.report.formats import to_layout
from stale_edge.training import evaluate_checkpoint, train

SCHEMA = "stale-edge-bench-baselines/1"
SHORT_S = 15.0
KINDS: dict[str, Callable[[VideoAnnotation], bool]] = {
    "several actions": lambda video: len(video.actions) > 1,
    "short actions": lambda video: max(action.end_s - action.start_s for action in video.actions) < SHORT_S,
}
KINDS_OF = {"linear, video-mean": "linear", "STALE, video-mean": "paper", "light, video-mean": "light"}
"""Rows whose kinds are measured, and their architectures."""
REAL_VIDEO = Path(__file__).resolve().parents[2] / "shared/data/real_video/v_GGSY1Qvo990_features.npz"
REAL_ACTION_S = (5.82, 16.20)


def training_free(data_set: DataSet, _seed: int, _scratch: Path) -> dict[str, float]:
    """Measure the training-free detector; its background are all names of the data set."""
    found = {}
    for part, split in SPLITS.items():
        names = data_set.split(split)
        everything = ClassBank.load(data_set.root / "class_bank.npz")
        bank = everything.select(names)
        detections = {}
        for video in data_set.videos("validation"):
            annotation = data_set.annotations.videos[video]
            if any(action.label in names for action in annotation.actions):
                detections[video] = training_free_detections(
                    data_set.load(video),
                    bank.embeddings,
                    everything.embeddings,
                    class_names=bank.names,
                    duration_s=annotation.duration_s,
                )
        truth = data_set.annotations.to_layout()
        result = mean_average_precision(truth, to_layout(detections), subset="validation", classes=names)
        found[part] = result.average_mAP
    return found


def run_name(architecture: str, normalize: Normalize, *, before: bool = False) -> str:
    """Name the folder of a run inside its world's."""
    return f"{architecture}-{normalize}{'-before' if before else ''}"


def kinds(data_set: DataSet, run: Path) -> dict[str, dict[str, float]]:
    """Measure a run on videos of several actions, and on videos whose actions are all short."""
    checkpoint, found = read_checkpoint(run / "last"), {}
    for kind, belongs in KINDS.items():
        videos = {
            name: video
            for name, video in data_set.annotations.videos.items()
            if video.subset == "validation" and video.actions and belongs(video)
        }
        part = replace(data_set, annotations=replace(data_set.annotations, videos=videos))
        found[kind] = {"videos": float(len(videos)), **average_maps(checkpoint, part)}
    return found


def trained(
    data_set: DataSet, seed: int, scratch: Path, *, architecture: str, normalize: Normalize, before: bool = False
) -> dict[str, float]:
    """Train a detector and measure its last epoch.

    Args:
        before: use the demo's former settings: no dropout of features, 10 epochs.
    """
    config = training_config(data_set, seed=seed, architecture=architecture)
    model = replace(config.model, features=FeaturesConfig(normalize=normalize))  # type: ignore[type-var]
    if before:
        model = replace(model, feature_dropout=0.0)
        config = replace(config, train=replace(config.train, epochs=10))
    config = replace(config, model=model)
    run = scratch / run_name(architecture, normalize, before=before)
    last = train(config, data_set.root, run, resume=run.exists()).last
    return {
        part: evaluate_checkpoint(last, data_set.root, split=data_set.root / "splits" / split).result.average_mAP
        for part, split in SPLITS.items()
    }


def _rows() -> dict[str, Callable[[DataSet, int, Path], dict[str, float]]]:
    def detector(architecture: str, normalize: Normalize, *, before: bool = False) -> Any:
        return lambda data_set, seed, scratch: trained(
            data_set, seed, scratch, architecture=architecture, normalize=normalize, before=before
        )

    return {
        "training-free": training_free,
        "linear, none": detector("linear", "none"),
        "linear, data-mean": detector("linear", "data-mean"),
        "linear, data-whiten": detector("linear", "data-whiten"),
        "linear, video-mean": detector("linear", "video-mean"),
        "STALE, data-mean, former settings": detector("paper", "data-mean", before=True),
        "STALE, video-mean, former settings": detector("paper", "video-mean", before=True),
        "STALE, video-mean": detector("paper", "video-mean"),
        "light, video-mean": detector("light", "video-mean"),
    }


def real_clip() -> dict[str, dict[str, float]] | None:
    """Compare action and background of one real CLIP video: cosines to the action's centroid and between both."""
    if not REAL_VIDEO.is_file():
        return None
    with np.load(REAL_VIDEO) as archive:
        features, times_s = archive["clip_vitb32"].astype(np.float64), archive["clip_timestamps_ms"] / 1000
    inside = (times_s >= REAL_ACTION_S[0]) & (times_s <= REAL_ACTION_S[1])
    found = {}
    for name, values in (("none", features), ("video-mean", features - features.mean(axis=0))):
        units = values / np.linalg.norm(values, axis=1, keepdims=True)
        action, background = (units[part].mean(axis=0) for part in (inside, ~inside))
        action, background = action / np.linalg.norm(action), background / np.linalg.norm(background)
        found[name] = {
            "inside": float((units[inside] @ action).mean()),
            "outside": float((units[~inside] @ action).mean()),
            "centroids": float(action @ background),
        }
    return found


def main() -> None:
    """Measure the rows that are missing in the JSON file, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for data and runs")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--rows", default="", help="names of the rows to measure, joined with ';'; default: all")
    parser.add_argument("--kinds", action="store_true", help="measure kinds of videos instead of all together")
    parser.add_argument("--shot-s", type=float, default=0.0, help="mean seconds between cuts; 0: none")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    report: dict[str, Any] = {"schema": SCHEMA, "shot_s": arguments.shot_s, "rows": {}}
    if arguments.json.is_file():
        report = json.loads(arguments.json.read_text())
        if report["shot_s"] != arguments.shot_s:
            raise SystemExit(f"{arguments.json} is of --shot-s {report['shot_s']}; choose another file")
    report["machine"], report["real_clip_video"] = machine_card(), real_clip()
    for name, measure in _rows().items():
        if arguments.kinds and name not in KINDS_OF:
            continue
        done = report.setdefault("kinds" if arguments.kinds else "rows", {}).setdefault(name, {})
        for seed in arguments.seeds.split(","):
            if seed in done or (arguments.rows and name not in arguments.rows.split(";")):
                continue
            world = arguments.work / f"seed-{seed}-cuts-{arguments.shot_s:g}"
            data_set = open_world(world, seed=int(seed), scale=1.0, shot_s=arguments.shot_s)
            started = time.perf_counter()
            if arguments.kinds:
                run = world / run_name(KINDS_OF[name], "video-mean")
                if not run.exists():
                    measure(data_set, int(seed), world)
                done[seed] = kinds(data_set, run)
            else:
                done[seed] = measure(data_set, int(seed), world)
                done[seed]["seconds"] = round(time.perf_counter() - started, 1)
            print(f"{name}, seed {seed}: {done[seed]}", flush=True)
            write_file_atomically(arguments.json, json.dumps(report, indent=1).encode())
    for name, seeds in report["rows"].items():
        print_row(name, list(seeds.values()))
    for name, seeds in report.get("kinds", {}).items():
        for kind in KINDS:
            print_row(f"{name}, {kind}", [found[kind] for found in seeds.values()])


def print_row(name: str, seeds: list[dict[str, float]]) -> None:
    """Print mean and deviation over seeds."""
    cells = []
    for part in SPLITS:
        values = [found[part] for found in seeds]
        if values:
            deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.1f}{deviation}")
    print(f"| {name} | {' | '.join(cells)} | {len(seeds)} |")


if __name__ == "__main__":
    main()
