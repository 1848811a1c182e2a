"""Suppress candidates of many labels at once, and join those of two windows of a long video at their seam."""

import numpy as np
from numpy.typing import NDArray

import stale_edge._core as _core
from stale_edge.config import DecodeSettings, PointsConfig
from stale_edge.decoding.inference import DecodedArrays
from stale_edge.segments import IntArray

NOTHING = DecodedArrays(np.empty((0, 2)), np.empty(0, dtype=np.int64), np.empty(0))
"""Empty arrays: no candidate."""


def rows_of(arrays: DecodedArrays, rows: IntArray | NDArray[np.bool_]) -> DecodedArrays:
    """Copy the rows with these numbers, or the rows where a mask is true."""
    return DecodedArrays(arrays.segments[rows], arrays.labels[rows], arrays.scores[rows])


def both(first: DecodedArrays, second: DecodedArrays) -> DecodedArrays:
    """Concatenate two sets of candidates."""
    return DecodedArrays(*(np.concatenate(pair) for pair in zip(first, second, strict=True)))


def suppressed(
    candidates: DecodedArrays, *, config: DecodeSettings, settled: DecodedArrays = NOTHING
) -> tuple[IntArray, DecodedArrays]:
    """Run soft-NMS on each label separately, as the paper policy does on the proposals of a video.

    Args:
        candidates: with raw scores.
        config: the rule, `min_score` and `max_detections`.
        settled: detections of an earlier call. Their scores are final and are not decayed again; each decays the
            candidates of its label in order of score, before a candidate of equal score.

    Returns:
        The rows of `candidates` that are kept, best first, at most `max_detections`, and their decayed copies.

    Raises:
        ValueError: shapes disagree, a number is not finite, an end precedes its start, or a score is negative; the row
            is named. Or the policy is `points`.
    """
    if isinstance(config, PointsConfig):
        raise ValueError("candidates of points have a suppression of their own: suppressed_points")
    rows, scores = _core.soft_nms_by_label(
        candidates,
        settled,
        method=config.soft_nms,
        sigma=config.sigma,
        tiou_threshold=config.tiou_threshold,
        min_score=config.min_score,
        top_k=config.max_detections,
    )
    return rows, DecodedArrays(candidates.segments[rows], candidates.labels[rows], scores)


def joined_at_seam(
    earlier: DecodedArrays,
    later: DecodedArrays,
    *,
    zone: tuple[float, float],
    seam: float,
    final_until: float,
    same_action: float,
) -> DecodedArrays:
    """Join the candidates of two windows by the rules in `stale_edge.runtime.seams`.

    Args:
        earlier, later: candidates of one window and of the next; times in any one unit.
        zone: [start, end) that both windows cover.
        seam: left of it the earlier window is preferred.
        final_until: segments that end by then are settled; the later window does not change them.
        same_action: smallest tIoU inside the zone at which two segments are one action, > 0.

    Returns:
        First the rows that result from `later`, then those left of `earlier`, both in their order.

    Raises:
        ValueError: as `suppressed`, or `same_action` is not > 0.
    """
    return DecodedArrays(
        *_core.join_at_seam(
            earlier,
            later,
            zone_start=zone[0],
            zone_end=zone[1],
            seam=seam,
            final_until=final_until,
            same_action=same_action,
        )
    )
