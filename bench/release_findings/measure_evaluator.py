"""Measure the two errors of the public evaluator on the detections of one trained network."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import quirks
from made_detections import detections, network_outputs

from stale_edge.data import DataSet, read_scores
from stale_edge.data.folder import SCORES_FILE
from stale_edge.data.splits import read_split
from stale_edge.evaluation import mean_average_precision
from stale_edge.runtime.evaluate import EvaluationSettings
from stale_edge.training import evaluate_checkpoint


def measure_evaluator(data: DataSet, closed: Path, opened: Path) -> dict[str, Any]:
    """Measure mAP when the evaluator drops videos, and when it confuses classes that have no ground truth."""
    truth, everything = data.annotations.to_layout(), tuple(quirks.DECODE_QUIRKS)
    network = network_outputs(data, closed)
    kept = {
        video: entry
        for video, entry in truth["database"].items()
        if entry["subset"] == "validation"
        and quirks.loaded_annotations(entry["annotations"], duration_s=entry["duration"], quirks=("last-only", "short"))
    }
    predictions = detections(data, network, everything)
    loaded = {**predictions, "results": {v: rows for v, rows in predictions["results"].items() if v in kept}}
    found: dict[str, Any] = {
        "videos": len(data.videos("validation")),
        "videos_loaded": len(kept),
        "all videos, all ground truth": mean_average_precision(truth, predictions).average_mAP,
        "loaded videos, all ground truth": mean_average_precision(truth, loaded).average_mAP,
        "loaded videos, forgetful": mean_average_precision(quirks.forgetful_truth(truth, kept), loaded).average_mAP,
    }
    unseen = read_split(data.root / "splits" / "test.list")
    report = evaluate_checkpoint(opened, data.root, split=data.root / "splits" / "test.list")
    enhanced = evaluate_checkpoint(
        opened,
        data.root,
        split=data.root / "splits" / "test.list",
        settings=EvaluationSettings(scores=read_scores(data.root / SCORES_FILE)),
    )
    found["open set, unseen classes"] = report.result.average_mAP
    found["open set, unseen classes, score enhancement"] = enhanced.result.average_mAP
    # Score enhancement uses all classes, also those without an evaluated video: their numbers collide.
    scores = read_scores(data.root / SCORES_FILE)
    shown = [v for v in report.predictions["results"] if v in scores]
    relabelled = {
        video: [
            {**row, "label": scores[video].label if row["score"] <= scores[video].score else row["label"]}
            for row in report.predictions["results"][video]
        ]
        for video in shown
    }
    open_truth = {
        **truth,
        "database": {
            v: e
            for v, e in truth["database"].items()
            if v in relabelled and any(a["label"] in unseen for a in e["annotations"])
        },
    }
    labels = list(dict.fromkeys(a["label"] for e in open_truth["database"].values() for a in e["annotations"]))
    order = np.random.default_rng(0).permutation(sorted(data.class_names)).tolist()
    document = {"results": relabelled}
    found["open set, all labels of the scores"] = mean_average_precision(open_truth, document).average_mAP
    collided = quirks.collided_labels(document, truth_labels=labels, all_labels=order)
    found["open set, all labels of the scores, numbers collide"] = mean_average_precision(
        open_truth, collided
    ).average_mAP
    print(json.dumps(found, indent=1), flush=True)
    return found
