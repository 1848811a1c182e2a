"""Which predictions are right: ActivityNet's greedy matching, for all classes, videos and thresholds at once."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stale_edge.evaluation.layouts import PredictionTable, Seconds, TruthTable
from stale_edge.segments import IntArray

BoolArray = NDArray[np.bool_]


def rank_predictions(predictions: PredictionTable) -> IntArray:
    """Order rows by class, then by falling score; of equal scores the row that stands later in the file comes first.

    ActivityNet's code sorts with `argsort()[::-1]` (Evaluation/eval_detection.py, compute_average_precision_detection),
    which leaves the order of equal scores to the sorting network of the machine; a stable sort read backwards is one of
    its outcomes, and the same everywhere.

    Returns:
        (P,) int64 rows of `predictions`.
    """
    by_score = np.argsort(predictions.scores, kind="stable")[::-1]
    return by_score[np.argsort(predictions.label[by_score], kind="stable")]


def match(truth: TruthTable, predictions: PredictionTable, thresholds: Seconds) -> BoolArray:
    """Decide for every prediction and tIoU threshold whether it is a true positive.

    Within a class and a video, predictions choose in their order: each takes the action with the highest tIoU that is
    at least the threshold and that no earlier prediction has taken at this threshold. Of equal tIoU the action that
    stands later in the file comes first. Where both segments have zero length, their tIoU is 1 if they are the same
    instant and 0 if not; in ActivityNet's code it is 0 / 0, which passes every threshold.

    Args:
        truth: G actions.
        predictions: P predictions, in the order in which they choose.
        thresholds: (H,) in (0, 1].

    Returns:
        (H, P) bool.
    """
    n_thresholds = len(thresholds)
    is_right = np.zeros((n_thresholds, len(predictions.label)), dtype=bool)
    pairs = _overlapping_pairs(truth, predictions, float(thresholds.min()))
    if not len(pairs.prediction):
        return is_right

    # A pair is settled after its group's earlier predictions and its own prediction's better pairs. `turn` numbers
    # the pairs of a group in that order; pairs of one turn belong to different groups and are settled together.
    pairs = pairs.take(np.lexsort((-pairs.action, -pairs.tiou, pairs.prediction, pairs.group)))
    starts = np.flatnonzero(np.r_[True, pairs.group[1:] != pairs.group[:-1]])
    sizes = np.diff(np.r_[starts, len(pairs.group)])
    turn = np.arange(len(pairs.group)) - np.repeat(starts, sizes)

    reaches = pairs.tiou >= thresholds[:, None]  # (H, pairs)
    is_taken = np.zeros((n_thresholds, len(truth.label)), dtype=bool)
    by_turn = np.argsort(turn, kind="stable")
    ends = np.cumsum(np.bincount(turn))
    for begin, end in zip(np.r_[0, ends[:-1]], ends, strict=True):
        settled = by_turn[begin:end]
        prediction, action = pairs.prediction[settled], pairs.action[settled]
        settles = reaches[:, settled] & ~is_taken[:, action] & ~is_right[:, prediction]  # (H, pairs of this turn)
        is_taken[:, action] |= settles
        is_right[:, prediction] |= settles
    return is_right


def interpolated_average_precision(is_right: BoolArray, n_actions: int) -> Seconds:
    """Compute the area under the precision envelope over recall, as the VOC development kit of 2011 does.

    Args:
        is_right: (H, P) bool, predictions of one class in falling order of score.
        n_actions: actions of the class in the ground truth, >= 1.

    Returns:
        (H,) float64 in [0, 1].
    """
    n_predictions = is_right.shape[1]
    if not n_predictions:
        return np.zeros(len(is_right))
    precision = np.cumsum(is_right, axis=1) / np.arange(1, n_predictions + 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    area: Seconds = (envelope * is_right).sum(axis=1) / n_actions
    return area


class _Pairs(NamedTuple):
    """Predictions with actions of their class and video: rows, tIoU, a number for class and video; (pairs,) each."""

    prediction: IntArray
    action: IntArray
    tiou: Seconds
    group: IntArray

    def take(self, rows: IntArray) -> "_Pairs":
        return _Pairs(self.prediction[rows], self.action[rows], self.tiou[rows], self.group[rows])


def _overlapping_pairs(truth: TruthTable, predictions: PredictionTable, least_tiou: float) -> _Pairs:
    """List every prediction with every action of its class and video that it overlaps by at least `least_tiou`."""
    truth_group = truth.label * truth.n_videos + truth.video
    action_order = np.argsort(truth_group, kind="stable")
    groups, starts, sizes = np.unique(truth_group[action_order], return_index=True, return_counts=True)
    known = np.flatnonzero(predictions.video >= 0)
    wanted = predictions.label[known] * truth.n_videos + predictions.video[known]
    place = np.minimum(np.searchsorted(groups, wanted), len(groups) - 1)
    there = groups[place] == wanted
    prediction, place = known[there], place[there]

    counts = sizes[place]
    offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    action = action_order[np.repeat(starts[place], counts) + offsets]
    prediction, group = np.repeat(prediction, counts), np.repeat(place, counts)

    # The order of these operations is ActivityNet's (Evaluation/utils.py, segment_iou): thresholds are met to the bit.
    start, end = predictions.segments[prediction].T
    action_start, action_end = truth.segments[action].T
    intersection = np.maximum(np.minimum(end, action_end) - np.maximum(start, action_start), 0.0)
    union = (action_end - action_start) + (end - start) - intersection
    is_same_instant = (union == 0) & (start == action_start)
    tiou = np.divide(intersection, union, out=is_same_instant.astype(np.float64), where=union > 0)
    return _Pairs(prediction, action, tiou, group).take(np.flatnonzero(tiou >= least_tiou))
