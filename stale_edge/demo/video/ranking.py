"""Random ranking of the same segments: the baseline of the open-set test."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stale_edge.evaluation import mean_average_precision

DRAWS = 20
TIOU = 0.5


def map_at_half(truth: dict[str, Any], predictions: dict[str, Any], *, classes: Sequence[str]) -> float:
    """Compute mAP at tIoU 0.5 of the subset `validation`, in percent; both arguments are in ActivityNet's layout."""
    found = mean_average_precision(truth, predictions, subset="validation", tiou_thresholds=(TIOU,), classes=classes)
    return float(found.mAP[0])


def random_ranking(
    truth: dict[str, Any], predictions: dict[str, Any], *, classes: Sequence[str], seed: int, draws: int = DRAWS
) -> float:
    """Compute mAP@0.5, in percent, of the same segments and labels with random scores.

    Args:
        truth, predictions: in ActivityNet's layout.
        classes: classes to evaluate.
        seed: seed of the scores.
        draws: number of rankings to average, >= 1.
    """
    rng = np.random.default_rng(seed)
    return float(np.mean([map_at_half(truth, _shuffled(predictions, rng), classes=classes) for _ in range(draws)]))


def _shuffled(predictions: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    results = {
        video: [{**row, "score": float(rng.random())} for row in rows] for video, rows in predictions["results"].items()
    }
    return {**predictions, "results": results}
