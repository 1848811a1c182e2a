"""The training-free baseline: detections from cosine similarity to the class names alone."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stale_edge.config import DecodeConfig
from stale_edge.decoding.arrays import float_array
from stale_edge.decoding.suppression import soft_nms
from stale_edge.segments import Detection

CLIP_TEMPERATURE = 100.0
"""CLIP's scale of cosines before the softmax over classes."""
SMOOTHING = 0.05
"""Width of the moving average over probabilities, as a fraction of the video."""
THRESHOLDS = tuple(step / 10 for step in range(1, 10))
"""Thresholds of the scaled average; separate, as those tuned for a trained model's masks would weaken the baseline."""
SURROUNDINGS = 0.25
"""A run is compared with this fraction of its length before it and after it."""
NO_CHANGE = 1e-9
"""A probability that varies less counts as constant: scaled to [0, 1], rounding errors would look like runs."""
LOWEST_SCORE = 1e-9
"""Drops only scores that soft-NMS set near 0: with many classes, good scores are far below `DecodeConfig.min_score`."""

_Array = NDArray[np.float64]


def baseline_detections(
    features: ArrayLike,
    class_embeddings: ArrayLike,
    *,
    class_names: Sequence[str],
    duration_s: float,
    config: DecodeConfig | None = None,
) -> list[Detection]:
    """Detect actions without any training: cosine, runs above thresholds, soft-NMS.

    Each snippet gets CLIP's probability of each class: the softmax over the vocabulary of 100 times the cosine. A
    moving average over 5 % of the video smooths it. For each class the average is scaled to [0, 1] over the video and
    cut at every threshold; each run above one is a candidate. Its score is the mean probability inside, times the mean
    of the scaled average inside minus that around it (a quarter of its length on either side), times the square root
    of its fraction of the video. Soft-NMS runs on each class alone. Of some sixty variants tried (cosine in place of
    probability, other widths, video-level probabilities, no contrast, no length) this one had the highest mAP on
    simulated data. With a single class every probability is 1, so nothing is found.

    Args:
        features: (T, C) floats, T >= 1, neither centred nor resampled. A zero row has similarity 0 with every class.
        class_embeddings: (K, C) floats, row by row the text embeddings of `class_names`.
        class_names: K distinct names.
        duration_s: length of the video in seconds, > 0.
        config: rule of soft-NMS, `min_snippets` and `max_detections`; None: the defaults of `DecodeConfig`. Its other
            settings are for trained models and are not read.

    Returns:
        At most `config.max_detections`, best first, scores in [0, 1], segments in seconds.

    Raises:
        ValueError: shapes disagree (features and embeddings must be equally wide), a number is not finite, names are
            not distinct, or the duration is not > 0.
    """
    settings = DecodeConfig() if config is None else config
    images = _directions(features, "features")  # (T, C)
    texts = _directions(class_embeddings, "class_embeddings")  # (K, C)
    if images.shape[1] != texts.shape[1]:
        raise ValueError(
            f"the baseline compares features with class embeddings, so both must be equally wide; features are "
            f"{images.shape[1]} wide, class embeddings {texts.shape[1]}"
        )
    names = list(class_names)
    if len(names) != len(texts) or len(set(names)) != len(names):
        raise ValueError(
            f"class_names must hold {len(texts)} distinct names, one a row of class_embeddings; got {names!r}"
        )
    if not (math.isfinite(duration_s) and duration_s > 0):
        raise ValueError(f"duration_s must be a finite number of seconds > 0; got {duration_s!r}")

    logits = CLIP_TEMPERATURE * (texts @ images.T)  # (K, T)
    probabilities = np.exp(logits - logits.max(axis=0))
    probabilities /= probabilities.sum(axis=0)
    rows, starts, stops, scores = _candidates(probabilities, settings)
    n_snippets = len(images)
    detections: list[Detection] = []
    for row in np.unique(rows).tolist():
        own = np.flatnonzero(rows == row)
        segments = np.stack([starts[own], stops[own]], axis=1).astype(np.float64)
        kept, decayed = soft_nms(
            segments,
            scores[own],
            method=settings.soft_nms,
            sigma=settings.sigma,
            tiou_threshold=settings.tiou_threshold,
            min_score=LOWEST_SCORE,
            top_k=settings.max_detections,
        )
        seconds = segments[kept] / n_snippets * duration_s
        detections += [
            Detection(names[row], score, start_s, end_s)
            for score, (start_s, end_s) in zip(decayed.tolist(), seconds.tolist(), strict=True)
        ]
    detections.sort(key=lambda detection: -detection.score)
    return detections[: settings.max_detections]


