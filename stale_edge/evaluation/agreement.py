"""Agreement of two detectors: match the detections of a model with those of an artifact made from it."""

from typing import NamedTuple

import numpy as np

from stale_edge.segments import Detection, tiou

SAME_SEGMENT = 0.95
"""tIoU from which two segments count as the same."""


class Matched(NamedTuple):
    """Number of confident detections of the model, number found by the artifact, and distance of their scores."""

    total: int
    matched: int
    max_score_difference: float


def count_matched(model: list[Detection], artifact: list[Detection], *, confident: float) -> Matched:
    """Match detections one to one, best first: equal label and tIoU >= 0.95; of several, the one nearest in score.

    Args:
        model: detections of one video by the model.
        artifact: those by the artifact, all of them.
        confident: detections of the model below this fraction of its best score are left out, in [0, 1].
    """
    wanted = sorted(model, key=lambda detection: -detection.score)
    if wanted:
        wanted = [detection for detection in wanted if detection.score >= confident * wanted[0].score]
    free = list(artifact)
    matched, difference = 0, 0.0
    for detection in wanted:
        rivals = [other for other in free if other.label == detection.label]
        if not rivals:
            continue
        overlaps = _overlaps(detection, rivals)
        same = [other for other, overlap in zip(rivals, overlaps, strict=True) if overlap >= SAME_SEGMENT]
        if same:
            best = min(same, key=lambda other: abs(other.score - detection.score))
            free.remove(best)
            matched += 1
            difference = max(difference, abs(best.score - detection.score))
    return Matched(len(wanted), matched, difference)


def _overlaps(detection: Detection, others: list[Detection]) -> list[float]:
    """Compute the tIoU with each; equal segments have 1, also those of zero length."""
    one = np.array([[detection.start_s, detection.end_s]])
    many = np.array([[other.start_s, other.end_s] for other in others])
    overlaps = tiou(one, many)[0]
    overlaps[(many == one).all(axis=1)] = 1.0
    return [float(overlap) for overlap in overlaps]
