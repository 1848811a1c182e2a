"""50 Salads, five folds, trained from the classes of each video alone: every stage of `study weak-supervision`.

    .venv/bin/python bench/salads50_weak.py --mat DIR --work DIR --json bench/results/salads50-weak.json

Data, folds and features are those of `bench/salads50.py`. Both branches read the same 18 scores; the VLP branch
compares them with one-hot rows, one for each class. Nearly every video shows nearly every class, so the classes of a
video say little here. All settings are the study's, but for those of the smaller data set, which are recorded; none was
chosen on these data. A stopped run continues at the fold where it stopped.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from salads50 import N_FOLDS, read_fold, write_data_set

from stale_edge.bundle.class_bank import ClassBank
from stale_edge.data import open_data_set
from stale_edge.data.folder import CLASS_BANK_FILE
from stale_edge.study import StudyOptions, run_study
from stale_edge.study.weak_supervision import WeakSupervision

SETTINGS = ("train.n_snippets=256", "train.batch_size=4", "model.vlp.n_frames=256")
"""T as in `bench/salads50.py`, and ten steps in an epoch of forty videos."""


def measure_fold(work: Path, folds: list[Any], names: list[str], *, test: int, scale: float) -> dict[str, Any]:
    """Train on the videos of four files, measure every stage on those of the fifth."""
    root, out = work / f"data-{test + 1}", work / f"study-{test + 1}"
    if not root.exists():
        write_data_set(root, folds, names, training=set(range(N_FOLDS)) - {test}, test=test)
        rows = np.eye(len(names) + 1, dtype=np.float32)[1:]  # column 0 of the scores is the background
        ClassBank(tuple(names), rows, "salads50:columns").save(root / CLASS_BANK_FILE)
    options = StudyOptions(out, data=root, scale=scale, repeats=1, seed=test, settings=SETTINGS)
    run_study(WeakSupervision(options), out)
    (file,) = (out / "runs").iterdir()
    stages: dict[str, Any] = json.loads(file.read_text())["result"]["stages"]
    return stages


def shown_share(root: Path) -> float:
    """Give the part of all pairs of video and class where the video shows the class."""
    annotations = open_data_set(root).annotations
    shown = [len({action.label for action in video.actions}) for video in annotations.videos.values()]
    return float(np.mean(shown) / len(annotations.classes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mat", type=Path, required=True, help="folder with Split_1.mat ... Split_5.mat")
    parser.add_argument("--work", type=Path, required=True, help="folder for data sets and runs")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the epochs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    names = [line.strip() for line in (arguments.mat / "mid_level_actions.txt").read_text().splitlines()]
    folds = [read_fold(arguments.mat / f"Split_{i + 1}.mat") for i in range(N_FOLDS)]
    found = []
    for test in range(N_FOLDS):
        found.append(measure_fold(arguments.work, folds, names, test=test, scale=arguments.scale))
        print(f"fold {test + 1}: {found[-1]}", flush=True)
    means = {
        stage: {key: float(np.mean([fold[stage][key] for fold in found])) for key in figures}
        for stage, figures in found[0].items()
    }
    share = shown_share(arguments.work / "data-1")
    for stage, figures in means.items():
        print(f"{stage:60}", {key: round(value, 1) for key, value in figures.items()})
    print(f"{100 * share:.0f} % of all pairs of video and class occur")
    if arguments.json:
        document = {
            "schema": "stale-edge-salads50-weak/1",
            "command": f"bench/salads50_weak.py --scale {arguments.scale:g}",
            "features": "real per-frame classifier scores, C = 18, for both branches",
            "settings": list(SETTINGS),
            "shown_share": share,
            "mean over folds": means,
            "folds": found,
        }
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
