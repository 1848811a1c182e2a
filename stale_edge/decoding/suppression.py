"""Soft-NMS and thresholded masks, computed by the C++ core."""

import numpy as np
from numpy.typing import ArrayLike

import stale_edge._core as _core
from stale_edge.config import DecodeConfig, Regions, SoftNMSMethod
from stale_edge.decoding.arrays import float_array
from stale_edge.segments import FloatArray, IntArray


def soft_nms(
    segments: ArrayLike,
    scores: ArrayLike,
    *,
    method: SoftNMSMethod = DecodeConfig.soft_nms,
    sigma: float = DecodeConfig.sigma,
    tiou_threshold: float = DecodeConfig.tiou_threshold,
    min_score: float = DecodeConfig.min_score,
    top_k: int | None = None,
    length_margin: float = 0.0,
) -> tuple[IntArray, FloatArray]:
    """Decay the score of every candidate by its overlap with better ones.

    Bodla et al., arXiv:1704.04503. The best candidate is picked, all others decay by their tIoU with it, and so on:
    `gaussian` multiplies by exp(-tiou**2 / sigma); `linear` by 1 - tiou where tiou >= tiou_threshold; `hard` by 0
    there, which is classical NMS. Scores never rise. Among equal scores the earlier row is picked first. Computed in
    float64.
    Differs from the release (utils/postprocess_utils.py:83), whose decay divides by 0.6 and can raise scores, and from
    ActionFormer, which adds 1e-6 to both lengths in a tIoU's union: where the tIoU is exactly `tiou_threshold`,
    `linear` and `hard` act here and not there. `length_margin=1e-6` gives ActionFormer's rule.

    Args:
        segments: (N, 2) floats, [start, end) in any unit of time, end >= start, at most 4.4e307 long.
        scores: (N,) floats >= 0, usually in [0, 1], at most what float32 holds.
        method: the rule.
        sigma: width of the Gaussian, in tIoU, > 0; values below 1e-290 count as 1e-290.
        tiou_threshold: overlap at which `linear` and `hard` act, in [0, 1].
        min_score: candidates whose decayed score is below are dropped, >= 0.
        top_k: at most this many picks, >= 0; None: no limit.
        length_margin: added to both lengths in the union of a tIoU, >= 0.

    Returns:
        kept: (M,) int64 rows of `segments`, best first, M <= N.
        decayed: (M,) float32, falling.

    Raises:
        ValueError: shapes disagree, a number is not finite, an end precedes its start, a score is negative (the row is
            named), or a parameter is out of its range.
    """
    segment_array = float_array(segments, "segments", np.float64)
    score_array = float_array(scores, "scores", np.float64)
    if segment_array.size == 0 and segment_array.ndim == 1:
        segment_array = segment_array.reshape(0, 2)  # an empty list of segments
    return _core.soft_nms(
        segment_array,
        score_array,
        method=method,
        sigma=sigma,
        tiou_threshold=tiou_threshold,
        min_score=min_score,
        top_k=top_k,
        length_margin=length_margin,
    )


def mask_segments(
    mask: ArrayLike,
    threshold: float,
    *,
    regions: Regions = DecodeConfig.regions,
    min_snippets: int = DecodeConfig.min_snippets,
) -> IntArray:
    """Find the segments where a mask is above a threshold, section 3.3 of the STALE paper.

    Args:
        mask: (T,) floats; compared in float32.
        threshold: a number that float32 holds; snippets strictly above it count.
        regions: `runs`: every connected run is a segment. `hull`: one segment from the first such snippet to the last,
            with holes filled, as in the release.
        min_snippets: shorter segments are dropped, >= 1.

    Returns:
        (M, 2) int64, [start, end) in snippets, in time order.

    Raises:
        ValueError: the mask is not one-dimensional or not finite (the row is named), or a parameter is out of range.
    """
    return _core.mask_segments(
        float_array(mask, "mask", np.float32), threshold=threshold, regions=regions, min_snippets=min_snippets
    )
