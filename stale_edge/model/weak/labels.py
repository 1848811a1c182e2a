"""What weak supervision knows of a video, and pseudo-labels made from the scores of a branch."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stale_edge.segments import FloatArray

UNKNOWN = -1
"""Pseudo-label of a snippet whose class is not certain; 1: it shows the class, 0: it does not."""


@dataclass(frozen=True)
class VideoLabels:
    """The classes of a video, without times; `pseudo` (T, K) int8 of 1, 0 and -1, None in the warm-up."""

    names: frozenset[str]
    pseudo: NDArray[np.int8] | None = None


class LabelCounts(NamedTuple):
    """Number of pseudo-labels of each kind, among the classes that each video shows."""

    positive: int
    negative: int
    unknown: int


def pseudo_labels(scores: FloatArray, present: NDArray[np.bool_], *, low: float, high: float) -> NDArray[np.int8]:
    """Label snippets by two thresholds; the scores of each class are scaled to [0, 1] over the video first.

    Classes that the video does not show are 0 everywhere. Of a class that it shows, the best snippet is 1, so that no
    class disappears; where all scores are equal nothing is certain but that snippet.

    Args:
        scores: (K, T) in [0, 1].
        present: (K,), whether the video shows a class.
        low, high: at or below `low` the label is 0, at or above `high` it is 1.

    Returns:
        (T, K) int8.
    """
    n_classes, length = scores.shape
    labels = np.zeros((length, n_classes), dtype=np.int8)
    for row in np.flatnonzero(present):
        values = scores[row].astype(np.float64)
        span = values.max() - values.min()
        if span > 0:
            scaled = (values - values.min()) / span
            labels[:, row] = np.where(scaled >= high, 1, np.where(scaled <= low, 0, UNKNOWN))
        else:
            labels[:, row] = UNKNOWN
            labels[0, row] = 1
    return labels


def count_labels(labels: NDArray[np.int8], present: NDArray[np.bool_]) -> LabelCounts:
    """Count the labels (T, K) of one video, among the classes that it shows."""
    own = labels[:, present]
    return LabelCounts(*(int((own == kind).sum()) for kind in (1, 0, UNKNOWN)))
