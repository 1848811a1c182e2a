"""Check reader and evaluator on THUMOS14: annotations used as predictions must score 100 %.

    .venv/bin/python bench/thumos14.py --data DIR --json bench/results/thumos14.json

DIR holds `thumos_gt.json` (G-TAD: ActivityNet layout, segments as strings, no durations), TSP's
`thumos14_{valid,test}_metadata.csv` and `_tsp_groundtruth.csv`, and `untrimmednet_test_scores.npy`.
"""

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from stale_edge.data import Annotations, read_annotations, read_score_array
from stale_edge.data.scores import accuracy, read_columns
from stale_edge.evaluation import ACTIVITYNET_THRESHOLDS, THUMOS_THRESHOLDS, mean_average_precision
from stale_edge.model.targets import is_outside

CLASSES = Path(__file__).parent / "thumos14_classes.txt"


def table(path: Path) -> list[dict[str, str]]:
    """Read a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def as_predictions(annotations: Annotations, subset: str, *, shift: float) -> dict[str, Any]:
    """Give every annotation of a subset as a detection of score 1, moved by a fraction of its length."""
    results = {
        name: [
            {"label": a.label, "score": 1.0, "segment": [t + shift * (a.end_s - a.start_s) for t in a[1:]]}
            for a in annotations.videos[name].actions
        ]
        for name in annotations.in_subset(subset)
    }
    return {"results": results}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    durations, of_tsp = {}, {}
    for part in ("valid", "test"):
        for row in table(arguments.data / f"thumos14_{part}_metadata.csv"):
            durations[Path(row["filename"]).stem] = float(row["video-duration"])
        rows = table(arguments.data / f"thumos14_{part}_tsp_groundtruth.csv")
        of_tsp[part] = sum(row["temporal-region-label"] == "Action" for row in rows)
    annotations = read_annotations(arguments.data / "thumos_gt.json", durations=durations)
    layout = annotations.to_layout()
    document: dict[str, Any] = {"schema": "stale-edge-thumos14/1", "actions_of_tsp": of_tsp, "subsets": {}}
    for subset in annotations.subsets:
        videos = [annotations.videos[name] for name in annotations.in_subset(subset)]
        actions = [(action, video) for video in videos for action in video.actions]
        lengths = np.array([action.end_s - action.start_s for action, _ in actions])
        found: dict[str, Any] = {
            "videos": len(videos),
            "actions": len(actions),
            "classes": len({action.label for action, _ in actions}),
            "actions_per_video": len(actions) / len(videos),
            "median_action_s": float(np.median(lengths)),
            "median_video_s": float(np.median([video.duration_s for video in videos])),
            "actions_that_lie_outside_their_video": sum(
                is_outside(a.start_s, a.end_s, duration_s=video.duration_s) for a, video in actions
            ),
        }
        for name, shift in (("itself", 0.0), ("moved by a fifth of each length", 0.2)):
            predictions = as_predictions(annotations, subset, shift=shift)
            for thresholds, values in (("0.3:0.7:0.1", THUMOS_THRESHOLDS), ("0.5:0.95:0.05", ACTIVITYNET_THRESHOLDS)):
                result = mean_average_precision(layout, predictions, subset=subset, tiou_thresholds=values)
                found[f"mAP of {name}, {thresholds}"] = {"average_mAP": result.average_mAP, "mAP": result.mAP}
        document["subsets"][subset] = found
    scores = read_score_array(
        arguments.data / "untrimmednet_test_scores.npy", read_columns(CLASSES), video_name="video_test_{:07d}"
    )
    labels = {
        name: [action.label for action in annotations.videos[name].actions] for name in annotations.in_subset("test")
    }
    document["untrimmednet_accuracy"] = accuracy(scores, labels)
    print(json.dumps(document, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
