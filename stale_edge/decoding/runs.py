"""Class logits of snippets to detections, for detectors that predict no segments; computed by the C++ core."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

import stale_edge._core as _core
from stale_edge.config import RunsConfig
from stale_edge.decoding.arrays import float_array
from stale_edge.decoding.inference import DecodedArrays, distinct_names
from stale_edge.segments import Detection


def decode_runs(
    class_logits: ArrayLike,
    attention: ArrayLike | None,
    *,
    class_names: Sequence[str],
    duration_s: float,
    config: RunsConfig | None = None,
) -> list[Detection]:
    """Turn class logits of snippets into named detections in seconds: runs above thresholds, soft-NMS per class.

    `runs_candidates` describes the runs and their scores.

    Args:
        class_logits: (K+1, T) floats, background last.
        attention: (T,) floats in [0, 1], probability that a snippet shows any action; None: 1 everywhere.
        class_names: K names, row by row.
        duration_s: length of the video in seconds, > 0.
        config: settings; None: the defaults of `RunsConfig`.

    Returns:
        Detections, best first, scores in [0, 1], segments within [0, duration_s].

    Raises:
        ValueError: shapes disagree, a number is not finite or out of its range (the row is named), `class_names` does
            not have K distinct names, or the duration is not > 0.
    """
    logits = float_array(class_logits, "class_logits", np.float32)
    names = distinct_names(class_names)
    if logits.ndim == 2 and len(names) != logits.shape[0] - 1:
        raise ValueError(
            f"class_names must hold K = {logits.shape[0] - 1} names, one for each row of class_logits but the last, "
            f"the background; got {len(names)}"
        )
    if not (math.isfinite(duration_s) and duration_s > 0):
        raise ValueError(f"duration_s must be a finite number of seconds > 0; got {duration_s!r}")
    found = decode_runs_arrays(logits, attention, config=config)
    seconds = (found.segments / logits.shape[1] * duration_s).tolist()
    rows = zip(found.labels.tolist(), found.scores.tolist(), seconds, strict=True)
    return [Detection(names[label], score, start_s, end_s) for label, score, (start_s, end_s) in rows]


def decode_runs_arrays(
    class_logits: ArrayLike, attention: ArrayLike | None, *, config: RunsConfig | None = None
) -> DecodedArrays:
    """Find runs and suppress them class by class: `decode_runs` without names and seconds.

    Returns:
        Best first; among equal scores the lower class, then the longer run, then the earlier run.

    Raises:
        ValueError: as `decode_runs`.
    """
    return _decoded(class_logits, attention, config, suppress=True)


def runs_candidates(
    class_logits: ArrayLike, attention: ArrayLike | None, *, config: RunsConfig | None = None
) -> DecodedArrays:
    """List runs of snippets above thresholds, before soft-NMS.

    A class is used in a video if its video-level probability is above `class_threshold`: the softmax over the K classes
    of the mean of their highest logits (of `top_share` of the snippets), each times its attention. If none is above,
    the best class is used. A snippet's class score is its softmax probability over the K + 1 rows, or with
    `class_scores="sigmoid"` over the class and the background alone, times its attention. These scores are smoothed,
    scaled and cut as set in `config`; every distinct run above a threshold is a candidate.

    Args:
        class_logits, attention: as in `decode_runs`.
        config: settings; None: the defaults of `RunsConfig`. Of those of soft-NMS only `min_score` is read:
            runs that score less are left out.

    Returns:
        By rising class; within a class the longest first, among equal lengths the earlier first. Segments in snippets.

    Raises:
        ValueError: as `decode_runs`.
    """
    return _decoded(class_logits, attention, config, suppress=False)


def _decoded(
    class_logits: ArrayLike, attention: ArrayLike | None, config: RunsConfig | None, *, suppress: bool
) -> DecodedArrays:
    settings = dataclasses.asdict(RunsConfig() if config is None else config)
    del settings["policy"]
    return DecodedArrays(
        *_core.decode_runs(
            float_array(class_logits, "class_logits", np.float32),
            None if attention is None else float_array(attention, "attention", np.float32),
            suppress=suppress,
            **settings,
        )
    )
