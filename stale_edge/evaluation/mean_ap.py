"""Mean average precision over ActivityNet layouts, in percent."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stale_edge.evaluation.layouts import PredictionTable, Seconds, TruthTable, prediction_table, truth_table
from stale_edge.evaluation.matching import interpolated_average_precision, match

ACTIVITYNET_THRESHOLDS: tuple[float, ...] = tuple(np.linspace(0.5, 0.95, 10).tolist())
"""tIoU 0.5, 0.55 ... 0.95, to the bit those of ActivityNet's own code (its 0.9 is 0.8999999999999999)."""
THUMOS_THRESHOLDS: tuple[float, ...] = (0.3, 0.4, 0.5, 0.6, 0.7)
"""tIoU thresholds used for THUMOS14."""


@dataclass(frozen=True)
class EvaluationResult:
    """Scores of detections; every mAP and AP in percent, as in papers.

    average_mAP: mean of `mAP` over the thresholds.
    mAP: mean AP over classes, one per threshold.
    tiou_thresholds: the thresholds.
    per_class: AP averaged over thresholds, by class of the ground truth, sorted by name.
    ignored_labels: labels of predictions that the ground truth does not have (or that `classes` leaves out); their
        predictions do not affect any class.
    """

    average_mAP: float  # noqa: N815 - the name in published result files
    mAP: list[float]  # noqa: N815
    tiou_thresholds: list[float]
    per_class: dict[str, float]
    ignored_labels: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the object that `score` and `evaluate` write."""
        return {
            "average_mAP": self.average_mAP,
            "mAP": self.mAP,
            "tiou_thresholds": self.tiou_thresholds,
            "per_class": self.per_class,
        }


def mean_average_precision(
    ground_truth: Mapping[str, Any],
    predictions: Mapping[str, Any],
    *,
    subset: str | None = "validation",
    tiou_thresholds: Sequence[float] = ACTIVITYNET_THRESHOLDS,
    classes: Collection[str] | None = None,
) -> EvaluationResult:
    """Evaluate detections by the rules of ActivityNet's own code (its Evaluation/eval_detection.py).

    Every class annotated in the subset has equal weight, also one without predictions (AP 0). The ground truth does not
    depend on which videos have predictions. A prediction in a video without an action of its class, of
    another subset or unknown to the ground truth, is a false positive. Predictions of a class that the ground truth
    does not have are left out and named in the result; ActivityNet's code fails on them.

    Args:
        ground_truth: `{"database": {video: {"subset", "annotations": [{"segment": [s, e], "label"}]}}}`.
        predictions: `{"results": {video: [{"label", "score", "segment": [s, e]}]}}`, the same unit of time; the prefix
            `v_` of video names may be missing on either side. Among equal scores the later row ranks higher.
        subset: which part of the ground truth; None: all.
        tiou_thresholds: each in (0, 1].
        classes: keep only these labels in ground truth and predictions (open set); None: all.

    Raises:
        ValueError: a layout is broken (video and row are named), a threshold is out of range, or nothing is annotated.
    """
    truth, videos = truth_table(ground_truth, subset, classes)
    _, result = evaluate_tables(truth, prediction_table(predictions, truth.classes, videos), tiou_thresholds)
    return result


def average_precision(
    ground_truth: Mapping[str, Any],
    predictions: Mapping[str, Any],
    *,
    label: str,
    subset: str | None = "validation",
    tiou_thresholds: Sequence[float] = ACTIVITYNET_THRESHOLDS,
) -> Seconds:
    """Compute the AP of one class at each threshold; rules and layouts as in `mean_average_precision`.

    Args:
        ground_truth, predictions: ActivityNet layouts; rows of other labels are ignored.
        label: the class, which must be annotated in the subset.
        subset: which part of the ground truth; None: all.
        tiou_thresholds: H thresholds, each in (0, 1].

    Returns:
        (H,) float64, percent.

    Raises:
        ValueError: as `mean_average_precision`; the class is not annotated in the subset.
    """
    truth, videos = truth_table(ground_truth, subset, (label,))
    ap, _ = evaluate_tables(truth, prediction_table(predictions, truth.classes, videos), tiou_thresholds)
    return ap[:, 0]


def evaluate_tables(
    truth: TruthTable, predictions: PredictionTable, tiou_thresholds: Sequence[float]
) -> tuple[Seconds, EvaluationResult]:
    """Evaluate tables read from layouts; see `mean_average_precision` for the rules.

    Returns:
        ap: (H, K) float64, percent, K classes in the order of `truth.classes`.
        result: mAP and AP computed from `ap`.

    Raises:
        ValueError: a threshold is out of range.
    """
    thresholds = np.asarray(tiou_thresholds, dtype=np.float64)
    if thresholds.ndim != 1 or not thresholds.size or not ((thresholds > 0) & (thresholds <= 1)).all():
        raise ValueError(f"tiou_thresholds must be one or more numbers in (0, 1]; got {tiou_thresholds!r}")
    matches = match(truth, predictions, thresholds)
    n_classes = len(truth.classes)
    n_actions = np.bincount(truth.label, minlength=n_classes)
    bounds = np.searchsorted(matches.label, np.arange(n_classes + 1))
    ap = np.empty((len(thresholds), n_classes))
    for k in range(n_classes):
        own = slice(bounds[k], bounds[k + 1])
        area = interpolated_average_precision(matches.is_right[:, own], matches.rank[own], int(n_actions[k]))
        ap[:, k] = 100 * area
    mean_ap = ap.mean(axis=1)
    result = EvaluationResult(
        average_mAP=float(mean_ap.mean()),
        mAP=mean_ap.tolist(),
        tiou_thresholds=thresholds.tolist(),
        per_class=dict(sorted(zip(truth.classes, ap.mean(axis=0).tolist(), strict=True))),
        ignored_labels=predictions.ignored_labels,
    )
    return ap, result
