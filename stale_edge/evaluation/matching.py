"""Which predictions are right: ActivityNet's greedy matching, for all classes, videos and thresholds at once."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stale_edge.evaluation.layouts import PredictionTable, Seconds, TruthTable
from stale_edge.segments import IntArray

BoolArray = NDArray[np.bool_]


class Matches(NamedTuple):
    """The predictions that overlap an action enough at some threshold, by class, then by rank; all others are wrong.

    label: (M,) int64. rank: (M,) int64, rank among all predictions of the class, 1 is the best.
    is_right: (H, M) bool, true positives at each threshold.
    """

    label: IntArray
    rank: IntArray
    is_right: BoolArray


def match(truth: TruthTable, predictions: PredictionTable, thresholds: Seconds) -> Matches:
    """Decide which predictions are true positives at each tIoU threshold.

    Within a class and a video, predictions are matched in order of rank: each takes the action with the highest
    tIoU that is at least the threshold and that no earlier prediction has taken at this threshold. Among equal tIoU the
    action that is later in the file is taken. Where both segments have zero length, their tIoU is 1 if they are
    the same instant and 0 if not; in ActivityNet's code it is 0 / 0, which passes every threshold.

    Args:
        truth: G actions.
        predictions: P predictions.
        thresholds: (H,) in (0, 1].
    """
    order = rank_predictions(predictions)
    numbered = _numbered(truth, predictions, order, float(thresholds.min()))
    label = predictions.label[numbered.rows]
    first_of_class = np.searchsorted(predictions.label[order], np.arange(len(truth.classes)))
    is_right = np.zeros((len(thresholds), len(numbered.rows)), dtype=bool)
    for right, threshold in zip(is_right, thresholds, strict=True):
        holder = _settle(numbered.pairs, len(numbered.rows), len(truth.label), threshold=float(threshold))
        right[holder[holder < len(numbered.rows)]] = True
    return Matches(label, numbered.place - first_of_class[label] + 1, is_right)


def holders(truth: TruthTable, predictions: PredictionTable, thresholds: Seconds) -> IntArray:
    """Find which prediction takes each action; the rules are those of `match`.

    Returns:
        (H, G) int64 rows of `predictions`; -1: no prediction takes the action.
    """
    numbered = _numbered(truth, predictions, rank_predictions(predictions), float(thresholds.min()))
    rows = np.append(numbered.rows, -1)  # the number after the last one is nobody's
    settled = [
        _settle(numbered.pairs, len(numbered.rows), len(truth.label), threshold=float(threshold))
        for threshold in thresholds
    ]
    return np.stack([rows[holder] for holder in settled])


def rank_predictions(predictions: PredictionTable) -> IntArray:
    """Order rows by class, then by falling score; among equal scores the later row of the file comes first.

    ActivityNet's code sorts with `argsort()[::-1]` (Evaluation/eval_detection.py, compute_average_precision_detection),
    whose order of equal scores depends on the machine; a stable sort read backwards is one of the possible orders, and
    the same on every machine.

    Returns:
        (P,) int64 rows of `predictions`.
    """
    label = predictions.label
    if len(label) and label.max() <= np.iinfo(np.int16).max:
        label = label.astype(np.int16)  # NumPy sorts these by radix, in linear time
    order = np.argsort(label, kind="stable")
    ends = np.cumsum(np.bincount(label))
    for rows in np.split(order, ends[:-1]):
        later_first = rows[::-1]
        falling = -predictions.scores[later_first]
        ranked = np.argsort(falling)  # several times faster than a stable sort, which is needed only for ties
        if (np.diff(falling[ranked]) == 0).any():
            ranked = np.argsort(falling, kind="stable")
        rows[:] = later_first[ranked]
    return order


def interpolated_average_precision(is_right: BoolArray, rank: IntArray, n_actions: int) -> Seconds:
    """Compute the area under the precision envelope over recall, as the VOC development kit of 2011 does.

    Precision falls from one right prediction to the next, so wrong ones may be left out as long as `rank` counts them.

    Args:
        is_right: (H, M) bool, predictions of one class, best first.
        rank: (M,) their ranks among all predictions of the class, rising, from 1.
        n_actions: actions of the class in the ground truth, >= 1.

    Returns:
        (H,) float64 in [0, 1].
    """
    precision = np.cumsum(is_right, axis=1) / rank
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    area: Seconds = (envelope * is_right).sum(axis=1) / n_actions
    return area


class Pairs(NamedTuple):
    """Predictions with actions of their class and video, (pairs,) each.

    A prediction's pairs are adjacent, highest tIoU first; among equal tIoU the later action comes first.
    """

    prediction: IntArray
    action: IntArray
    tiou: Seconds


class _Numbered(NamedTuple):
    """Predictions that overlap an action enough, numbered by priority.

    rows: (M,) int64 rows of the predictions. place: (M,) int64, their places in the whole ranking.
    pairs: with numbers in place of rows.
    """

    rows: IntArray
    place: IntArray
    pairs: Pairs


def _numbered(truth: TruthTable, predictions: PredictionTable, order: IntArray, least_tiou: float) -> _Numbered:
    pairs = overlapping_pairs(truth, predictions, least_tiou)
    overlaps = np.zeros(len(order), dtype=bool)
    overlaps[pairs.prediction] = True
    place = np.flatnonzero(overlaps[order])
    rows = order[place]
    number = np.empty(len(order), dtype=np.int64)
    number[rows] = np.arange(len(rows))
    return _Numbered(rows, place, pairs._replace(prediction=number[pairs.prediction]))


def overlapping_pairs(truth: TruthTable, predictions: PredictionTable, least_tiou: float) -> Pairs:
    """List every prediction with every action of its class and video that it overlaps by at least `least_tiou`."""
    n_classes = len(truth.classes)
    truth_group = truth.video * n_classes + truth.label
    action_order = np.argsort(truth_group, kind="stable")
    groups, starts, sizes = np.unique(truth_group[action_order], return_index=True, return_counts=True)
    wanted = predictions.video * n_classes + predictions.label  # negative where the video is unknown
    place = np.minimum(np.searchsorted(groups, wanted), len(groups) - 1)
    prediction = np.flatnonzero(groups[place] == wanted)
    place = place[prediction]

    counts = sizes[place]
    offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    action = action_order[np.repeat(starts[place], counts) + offsets]
    prediction = np.repeat(prediction, counts)

    # The order of these operations is ActivityNet's (Evaluation/utils.py, segment_iou): thresholds are met to the bit.
    start, end = predictions.segments[:, 0][prediction], predictions.segments[:, 1][prediction]
    action_start, action_end = truth.segments[:, 0][action], truth.segments[:, 1][action]
    intersection = np.maximum(np.minimum(end, action_end) - np.maximum(start, action_start), 0.0)
    union = (action_end - action_start) + (end - start) - intersection
    is_same_instant = (union == 0) & (start == action_start)
    tiou = np.divide(intersection, union, out=is_same_instant.astype(np.float64), where=union > 0)
    enough = np.flatnonzero(tiou >= least_tiou)
    prediction, action, tiou = prediction[enough], action[enough], tiou[enough]

    follows = np.diff(prediction, prepend=-1) == 0
    several = np.flatnonzero(follows | np.append(follows[1:], False))  # predictions with one pair need no sorting
    best_first = several[np.lexsort((-action[several], -tiou[several], prediction[several]))]
    action[several], tiou[several] = action[best_first], tiou[best_first]
    return Pairs(prediction, action, tiou)


def _settle(pairs: Pairs, n_predictions: int, n_actions: int, *, threshold: float) -> IntArray:
    """Match predictions, numbered by priority, with actions.

    Returns:
        (n_actions,) number of the prediction that takes each action; `n_predictions`: none.

    The result equals matching one by one. Deferred acceptance (Gale and Shapley) computes it for all at once: every
    prediction asks for its best action, each action keeps the prediction with the lowest number, and every refused
    or replaced prediction asks for its next action. Few rounds are needed, as few actions overlap.
    """
    enough = np.flatnonzero(pairs.tiou >= threshold)
    owner, action = pairs.prediction[enough], pairs.action[enough]
    offer = np.flatnonzero(np.diff(owner, prepend=-1))  # (askers,) the pair that each asks for, first its best
    owner = np.append(owner, -1)  # the entry after the last pair belongs to no prediction
    nobody = n_predictions
    holder = np.full(n_actions, nobody)
    holder_offer = np.zeros(n_actions, dtype=np.int64)
    while len(offer):
        wanted, asker = action[offer], owner[offer]
        before, before_offer = holder[wanted], holder_offer[wanted]
        np.minimum.at(holder, wanted, asker)
        accepted = holder[wanted] == asker
        holder_offer[wanted[accepted]] = offer[accepted]
        displaced = accepted & (before != nobody)
        free = np.concatenate([offer[~accepted], before_offer[displaced]])
        offer = free[owner[free + 1] == owner[free]] + 1
    return holder
