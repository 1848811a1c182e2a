"""50 Salads, five folds, on real per-frame scores: a detector trained from scratch against runs of the best class.

    .venv/bin/python bench/salads50.py --mat DIR --work DIR --json bench/results/salads50.json
    .venv/bin/python bench/salads50.py --arch light --mat DIR --work DIR2 --json bench/results/salads50-light.json
    .venv/bin/python bench/salads50.py --arch linear --mat DIR --work DIR3 --json bench/results/salads50-linear.json

`Split_1.mat` ... `Split_5.mat` of Lea et al. (temporal convolutional networks) hold ten videos each: `S` (T, 18),
the scores of a spatio-temporal CNN, and `Y` (1, T), the class of every frame: 0 is background, 1 to 17 are the lines of
`mid_level_actions.txt`. The features are these scores, not CLIP embeddings. A frame counts as one second; mAP does
not depend on that unit.

Fold i is validated on the videos of `Split_i.mat` and trained on the other forty. Settings were chosen with
`--inner`: trained on files 3, 4 and 5, validated on file 2. A stopped run continues at the fold where it stopped.
"""

import argparse
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import torch

from stale_edge.bundle.files import write_file_atomically
from stale_edge.config import (
    Config,
    DecodeConfig,
    FeaturesConfig,
    FeatureSpec,
    LinearConfig,
    ModelConfig,
    TextConfig,
    TrainConfig,
    to_dict,
    with_overrides,
)
from stale_edge.data import open_data_set, write_feature_spec
from stale_edge.evaluation import mean_average_precision
from stale_edge.model.architectures import ARCHITECTURES, LINEAR_DECODE
from stale_edge.model.checkpoint import read_checkpoint
from stale_edge.model.light.settings import DECODE as LIGHT_DECODE
from stale_edge.model.light.settings import LightConfig
from stale_edge.runtime.evaluate import evaluate_localizer
from stale_edge.training import TorchLocalizer, train
from stale_edge.training.torch_localizer import feature_contract

N_FOLDS = 5
THRESHOLDS = (0.1, 0.25, 0.5)
"""tIoU thresholds that are reported next to the average over 0.5:0.95:0.05."""
BACKGROUND = 0
METHODS = {"paper": "stale", "light": "light", "linear": "linear"}
"""Names of the detectors in the record."""
STEADYING_FRAMES = 5
"""Width of score averaging that is best for the baseline, of 1, 5, 9, 15, 21, 31 on all five folds."""

CONFIG = Config(
    model=ModelConfig(
        feature_channels=18,
        features=FeaturesConfig(normalize="data-mean"),  # as when the settings were chosen
        embed_dim=64,
        temporal="ms-tcn",
        n_temporal_layers=1,
        feedforward_dim=128,
        localizer_dim=64,
        dropout=0.3,
        text=TextConfig(encoder="none"),
    ),
    train=TrainConfig(
        epochs=40,
        learning_rate=1e-3,
        weight_decay=1e-3,
        batch_size=8,
        n_snippets=256,
        validate_every=0,
        device="cpu",
    ),
    decode=DecodeConfig(
        class_threshold=0.02, top_snippets=2000, mask_thresholds=(0.9,), min_snippets=5, max_detections=200
    ),
)
"""The paper's architecture, small. Settings that these data require to differ from the defaults:

temporal: of Table 6. The transformer of eq. 1 has no positional encoding, so a snippet has no information on its
    neighbours, which is needed to separate 25 short actions per video.
top_snippets, max_detections: the best 100 pairs of snippet and class all lie in the few actions with the best scores.
mask_thresholds, min_snippets: a video is full of actions, so low thresholds merge neighbours; a few snippets between
    two classes are not an action.
"""


_FREE = TextConfig(encoder="none")
_LIGHT = LightConfig(feature_channels=18, features=FeaturesConfig(normalize="data-mean"), embed_dim=64, text=_FREE)
_LINEAR = LinearConfig(
    feature_channels=18, features=FeaturesConfig(normalize="data-mean"), embed_dim=64, video_weight=0.0, text=_FREE
)
_ROWS = ARCHITECTURES["light"], ARCHITECTURES["linear"]
CONFIGS: dict[str, Config] = {
    "paper": CONFIG,
    "light": Config(
        _LIGHT,
        dataclasses.replace(_ROWS[0].train, epochs=80, batch_size=8, n_snippets=256, validate_every=0, device="cpu"),
        _ROWS[0].loss(),
        dataclasses.replace(LIGHT_DECODE, max_detections=200),
    ),
    "linear": Config(
        _LINEAR,
        dataclasses.replace(_ROWS[1].train, epochs=40, batch_size=8, n_snippets=256, validate_every=0, device="cpu"),
        _ROWS[1].loss(),
        dataclasses.replace(LINEAR_DECODE, max_detections=200),
    ),
}


