"""A zero-shot protocol without help: all names at once, names that no video shows, and names without a meaning."""

import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from stale_edge.evaluation.layouts import PredictionTable, TruthTable, prediction_table, truth_table
from stale_edge.evaluation.matching import BoolArray, holders
from stale_edge.evaluation.mean_ap import mean_average_precision

ABSENT = (
    "arm wrestling", "assembling furniture", "blowing glass", "curling a stone", "driving a tractor",
    "feeding penguins", "flying a kite", "gluing a vase", "herding sheep", "ironing a shirt", "milking a cow",
    "mowing a lawn",
    "playing the harp", "plastering a wall", "pole vault", "shearing a sheep", "shovelling snow", "spinning wool",
    "sumo wrestling", "tattooing an arm",
)  # fmt: skip
"""Actions that may be asked for; those that a data set annotates are left out."""
NONSENSE = ("asdf", "xyz", "qwerty", "blorptang", "zzzz", "foo bar", "lorem ipsum", "12345", "qjz xkv", "hhhhhhhh")
"""Names that no video can show."""
TIOU = 0.5
"""tIoU from which a detection is right, for the operating score and for calibration."""
N_BINS = 10
FIGURES = ("seen_average_mAP", "unseen_average_mAP", "harmonic_mean", "expected_calibration_error")


class Bin(NamedTuple):
    """Detections whose score is in one tenth of [0, 1]: how many, their mean score, and the share that is right."""

    n: int
    score: float
    right: float


@dataclass(frozen=True)
class StrictReport:
    """Results of the protocol; mAP in percent, averaged over thresholds.

    seen_average_mAP, unseen_average_mAP: of classes that were trained on and of others, all names asked for at once,
        absent ones included; None: there is no such class. harmonic_mean: of both.
    operating_score: the score at which F1 on the annotated classes is highest, at a tIoU of 0.5.
    false_alarms_per_hour: detections of `absent` and of `nonsense` names at or above that score, per hour of video;
        None: no such name could be embedded.
    nonsense_lowers_by: points of average mAP that nonsense names cost; None likewise.
    reliability: detections of annotated classes in ten bins of their score.
    expected_calibration_error: mean distance between score and share of right ones, weighted by the bins' counts.
    names: the names of each kind; hours: of video; notes: what could not be asked for.
    """

    seen_average_mAP: float | None  # noqa: N815 - the name in published result files
    unseen_average_mAP: float | None  # noqa: N815
    harmonic_mean: float | None
    operating_score: float
    false_alarms_per_hour: dict[str, float | None]
    nonsense_lowers_by: float | None
    reliability: tuple[Bin, ...]
    expected_calibration_error: float
    names: dict[str, tuple[str, ...]]
    hours: float
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "schema": "stale-edge-strict/1",
            **vars(self),
            "reliability": [bin_._asdict() for bin_ in self.reliability],
            "names": {kind: list(names) for kind, names in self.names.items()},
            "notes": list(self.notes),
        }


class Asked(NamedTuple):
    """The names that were asked for, by kind."""

    seen: tuple[str, ...]
    unseen: tuple[str, ...]
    absent: tuple[str, ...]
    nonsense: tuple[str, ...]


