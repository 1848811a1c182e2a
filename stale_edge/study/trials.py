"""One training run of a study: train on a list of videos, evaluate with and without score enhancement."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stale_edge.config import Config, to_dict
from stale_edge.data import DataSet, VideoScore
from stale_edge.data.annotations import VALIDATION_SUBSETS
from stale_edge.errors import DataError
from stale_edge.evaluation import EvaluationResult, mean_average_precision
from stale_edge.model.checkpoint import read_checkpoint
from stale_edge.progress import Progress
from stale_edge.runtime.contract import check_feature_spec
from stale_edge.runtime.evaluate import EvaluationSettings, evaluate_localizer
from stale_edge.segments import find_video
from stale_edge.study.study import Cell, Column, spread
from stale_edge.training import TorchLocalizer, train
from stale_edge.training.class_sources import bank_for
from stale_edge.training.video_classifier import training_list

TIOUS = ("0.5", "0.75", "0.95")
"""Thresholds that papers print for ActivityNet."""
MAP_COLUMNS = (*(Column(f"mAP_{tiou}", f"mAP@{tiou}") for tiou in TIOUS), Column("average_mAP", "average mAP"))
NO_SCORES = (
    "The data set has no video-level scores (scores.json), so score enhancement was not measured; "
    "`stale-edge scores train` makes some."
)


def training_videos(data_set: DataSet, classes: Sequence[str] | None = None) -> tuple[str, ...]:
    """List the videos that a study trains on: those for training that have features and show one of the classes.

    Raises:
        DataError: there are none.
    """
    annotations = data_set.annotations
    found = tuple(
        video
        for video in training_list(data_set)
        if video in data_set.features
        and any(classes is None or action.label in classes for action in annotations.videos[video].actions)
    )
    if not found:
        raise DataError(f"{data_set.root}: no training video has features and an action of the classes to train on")
    return found


def validation_subset(data_set: DataSet) -> str:
    """Name the subset that a study evaluates on."""
    subsets = data_set.annotations.subsets
    return next((name for name in VALIDATION_SUBSETS if name in subsets), VALIDATION_SUBSETS[0])


def run_trial(
    data_set: DataSet,
    config: Config,
    *,
    scores: Mapping[str, VideoScore],
    classes: Sequence[str] | None,
    scratch: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Train a detector and measure it on the validation videos.

    Args:
        data_set: its annotations may be a part of those in its folder.
        config: names its training videos, and its classes if they are not all.
        scores: video-level scores for score enhancement; empty: it is not measured.
        classes: those to look for and score; None: all.
        scratch: the training run goes there, and is resumed from there.
        progress: called while training and evaluating.

    Returns:
        JSON values: `plain` and, with scores, `enhanced`, each `{"average_mAP", "mAP": {tIoU: value}}`, percent;
        `training_free` likewise or None; `n_videos` trained on; `loss` and `training_seconds`.
    """
    run = scratch / "run"
    result = train(config, data_set.root, run, resume=run.exists(), progress=progress)
    checkpoint = read_checkpoint(result.last)
    localizer = TorchLocalizer.of(
        checkpoint, class_bank=bank_for(checkpoint, classes or data_set.class_names, root=data_set.root)
    )
    check_feature_spec(localizer.feature_contract, data_set.feature_spec)
    subset = validation_subset(data_set)
    report = evaluate_localizer(
        localizer, data_set, classes=classes, settings=EvaluationSettings(subset), progress=progress
    )
    enhanced = None
    if scores:
        predictions = enhance(report.predictions, scores, names=classes or localizer.class_bank.names)
        truth = data_set.annotations.to_layout()
        enhanced = mean_average_precision(truth, predictions, subset=subset, classes=classes)
    return {
        "plain": _figures(report.result),
        "enhanced": None if enhanced is None else _figures(enhanced),
        "training_free": None if report.baseline is None else _figures(report.baseline),
        "n_videos": result.records[-1]["videos"],
        "loss": result.records[-1]["loss"],
        "training_seconds": sum(record["seconds"] for record in result.records),
    }


def enhance(
    predictions: Mapping[str, Any], scores: Mapping[str, VideoScore], *, names: Sequence[str]
) -> dict[str, Any]:
    """Apply score enhancement to detections in ActivityNet's layout, as `decode` does with `video_label`.

    Args:
        predictions: `{"results": {video: [{"label", "score", "segment"}]}}`.
        scores: video-level scores; a label that is not in `names` is passed over.
        names: the classes that were looked for.
    """
    known = set(names)
    results = {}
    for video, rows in predictions["results"].items():
        name = find_video(video, scores)
        score = None if name is None else scores[name]
        if score is None or score.label not in known:
            results[video] = rows
        else:
            results[video] = [{**row, "label": score.label} if row["score"] <= score.score else row for row in rows]
    return {**predictions, "results": results}


def map_cells(results: Sequence[Mapping[str, Any]], kind: str) -> dict[str, Cell]:
    """Sum up trials for the columns `MAP_COLUMNS`; `kind` is a key of their results such as `plain`."""
    return {
        **{f"mAP_{tiou}": spread([result[kind]["mAP"][tiou] for result in results]) for tiou in TIOUS},
        "average_mAP": spread([result[kind]["average_mAP"] for result in results]),
    }


def identity(data_set: DataSet, config: Config) -> dict[str, Any]:
    """List what a trial's result depends on, without paths: settings, training videos, classes and annotations."""
    annotations = sorted((video, *entry.actions) for video, entry in data_set.annotations.videos.items())
    without_paths = dataclasses.replace(config, videos="", classes="")
    return {
        "config": to_dict(without_paths),
        "annotations": _fingerprint(repr(annotations)),
        "encoder": data_set.feature_spec.encoder,
    }


def scores_identity(scores: Mapping[str, VideoScore]) -> str:
    """Give the number and a fingerprint of video-level scores."""
    return names_identity([f"{video} {score.label} {score.score!r}" for video, score in sorted(scores.items())])


def names_identity(names: Sequence[str]) -> str:
    """Give the number and a fingerprint of names."""
    return f"{len(names)}, sha256 {_fingerprint(chr(10).join(names))}"


def _figures(result: EvaluationResult) -> dict[str, Any]:
    at = dict(zip((f"{t:.2f}".rstrip("0") for t in result.tiou_thresholds), result.mAP, strict=True))
    return {"average_mAP": result.average_mAP, "mAP": {tiou: at[tiou] for tiou in TIOUS}}


def _fingerprint(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