def read_fold(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Read one file: for each video scores (T, 18) float32 and classes (T,) int64."""
    content = scipy.io.loadmat(path)
    return [
        (np.asarray(scores, dtype=np.float32), np.asarray(labels, dtype=np.int64).ravel())
        for scores, labels in zip(content["S"].ravel(), content["Y"].ravel(), strict=True)
    ]


def runs_of(labels: np.ndarray) -> list[tuple[int, int, int]]:
    """Split a sequence into (class, first, one past the last), without the background."""
    edges = np.flatnonzero(np.diff(labels)) + 1
    bounds = zip([0, *edges.tolist()], [*edges.tolist(), len(labels)], strict=True)
    return [(int(labels[start]), start, stop) for start, stop in bounds if labels[start] != BACKGROUND]


def write_data_set(
    root: Path, folds: list[list[tuple[np.ndarray, np.ndarray]]], names: list[str], *, training: set[int], test: int
) -> Path:
    """Write a data set folder whose validation videos are those of one file; replaces an older folder."""
    shutil.rmtree(root, ignore_errors=True)
    (root / "features").mkdir(parents=True)
    database: dict[str, Any] = {}
    for number in sorted({*training, test}):
        for i, (scores, labels) in enumerate(folds[number]):
            video = f"salad_{number + 1}_{i:02}"
            np.save(root / "features" / f"{video}.npy", scores)
            actions = [
                {"segment": [float(start), float(stop)], "label": names[k - 1]} for k, start, stop in runs_of(labels)
            ]
            subset = "validation" if number == test else "training"
            database[video] = {"duration": float(len(labels)), "subset": subset, "annotations": actions}
    write_feature_spec(
        root / "feature_spec.json", FeatureSpec(encoder="per-frame classifier scores, Lea et al.", channels=18)
    )
    (root / "annotations.json").write_text(json.dumps({"version": "1", "taxonomy": [], "database": database}))
    return root


def moving_average(scores: np.ndarray, width: int) -> np.ndarray:
    """Average scores (T, C) over an odd number of frames, repeating the first and the last at the ends."""
    padded = np.pad(scores, ((width // 2, width // 2), (0, 0)), mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, width, axis=0).mean(axis=2)


def baseline(scores: np.ndarray, names: list[str], *, ranking: str) -> list[dict[str, Any]]:
    """Take every run of the per-frame best class as a detection.

    ranking: score of a run: `probability`, the mean softmax probability inside; `mass`, their sum over T; `margin`,
        the mean distance of the best score to the second.
    """
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    best_two = np.sort(scores, axis=1)[:, -2:]
    detections = []
    for k, start, stop in runs_of(scores.argmax(axis=1)):
        value = {
            "probability": float(probabilities[start:stop, k].mean()),
            "mass": float(probabilities[start:stop, k].sum() / len(scores)),
            "margin": float((best_two[start:stop, 1] - best_two[start:stop, 0]).mean()),
        }[ranking]
        detections.append({"label": names[k - 1], "score": value, "segment": [float(start), float(stop)]})
    return detections


def figures(truth: dict[str, Any], results: dict[str, Any]) -> dict[str, float]:
    """Compute mAP at the three thresholds and the average over 0.5:0.95:0.05, in percent."""
    at = mean_average_precision(truth, {"results": results}, tiou_thresholds=THRESHOLDS).mAP
    average = mean_average_precision(truth, {"results": results}).average_mAP
    return {**{f"mAP@{t:g}": value for t, value in zip(THRESHOLDS, at, strict=True)}, "average_mAP": average}


def run_fold(root: Path, run: Path, config: Config, names: list[str]) -> dict[str, Any]:
    """Train on a fold and measure the detector and the baselines on its validation videos."""
    data_set = open_data_set(root)
    # No validation during training, so that decoding can change without a new training.
    default = ARCHITECTURES[config.model.architecture].decode
    result = train(dataclasses.replace(config, decode=default), root, run, resume=run.exists())
    checkpoint = read_checkpoint(result.last)
    localizer = TorchLocalizer(
        checkpoint.model,
        class_bank=checkpoint.class_bank,
        feature_contract=feature_contract(checkpoint.config, checkpoint.feature_spec),
        decode_config=config.decode,
    )
    report = evaluate_localizer(localizer, data_set)
    truth = data_set.annotations.to_layout()
    found: dict[str, Any] = {METHODS[config.model.architecture]: report.predictions["results"]}
    for ranking in ("probability", "mass", "margin"):
        for width in (1, STEADYING_FRAMES):
            found[f"runs, {ranking}" + (f", averaged over {width} frames" if width > 1 else "")] = {
                video: baseline(moving_average(data_set.load(video), width), names, ranking=ranking)
                for video in data_set.videos("validation")
            }
    return {
        "loss": result.records[-1]["loss"],
        "seconds": sum(record["seconds"] for record in result.records),
        "figures": {method: figures(truth, results) for method, results in found.items()},
        "results": found,
        "database": {v: e for v, e in truth["database"].items() if e["subset"] == "validation"},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mat", type=Path, required=True, help="folder with Split_1.mat ... Split_5.mat")
    parser.add_argument("--work", type=Path, required=True, help="folder for data sets and runs")
    parser.add_argument("--arch", choices=tuple(METHODS), default="paper", help="detector")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--inner", action="store_true", help="split the training videos of fold 1, to choose settings")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    names = [line.strip() for line in (arguments.mat / "mid_level_actions.txt").read_text().splitlines()]
    folds = [read_fold(arguments.mat / f"Split_{i + 1}.mat") for i in range(N_FOLDS)]
    config = with_overrides(CONFIGS[arguments.arch], arguments.set, architectures=ARCHITECTURES)

    plans = [({0, 1, 2, 3, 4} - {i}, i) for i in range(N_FOLDS)]
    if arguments.inner:
        plans = [({2, 3, 4}, 1)]
    outcomes = []
    for training, test in plans:
        tag = f"{''.join(str(i + 1) for i in sorted(training))}-{test + 1}"
        kept = arguments.work / f"outcome-{tag}.json"
        if not kept.exists():
            root = write_data_set(arguments.work / f"data-{tag}", folds, names, training=training, test=test)
            outcome = run_fold(root, arguments.work / f"run-{tag}", config, names)
            write_file_atomically(kept, json.dumps({"config": to_dict(config), **outcome}).encode())
        outcomes.append(json.loads(kept.read_text()))
        if outcomes[-1]["config"] != json.loads(json.dumps(to_dict(config))):
            parser.error(f"{kept} was made with other settings; give another --work")
        print(tag, f"{outcomes[-1]['seconds']:.0f} s, loss {outcomes[-1]['loss']:.3f}", flush=True)
        for method, values in outcomes[-1]["figures"].items():
            print(f"  {method:20}", {name: round(value, 2) for name, value in values.items()}, flush=True)
    summary = summarise(outcomes)
    for method, values in summary.items():
        print(f"mean  {method:20}", {name: round(value, 2) for name, value in values["mean over folds"].items()})
        print(f"pool  {method:20}", {name: round(value, 2) for name, value in values["all videos at once"].items()})
    if arguments.json:
        document = {
            "schema": "stale-edge-salads50/1",
            "command": " ".join(
                ["bench/salads50.py --arch", arguments.arch, *(f"--set {text}" for text in arguments.set)]
            ),
            "features": "real per-frame classifier scores, C = 18",
            "config": to_dict(config),
            "folds": [{key: o[key] for key in ("loss", "seconds", "figures")} for o in outcomes],
            "summary": summary,
        }
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")


def summarise(outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    """Average each figure over the folds, and measure it on the videos of all folds together."""
    summary = {}
    database = {video: entry for outcome in outcomes for video, entry in outcome["database"].items()}
    for method in outcomes[0]["figures"]:
        rows = [outcome["figures"][method] for outcome in outcomes]
        pooled = {video: found for outcome in outcomes for video, found in outcome["results"][method].items()}
        summary[method] = {
            "mean over folds": {name: float(np.mean([row[name] for row in rows])) for name in rows[0]},
            "all videos at once": figures({"database": database}, pooled),
        }
    return summary


if __name__ == "__main__":
    main()
