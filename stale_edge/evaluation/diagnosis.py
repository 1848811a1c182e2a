"""Error analysis of detections: kinds of false positives, sensitivity to the kind of action, missed actions.

Definitions are those of Alwassel et al., Diagnosing Error in Temporal Action Detectors (DETAD), ECCV 2018.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from stale_edge.errors import shown
from stale_edge.evaluation.layouts import PredictionTable, Seconds, TruthTable, prediction_table, truth_table
from stale_edge.evaluation.matching import (
    BoolArray,
    holders,
    interpolated_average_precision,
    overlapping_pairs,
    rank_predictions,
)
from stale_edge.evaluation.mean_ap import ACTIVITYNET_THRESHOLDS
from stale_edge.segments import IntArray

KINDS = ("true positive", "double detection", "wrong label", "localization", "confusion", "background")
"""Kinds of detections; all but the first are errors.

double detection: enough overlap with an action of its class that another detection has taken.
wrong label: enough overlap with an action of another class. localization: too little overlap, right class.
confusion: too little overlap, other class. background: an overlap below `LEAST_TIOU` with every action.
The action that counts is the one with the highest tIoU; of equal ones that of the right class.
"""
LEAST_TIOU = 0.1
"""tIoU below which a detection has nothing to do with an action."""
DEPTH = 10
"""Number of detections examined for each action of a class, best first: the top 10 G of the paper."""


class Bin(NamedTuple):
    """Actions whose characteristic is above `low` and at most `high`."""

    name: str
    low: float
    high: float


def _bins(names: str, edges: Sequence[float]) -> tuple[Bin, ...]:
    return tuple(Bin(*bin_) for bin_ in zip(names.split(), edges, edges[1:], strict=False))


CHARACTERISTICS: Mapping[str, Mapping[str, tuple[Bin, ...]]] = {
    "activitynet": {
        "coverage": _bins("XS S M L XL", (0, 0.2, 0.4, 0.6, 0.8, np.inf)),
        "length": _bins("XS S M L XL", (0, 30, 60, 120, 180, np.inf)),
        "instances": _bins("XS S M L", (0, 1, 4, 8, np.inf)),
    },
    "thumos": {
        "coverage": _bins("XS S M L XL", (0, 0.02, 0.04, 0.06, 0.08, np.inf)),
        "length": _bins("XS S M L XL", (0, 3, 6, 12, 18, np.inf)),
        "instances": _bins("XS S M L", (0, 1, 40, 80, np.inf)),
    },
}
"""Bins of DETAD. coverage: length over the length of the video. length: seconds. instances: actions of the same class
in the video."""


class Group(NamedTuple):
    """Results on the actions of one bin.

    n_actions: number of them. average_mAP: percent, normalized; None: there is no such action.
    missed: percent of them that no detection finds, mean over thresholds; None likewise.
    """

    characteristic: str
    name: str
    n_actions: int
    average_mAP: float | None  # noqa: N815 - the name in published result files
    missed: float | None


@dataclass(frozen=True)
class Diagnosis:
    """Results of an error analysis; means over thresholds, in percent.

    average_mAP: normalized mAP of the examined detections: precision is computed as if every class had the same number
        of actions, so that classes and bins can be compared.
    profile: for each multiple of the number of actions, from the best detections down, the share of each kind.
    gain: points of average mAP that would be gained if the detections of a kind were left out, by kind of error.
    groups: by characteristic and bin; missed: over all actions.
    notes: what was left out.
    """

    average_mAP: float  # noqa: N815
    tiou_thresholds: tuple[float, ...]
    n_detections: int
    n_actions: int
    profile: tuple[dict[str, float], ...]
    gain: dict[str, float]
    groups: tuple[Group, ...]
    missed: float
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "schema": "stale-edge-diagnosis/1",
            **vars(self),
            "tiou_thresholds": list(self.tiou_thresholds),
            "profile": list(self.profile),
            "groups": [group._asdict() for group in self.groups],
            "notes": list(self.notes),
        }


def diagnose(
    ground_truth: Mapping[str, Any],
    predictions: Mapping[str, Any],
    *,
    subset: str | None = "validation",
    tiou_thresholds: Sequence[float] = ACTIVITYNET_THRESHOLDS,
    bins: str = "activitynet",
) -> Diagnosis:
    """Analyse the errors of detections.

    Args:
        ground_truth, predictions: ActivityNet layouts, as in `mean_average_precision`; coverage needs the key
            `duration` of the videos.
        subset: part of the ground truth; None: all.
        tiou_thresholds: H thresholds, each in (`LEAST_TIOU`, 1].
        bins: a row of `CHARACTERISTICS`.

    Raises:
        ValueError: a layout is broken, a threshold is out of range, nothing is annotated, or the bins are unknown.
    """
    if bins not in CHARACTERISTICS:
        raise ValueError(f"bins must be one of {', '.join(CHARACTERISTICS)}; got {shown(bins)}")
    thresholds = np.asarray(tiou_thresholds, dtype=np.float64)
    if thresholds.ndim != 1 or not thresholds.size or not ((thresholds > LEAST_TIOU) & (thresholds <= 1)).all():
        raise ValueError(f"thresholds must be one or more numbers in ({LEAST_TIOU}, 1]; got {shown(tiou_thresholds)}")
    truth, videos = truth_table(ground_truth, subset, None)
    table = prediction_table(predictions, truth.classes, videos)
    notes = [f"{len(table.ignored_labels)} labels of detections are not annotated"] if table.ignored_labels else []
    table, depth = _examined(truth, table)
    taken = holders(truth, table, thresholds)
    kinds = _kinds(truth, table, thresholds, taken)
    right = kinds == 0
    n_normal = len(truth.label) / len(truth.classes)
    everything = np.ones(len(truth.label), dtype=bool)
    keep = np.ones(len(table.label), dtype=bool)

    def average_map(actions: BoolArray, kept: BoolArray) -> float | None:
        return _average_map(truth, table, right & kept, kept, actions, n_normal)

    whole = average_map(everything, keep) or 0.0
    values, missing = _characteristics(ground_truth, truth, videos)
    notes += missing
    groups = []
    for name, in_bins in CHARACTERISTICS[bins].items():
        if name not in values:
            continue
        for low_high in in_bins:
            inside = (values[name] > low_high.low) & (values[name] <= low_high.high)
            others = np.zeros((len(thresholds), len(table.label) + 1), dtype=bool)
            np.put_along_axis(others, np.where(inside, -1, taken), True, axis=1)
            # Detections of other actions are neither right nor wrong here.
            found = average_map(inside, ~others[:, :-1])
            lost = 100 * float((taken[:, inside] < 0).mean()) if inside.any() else None
            groups.append(Group(name, low_high.name, int(inside.sum()), found, lost))
    return Diagnosis(
        average_mAP=whole,
        tiou_thresholds=tuple(thresholds.tolist()),
        n_detections=len(table.label),
        n_actions=len(truth.label),
        profile=_profile(kinds, depth),
        gain={
            kind: (average_map(everything, kinds != number) or 0.0) - whole
            for number, kind in enumerate(KINDS)
            if number
        },
        groups=tuple(groups),
        missed=100 * float((taken < 0).mean()),
        notes=tuple(notes),
    )


def _examined(truth: TruthTable, predictions: PredictionTable) -> tuple[PredictionTable, IntArray]:
    """Keep the best detections of each class, in order of rank; give how many times G each has passed, from 0."""
    order = rank_predictions(predictions)
    label = predictions.label[order]
    rank = np.arange(len(order)) - np.searchsorted(label, label)
    per_class = np.bincount(truth.label, minlength=len(truth.classes))
    depth = rank // per_class[label]
    kept = depth < DEPTH
    return predictions.take(order[kept]), depth[kept]


def _kinds(truth: TruthTable, predictions: PredictionTable, thresholds: Seconds, taken: IntArray) -> IntArray:
    """(H, P) index into `KINDS` of each detection at each threshold."""
    n = len(predictions.label)
    same_class = truth._replace(classes=("any",), label=np.zeros_like(truth.label))
    pairs = overlapping_pairs(same_class, predictions._replace(label=np.zeros_like(predictions.label)), LEAST_TIOU)
    own = truth.label[pairs.action] == predictions.label[pairs.prediction]
    order = np.lexsort((~own, -pairs.tiou, pairs.prediction))
    prediction = pairs.prediction[order]
    first = order[np.diff(prediction, prepend=-1) != 0]  # the pair of each detection with its nearest action
    nearest, right_label = np.zeros(n), np.zeros(n, dtype=bool)
    nearest[pairs.prediction[first]], right_label[pairs.prediction[first]] = pairs.tiou[first], own[first]
    enough = nearest >= thresholds[:, None]
    kinds = np.where(enough, np.where(right_label, 1, 2), np.where(right_label, 3, 4))
    kinds = np.where(nearest < LEAST_TIOU, 5, kinds)
    for row, rows in zip(kinds, taken, strict=True):
        row[rows[rows >= 0]] = 0
    return np.asarray(kinds)


def _average_map(
    truth: TruthTable,
    predictions: PredictionTable,
    right: BoolArray,
    kept: BoolArray,
    actions: BoolArray,
    n_normal: float,
) -> float | None:
    """Compute the normalized average mAP, in percent, over the classes that have one of these actions.

    Precision is R N / (R N + number of wrong detections), R the recall and N the same for every class.

    Args:
        truth: the actions.
        predictions: in order of class, then rank.
        right: (H, P) which detections are right.
        kept: (H, P) or (P,) which detections count.
        actions: (G,) which actions count.
        n_normal: N.
    """
    kept = np.broadcast_to(kept, right.shape)
    n_actions = np.bincount(truth.label[actions], minlength=len(truth.classes))
    bounds = np.searchsorted(predictions.label, np.arange(len(truth.classes) + 1))
    values = []
    for k in np.flatnonzero(n_actions):
        own = slice(bounds[k], bounds[k + 1])
        good, wrong = right[:, own] & kept[:, own], kept[:, own] & ~right[:, own]
        recalled = np.cumsum(good, axis=1) * n_normal / n_actions[k]
        # As a rank: the number of right ones before it, over this precision.
        total = recalled + np.cumsum(wrong, axis=1)
        precision = np.divide(recalled, total, out=np.zeros_like(total), where=total > 0)
        rank = np.divide(np.cumsum(good, axis=1), precision, out=np.ones_like(total), where=precision > 0)
        values.append(interpolated_average_precision(good, rank, int(n_actions[k])))
    return 100 * float(np.mean(values)) if values else None


def _profile(kinds: IntArray, depth: IntArray) -> tuple[dict[str, float], ...]:
    profile = []
    for step in range(DEPTH):
        at = kinds[:, depth == step]
        if at.size:
            shares = 100 * np.bincount(at.ravel(), minlength=len(KINDS)) / at.size
            profile.append(dict(zip(KINDS, shares.tolist(), strict=True)))
    return tuple(profile)


def _characteristics(
    layout: Mapping[str, Any], truth: TruthTable, videos: Mapping[str, int]
) -> tuple[dict[str, Seconds], list[str]]:
    """Measure every action; give also notes on what cannot be measured."""
    length = truth.segments[:, 1] - truth.segments[:, 0]
    group = truth.video * len(truth.classes) + truth.label
    _, inverse, counts = np.unique(group, return_inverse=True, return_counts=True)
    values = {"length": length, "instances": counts[inverse].astype(np.float64)}
    database = layout.get("database", layout)
    durations = np.array([_duration(database[video]) for video in videos])[truth.video]
    if np.isnan(durations).any():
        return values, ["coverage is left out: not every video has a duration"]
    return {"coverage": length / durations, **values}, []


def _duration(entry: Mapping[str, Any]) -> float:
    try:
        duration = float(entry["duration"])
    except (KeyError, TypeError, ValueError):
        return np.nan
    return duration if 0 < duration < np.inf else np.nan