def _candidates(
    probabilities: _Array, config: DecodeConfig
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], _Array]:
    """Cut the probabilities (K, T) into runs: class row, first snippet, one past the last, score, each (N,)."""
    n_snippets = probabilities.shape[1]
    steady = _moving_average(probabilities, max(1, round(SMOOTHING * n_snippets)))
    low, high = steady.min(axis=1, keepdims=True), steady.max(axis=1, keepdims=True)
    scaled = np.divide(steady - low, high - low, out=np.zeros_like(steady), where=high - low > NO_CHANGE)

    above = scaled[:, None, :] > np.array(THRESHOLDS)[None, :, None]  # (K, thresholds, T)
    edges = np.diff(np.pad(above.astype(np.int8), ((0, 0), (0, 0), (1, 1))), axis=-1)
    rows, _, starts = np.nonzero(edges == 1)
    stops = np.nonzero(edges == -1)[2]
    # Several thresholds may give the same run; kept once, it does not decay itself.
    runs = np.unique(np.stack([rows, starts, stops], axis=1), axis=0)
    rows, starts, stops = runs[runs[:, 2] - runs[:, 1] >= config.min_snippets].T

    lengths = stops - starts
    margins = np.maximum(1, np.round(SURROUNDINGS * lengths).astype(np.int64))
    before, after = np.maximum(starts - margins, 0), np.minimum(stops + margins, n_snippets)
    totals, scaled_totals = _cumulative(probabilities), _cumulative(scaled)
    inside = (totals[rows, stops] - totals[rows, starts]) / lengths
    scaled_inside = scaled_totals[rows, stops] - scaled_totals[rows, starts]
    around = scaled_totals[rows, after] - scaled_totals[rows, before] - scaled_inside
    n_around = after - before - lengths
    contrast = scaled_inside / lengths - around / np.maximum(n_around, 1)  # without surroundings their mean counts as 0
    scores = inside * np.clip(contrast, 0.0, 1.0) * np.sqrt(lengths / n_snippets)
    return rows, starts, stops, np.clip(scores, 0.0, 1.0)


def _moving_average(values: _Array, width: int) -> _Array:
    """Average (K, T) over `width` snippets around each snippet, fewer at the ends of the video."""
    totals = _cumulative(values)
    places = np.arange(values.shape[1])
    starts = np.maximum(places - width // 2, 0)
    stops = np.minimum(places + (width + 1) // 2, values.shape[1])
    return np.asarray((totals[:, stops] - totals[:, starts]) / (stops - starts))


def _cumulative(values: _Array) -> _Array:
    """Sum (K, T) from the start of the video: (K, T + 1), beginning with 0."""
    return np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)


def _directions(vectors: ArrayLike, name: str) -> _Array:
    array = float_array(vectors, name, np.float64)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} must be two-dimensional with at least one row and one column; got {array.shape}")
    finite = np.isfinite(array).all(axis=1)
    if not finite.all():
        raise ValueError(f"{name} row {int(np.argmin(finite))} is not finite")
    norms = np.linalg.norm(array, axis=1, keepdims=True)
    return np.asarray(np.divide(array, norms, out=np.zeros_like(array), where=norms > 0))
