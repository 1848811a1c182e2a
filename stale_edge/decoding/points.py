"""Points of a pyramid to detections: ActionFormer's inference, computed by the C++ core."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

import stale_edge._core as _core
from stale_edge.config import FrameGrid, PointsConfig, TimeGrid
from stale_edge.decoding.arrays import float_array
from stale_edge.decoding.inference import DecodedArrays, distinct_names
from stale_edge.segments import Detection


def decode_points(
    class_logits: ArrayLike,
    offsets: ArrayLike,
    valid: ArrayLike,
    *,
    level_lengths: Sequence[int],
    grid: TimeGrid,
    class_names: Sequence[str],
    config: PointsConfig | None = None,
) -> list[Detection]:
    """Turn a point detector's outputs for one video into named detections in seconds.

    `points_candidates` and `suppressed_points` describe the two steps.

    Args:
        class_logits: (P, K) floats, the points of all levels joined from fine to coarse; the sigmoid is taken here.
        offsets: (P, 2) floats >= 0, distances to start and end in units of the level's stride, 2**level.
        valid: (P,) booleans, or numbers 0 and 1; other points are not read.
        level_lengths: points of each level; they add up to P.
        grid: where points lie in time.
        class_names: K names, column by column.
        config: settings; None: the defaults of `PointsConfig`.

    Returns:
        Detections, best first, within [0, duration_s]; among equal scores as in `suppressed_points`.

    Raises:
        ValueError: shapes disagree, a number is not finite or out of its range (the row is named), or `class_names`
            does not have K distinct names.
    """
    settings = PointsConfig() if config is None else config
    logits = float_array(class_logits, "class_logits", np.float32)
    flags = _flags(valid)
    names = distinct_names(class_names)
    if logits.ndim == 2 and len(names) != logits.shape[1]:
        raise ValueError(
            f"class_names must hold K = {logits.shape[1]} names, one for each column of class_logits; got {len(names)}"
        )
    candidates = points_candidates(logits, offsets, flags, level_lengths=level_lengths, config=settings)
    found = suppressed_points(candidates, config=settings)
    n_points = max(int(flags[: level_lengths[0]].sum()), 1)
    seconds = grid_seconds(found.segments, grid, n_points=n_points).tolist()
    rows = zip(found.labels.tolist(), found.scores.tolist(), seconds, strict=True)
    return [Detection(names[label], score, start_s, end_s) for label, score, (start_s, end_s) in rows]


def level_lengths(n_points: int, *, n_levels: int) -> tuple[int, ...]:
    """Split the points of a pyramid into its levels: level l has ceil(T' / 2**l) points, T' the padded length.

    Args:
        n_points: P, of all levels.
        n_levels: levels, >= 1.

    Raises:
        ValueError: no length gives `n_points` points on `n_levels` levels.
    """
    low, high = 1, n_points
    while low < high:  # more snippets never have fewer points
        middle = (low + high) // 2
        low, high = (low, middle) if sum(_halved(middle, n_levels)) >= n_points else (middle + 1, high)
    levels = _halved(low, n_levels)
    if sum(levels) != n_points:
        raise ValueError(
            f"no video has {n_points} points on {n_levels} levels: {sum(levels)} is the next number that one has; "
            "decode.n_levels must be the detector's"
        )
    return levels


def _halved(length: int, n_levels: int) -> tuple[int, ...]:
    return tuple(-(-length // 2**level) for level in range(n_levels))


def points_candidates(
    class_logits: ArrayLike,
    offsets: ArrayLike,
    valid: ArrayLike,
    *,
    level_lengths: Sequence[int],
    config: PointsConfig | None = None,
) -> DecodedArrays:
    """List the candidates that points propose, before suppression.

    On each level the (point, class) pairs that score more than `pre_nms_threshold` are kept, at most the best
    `pre_nms_top_k`. Each is a segment [t - start offset * stride, t + end offset * stride), t = i * stride for the i-th
    point; those not longer than `duration_threshold` are dropped.

    Args:
        class_logits, offsets, valid, level_lengths: as in `decode_points`.
        config: settings; None: the defaults of `PointsConfig`.

    Returns:
        By level, best first; among equal scores by rising point, then by rising class. Segments in units of the grid.

    Raises:
        ValueError: as `decode_points`.
    """
    settings = PointsConfig() if config is None else config
    return DecodedArrays(
        *_core.points_proposals(
            float_array(class_logits, "class_logits", np.float32),
            float_array(offsets, "offsets", np.float32),
            _flags(valid),
            [int(length) for length in level_lengths],
            pre_nms_threshold=settings.pre_nms_threshold,
            pre_nms_top_k=settings.pre_nms_top_k,
            duration_threshold=settings.duration_threshold,
        )
    )


def suppressed_points(candidates: DecodedArrays, *, config: PointsConfig | None = None) -> DecodedArrays:
    """Suppress the candidates of points, as ActionFormer does.

    `multiclass`: every class separately, at most `max_detections` each; otherwise all together, and then each segment
    becomes the mean of the candidates that it overlaps by `voting_threshold`, weighted by score times tIoU. The best
    `max_detections` remain. tIoU adds 1e-6 to each length. Two details of the public code are kept: the best candidate
    of a Gaussian suppression stays whatever its score, and `hard` needs a score above `min_score`. Among equal scores
    the earlier row comes first; in the public code this order depends on its sort.

    Args:
        candidates: rows from `points_candidates`.
        config: settings; None: the defaults of `PointsConfig`.

    Returns:
        Best first; with `soft_nms` "none" all candidates; among equal scores the lower label, then the earlier row.

    Raises:
        ValueError: a number is not finite, an end precedes its start, or a score is negative; the row is named.
    """
    settings = PointsConfig() if config is None else config
    return DecodedArrays(
        *_core.suppress_points(
            candidates,
            multiclass=settings.multiclass,
            method=settings.soft_nms,
            sigma=settings.sigma,
            tiou_threshold=settings.tiou_threshold,
            min_score=settings.min_score,
            voting_threshold=settings.voting_threshold,
            max_detections=settings.max_detections,
        )
    )


def grid_seconds(segments: NDArray[np.float64], grid: TimeGrid, *, n_points: int) -> NDArray[np.float64]:
    """Convert segments (M, 2) from units of the grid to seconds in [0, duration_s].

    Args:
        segments: (start, end) in each row.
        grid: a `FrameGrid` or a `RelativeGrid`.
        n_points: valid points of the first level, >= 1; read by a `RelativeGrid`.
    """
    if isinstance(grid, FrameGrid):
        seconds = (segments * grid.stride + 0.5 * grid.num_frames) / grid.fps
    else:
        seconds = segments / n_points * grid.duration_s
    return np.clip(seconds, 0.0, grid.duration_s) + 0.0  # no -0.0


def fused_with_video_scores(
    detections: Sequence[Detection],
    video_scores: ArrayLike,
    *,
    class_names: Sequence[str],
    top_classes: int = 2,
    max_detections: int = 200,
) -> list[Detection]:
    """Label class-agnostic detections with the best classes of a video classifier.

    ActionFormer's score fusion: each of the best `max_detections` is repeated for each of the `top_classes` classes
    with the highest video score, and scores sqrt(video score * score). The labels of `detections` are replaced.

    Args:
        detections: of one video.
        video_scores: (N,) floats >= 0, one per class; their sum may differ from 1, and each may exceed 1.
        class_names: N distinct names, one per score.
        top_classes: >= 1; more than N means all.
        max_detections: >= 1.

    Returns:
        Best first; among equal scores the class with the higher video score, then the earlier detection.

    Raises:
        ValueError: a score is negative or not finite (the row is named), or the numbers of names and scores differ.
    """
    scores = float_array(video_scores, "video_scores", np.float64)
    names = distinct_names(class_names)
    if scores.ndim != 1 or len(scores) != len(names) or not names:
        raise ValueError(
            f"video_scores must have shape (N,), one score for each of the {len(names)} class_names, N >= 1; "
            f"got {scores.shape}"
        )
    fine = np.isfinite(scores) & (scores >= 0)
    if not fine.all():
        row = int(np.argmin(fine))
        raise ValueError(f"video_scores row {row} is {scores[row]}; scores must be finite and >= 0")
    for name, value in (("top_classes", top_classes), ("max_detections", max_detections)):
        if value < 1:
            raise ValueError(f"{name} must be an integer >= 1; got {value!r}")
    best = sorted(detections, key=lambda detection: -detection.score)[:max_detections]
    fused = [
        Detection(names[row], math.sqrt(scores[row] * found.score), found.start_s, found.end_s)
        for row in np.argsort(-scores, kind="stable")[:top_classes].tolist()
        for found in best
    ]
    return sorted(fused, key=lambda detection: -detection.score)


def _flags(valid: ArrayLike) -> NDArray[np.bool_]:
    given = np.asarray(valid)
    if given.dtype.kind not in "biuf":
        raise ValueError(f"valid must hold booleans, or numbers 0 and 1; got {given.dtype}")
    wrong = ~np.isin(given, (0, 1))
    if wrong.any():
        raise ValueError(f"valid must hold booleans, or numbers 0 and 1; got {given[wrong][0]}")
    return np.ascontiguousarray(given, dtype=np.bool_)