def strict_report(
    truth: Mapping[str, Any],
    mixed: Mapping[str, Any],
    with_nonsense: Mapping[str, Any],
    *,
    asked: Asked,
    hours: float,
    subset: str,
    tiou_thresholds: Sequence[float],
) -> StrictReport:
    """Compute the results from detections.

    Args:
        truth: ActivityNet's layout.
        mixed: detections of all names but the nonsense ones, all asked for together.
        with_nonsense: the same with the nonsense names too.
        asked: the names.
        hours: of the videos in which was detected, > 0.
        subset, tiou_thresholds: as in `mean_average_precision`.

    Raises:
        ValueError: a layout is broken, or nothing is annotated.
    """
    annotated = {
        row["label"] for one in truth["database"].values() if one["subset"] == subset for row in one["annotations"]
    }

    def average_map(found: Mapping[str, Any], names: Collection[str]) -> float | None:
        there = annotated & set(names)
        if not there:
            return None
        settings: dict[str, Any] = {"subset": subset, "tiou_thresholds": tiou_thresholds, "classes": there}
        return mean_average_precision(truth, found, **settings).average_mAP

    seen, unseen = average_map(mixed, asked.seen), average_map(mixed, asked.unseen)
    table, videos = truth_table(truth, subset, annotated)
    found = prediction_table(mixed, table.classes, videos)
    right = _right(table, found)
    operating = _best_f1_score(found, right, len(table.label))
    bins = _reliability(found, right)
    total = sum(one.n for one in bins)
    before, after = average_map(mixed, annotated), average_map(with_nonsense, annotated)
    return StrictReport(
        seen_average_mAP=seen,
        unseen_average_mAP=unseen,
        harmonic_mean=None if seen is None or unseen is None else _harmonic(seen, unseen),
        operating_score=operating,
        false_alarms_per_hour={
            "absent": _alarms(mixed, asked.absent, operating, hours),
            "nonsense": _alarms(with_nonsense, asked.nonsense, operating, hours),
        },
        nonsense_lowers_by=None if not asked.nonsense or before is None or after is None else before - after,
        reliability=bins,
        expected_calibration_error=sum(one.n * abs(one.score - one.right) for one in bins) / max(1, total),
        names=asked._asdict(),
        hours=hours,
    )


def mean_and_deviation(reports: Sequence[StrictReport]) -> dict[str, dict[str, float | None]]:
    """Give mean and standard deviation of the main figures over models that were trained on different splits."""
    found = {}
    for figure in FIGURES:
        values = [getattr(report, figure) for report in reports if getattr(report, figure) is not None]
        found[figure] = {
            "mean": statistics.mean(values) if values else None,
            "deviation": statistics.stdev(values) if len(values) > 1 else None,
        }
    for kind in ("absent", "nonsense"):
        alarms = [report.false_alarms_per_hour[kind] for report in reports]
        known = [value for value in alarms if value is not None]
        found[f"false_alarms_per_hour.{kind}"] = {
            "mean": statistics.mean(known) if known else None,
            "deviation": statistics.stdev(known) if len(known) > 1 else None,
        }
    return found


def _harmonic(one: float, other: float) -> float:
    return 0.0 if one + other == 0 else 2 * one * other / (one + other)


def _right(truth: TruthTable, found: PredictionTable) -> BoolArray:
    right = np.zeros(len(found.label), dtype=bool)
    taken = holders(truth, found, np.array([TIOU]))[0]
    right[taken[taken >= 0]] = True
    return right


def _best_f1_score(found: PredictionTable, right: BoolArray, n_actions: int) -> float:
    """Find the score at which F1 is highest; 1 where nothing is right."""
    if not right.any():
        return 1.0
    order = np.argsort(-found.scores, kind="stable")
    scores = found.scores[order]
    f1 = 2 * np.cumsum(right[order]) / (np.arange(1, len(order) + 1) + n_actions)
    last = np.append(scores[1:] != scores[:-1], True)  # equal scores are kept or dropped together
    return float(scores[np.flatnonzero(last)[np.argmax(f1[last])]])


def _reliability(found: PredictionTable, right: BoolArray) -> tuple[Bin, ...]:
    scores = np.clip(found.scores, 0.0, 1.0)
    place = np.minimum((scores * N_BINS).astype(np.int64), N_BINS - 1)
    bins = []
    for number in range(N_BINS):
        inside = place == number
        count = int(inside.sum())
        score, share = (float(values[inside].mean()) if count else 0.0 for values in (scores, right.astype(float)))
        bins.append(Bin(count, score, share))
    return tuple(bins)


def _alarms(found: Mapping[str, Any], names: Collection[str], score: float, hours: float) -> float | None:
    if not names:
        return None
    known = set(names)
    rows = [row for rows in found["results"].values() for row in rows]
    return float(sum(row["label"] in known and row["score"] >= score for row in rows) / hours)
