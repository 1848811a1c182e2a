"""The training-free detector in NumPy: class names compared with snippets, without any weights.

`stale_edge.model.training_free` is the same formula as a network, for export.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stale_edge.config.training_free import BEND, LEAST_SPREAD, SLOPE, TRAINING_FREE_DECODE, TrainingFreeConfig
from stale_edge.decoding.arrays import float_array
from stale_edge.decoding.runs import decode_runs
from stale_edge.segments import Detection, FloatArray

_Array = NDArray[np.float64]


def training_free_logits(
    features: ArrayLike, class_embeddings: ArrayLike, background: ArrayLike, *, smoothing: float | None = None
) -> FloatArray:
    """Compute how far each class name stands out from background prompts at each snippet.

    Snippets are unit vectors without the mean of the video, smoothed by a moving average. Class names and background
    prompts are unit vectors without the mean of the background prompts, scaled to unit length again. The cosine-like
    products of the background prompts with the snippets have a mean at each snippet and one standard deviation over
    all; the product of a class name is counted in that deviation, from that mean, as z. The logit is SLOPE (z - BEND)
    against a background of 0; each class is compared with the background alone, so the number of names does not matter.

    Args:
        features: (T, C) floats, T >= 1. A zero row is similar to nothing.
        class_embeddings: (K, C) floats, K >= 1.
        background: (N, C) floats, N >= 2, embeddings of prompts that name no action.
        smoothing: width of the moving average as a share of the video; None: the default of `TrainingFreeConfig`.

    Returns:
        (K + 1, T) float32, background last, for the decode policy `runs` with `class_scores="sigmoid"`.

    Raises:
        ValueError: shapes disagree (all must be equally wide), or a number is not finite.
    """
    snippets = _units(features, "features", least=1)  # (T, C)
    names, prompts = _units(class_embeddings, "class_embeddings", least=1), _units(background, "background", least=2)
    for name, rows in (("class_embeddings", names), ("background", prompts)):
        if rows.shape[1] != snippets.shape[1]:
            raise ValueError(
                f"features are compared with class embeddings and background, so all must be equally wide; features "
                f"are {snippets.shape[1]} wide, {name} {rows.shape[1]}"
            )
    share = TrainingFreeConfig.smoothing if smoothing is None else smoothing
    center = prompts.mean(axis=0)
    names, prompts = _unit(names - center), _unit(prompts - center)
    snippets = _smoothed(snippets - snippets.mean(axis=0), share)
    against = prompts @ snippets.T  # (N, T)
    level = against.mean(axis=0)
    spread = max(math.sqrt(np.square(against - level).mean()), LEAST_SPREAD)
    z = (names @ snippets.T - level) / spread  # (K, T)
    return np.concatenate([SLOPE * (z - BEND), np.zeros((1, len(snippets)))]).astype(np.float32)


def training_free_detections(
    features: ArrayLike,
    class_embeddings: ArrayLike,
    background: ArrayLike,
    *,
    class_names: Sequence[str],
    duration_s: float,
    max_detections: int | None = None,
) -> list[Detection]:
    """Detect actions without any training: `training_free_logits`, runs above thresholds, soft-NMS.

    Args:
        features, class_embeddings, background: as in `training_free_logits`.
        class_names: K distinct names.
        duration_s: length of the video in seconds, > 0.
        max_detections: largest number of detections, >= 1; None: the default of `TRAINING_FREE_DECODE`.

    Returns:
        Best first, scores in [0, 1], segments in seconds.

    Raises:
        ValueError: as `training_free_logits` and `decode_runs`.
    """
    config = TRAINING_FREE_DECODE
    if max_detections is not None:
        config = dataclasses.replace(config, max_detections=max_detections)
    logits = training_free_logits(features, class_embeddings, background)
    return decode_runs(logits, None, class_names=class_names, duration_s=duration_s, config=config)


def smoothing_reach(n_snippets: int, share: float) -> int:
    """Count the snippets on each side that the moving average takes in."""
    return math.floor(n_snippets * share / 2)


def _smoothed(values: _Array, share: float) -> _Array:
    """Average (T, C) over the snippets around each one, fewer at the ends of the video."""
    reach, places = smoothing_reach(len(values), share), np.arange(len(values))
    sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    starts, stops = np.maximum(places - reach, 0), np.minimum(places + reach + 1, len(values))
    return np.asarray((sums[stops] - sums[starts]) / (stops - starts)[:, None])


def _unit(rows: _Array) -> _Array:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 1e-6))


def _units(vectors: ArrayLike, name: str, *, least: int) -> _Array:
    array = float_array(vectors, name, np.float64)
    if array.ndim != 2 or len(array) < least or array.shape[1] < 1:
        rows = "row" if least == 1 else "rows"
        raise ValueError(
            f"{name} must be two-dimensional with at least {least} {rows} and one column; got {array.shape}"
        )
    finite = np.isfinite(array).all(axis=1)
    if not finite.all():
        raise ValueError(f"{name} row {int(np.argmin(finite))} is not finite")
    norms = np.linalg.norm(array, axis=1, keepdims=True)
    return np.asarray(np.divide(array, norms, out=np.zeros_like(array), where=norms > 0))
