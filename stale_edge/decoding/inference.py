"""From class logits and masks to detections: the paper's inference and the release's."""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

import stale_edge._core as _core
from stale_edge.config import DecodeConfig
from stale_edge.decoding.arrays import float_array
from stale_edge.segments import IntArray


class DecodedArrays(NamedTuple):
    """Detections, or proposals, before they get names and seconds."""

    segments: NDArray[np.float64]
    """(M, 2) in snippets, [start, end); divide by T and multiply by the duration for seconds."""
    labels: IntArray
    """(M,) rows of `class_logits`."""
    scores: NDArray[np.float64]
    """(M,)"""


class ReleaseProposal(NamedTuple):
    """A proposal of the public inference script, before its soft-NMS; start and end are fractions of the video."""

    start: float
    end: float
    class_score: float
    mask_score: float
    label: int


def decode_arrays(class_logits: ArrayLike, masks: ArrayLike, *, config: DecodeConfig | None = None) -> DecodedArrays:
    """Turn the detector's outputs for one video into segments, labels and scores.

    `paper`, section 3.3 of the STALE paper, "Model inference": of the (snippet, class) pairs whose softmax probability
    p is above `class_threshold` the best `top_snippets` are taken (ties: the earlier snippet, then the lower class).
    For each, the mask row of the snippet is cut at every threshold of `mask_thresholds`; each segment of at least
    `min_snippets` becomes a proposal that scores p times the highest mask value inside it. Of equal segments with
    equal label the best is kept. Soft-NMS then runs on each class separately, as in Bodla et al.: actions of two
    classes at the same time are not duplicates. The best `max_detections` of the video remain.

    `release`: the public inference script with its own settings, quirks included (sauradip/STALE at commit fd7a7e8,
    stale_inference.py:120-228 and utils/postprocess_utils.py:62-148). It has no other setting.

    Args:
        class_logits: (K+1, T) floats, background last; computed in float32.
        masks: (T, T) floats in [0, 1], row i predicted by snippet i; computed in float32.
        config: the policy and its settings; None: the defaults of `DecodeConfig`.

    Returns:
        Detections, best first.

    Raises:
        ValueError: shapes disagree, a number is not finite or out of its range (the row is named), or `config` changes
            a setting that the release policy does not have.
    """
    settings = DecodeConfig() if config is None else config
    logits = float_array(class_logits, "class_logits", np.float32)
    mask_array = float_array(masks, "masks", np.float32)
    if settings.policy == "release":
        _refuse_release_settings(settings)
        return DecodedArrays(*_core.decode_release(logits, mask_array))
    return DecodedArrays(
        *_core.decode_paper(
            logits,
            mask_array,
            class_threshold=settings.class_threshold,
            top_snippets=settings.top_snippets,
            mask_thresholds=settings.mask_thresholds,
            regions=settings.regions,
            min_snippets=settings.min_snippets,
            soft_nms=settings.soft_nms,
            sigma=settings.sigma,
            tiou_threshold=settings.tiou_threshold,
            min_score=settings.min_score,
            max_detections=settings.max_detections,
        )
    )


def paper_proposals(class_logits: ArrayLike, masks: ArrayLike, *, config: DecodeConfig | None = None) -> DecodedArrays:
    """List the proposals that the paper policy passes to soft-NMS: of equal segments with equal label only the best.

    `decode_arrays` describes the steps. Proposals that score less than `min_score` are left out: soft-NMS would ignore
    them. The release policy has proposals and a soft-NMS of its own, see `release_proposals`.

    Args:
        class_logits, masks: as in `decode_arrays`.
        config: the settings; those of soft-NMS alone are not read.

    Returns:
        By rising label; within a label, in the order in which soft-NMS picks equal scores.

    Raises:
        ValueError: as `decode_arrays`, or the policy is not `paper`.
    """
    settings = DecodeConfig() if config is None else config
    if settings.policy != "paper":
        raise ValueError(f"paper_proposals needs policy 'paper'; got {settings.policy!r}: its soft-NMS is another one")
    return DecodedArrays(
        *_core.paper_proposals(
            float_array(class_logits, "class_logits", np.float32),
            float_array(masks, "masks", np.float32),
            class_threshold=settings.class_threshold,
            top_snippets=settings.top_snippets,
            mask_thresholds=settings.mask_thresholds,
            regions=settings.regions,
            min_snippets=settings.min_snippets,
            min_score=settings.min_score,
        )
    )


def release_proposals(class_logits: ArrayLike, masks: ArrayLike) -> list[ReleaseProposal]:
    """List the distinct proposals that the public inference script writes for one video (stale_inference.py:120-228).

    Args:
        class_logits: (K+1, T) floats, background last.
        masks: (T, T) floats in [0, 1].

    Returns:
        Sorted by start, end and scores. The end is that of the last snippet, so a whole video ends at (T - 1) / T.

    Raises:
        ValueError: as `decode_arrays`.
    """
    logits = float_array(class_logits, "class_logits", np.float32)
    rows = _core.release_proposals(logits, float_array(masks, "masks", np.float32))
    T = logits.shape[1]
    return [
        ReleaseProposal(start / T, end / T, by_class, by_mask, label) for start, end, by_class, by_mask, label in rows
    ]


def distinct_names(class_names: Sequence[str]) -> list[str]:
    """List class names, which must be strings and differ.

    Raises:
        ValueError: a name is not a string, or occurs twice; the row is named.
    """
    names = list(class_names)
    if isinstance(class_names, str) or not all(isinstance(name, str) for name in names):
        raise ValueError("class_names must be a sequence of strings, one a class")
    if len(set(names)) != len(names):
        row = next(i for i, name in enumerate(names) if name in names[:i])
        raise ValueError(f"class_names row {row} is {names[row]!r} again; names must be distinct")
    return names


def check_enhancement(video_label: str | None, video_score: float | None) -> None:
    """Check that a video-level class and its score are given together, and that the score is finite.

    Raises:
        ValueError: one of them is missing, or the score is not finite.
    """
    if (video_label is None) != (video_score is None):
        raise ValueError("video_label and video_score go together: give both or neither")
    if video_score is not None and not math.isfinite(video_score):
        raise ValueError(f"video_score must be finite; got {video_score!r}")


def _refuse_release_settings(config: DecodeConfig) -> None:
    plain = DecodeConfig(policy="release")
    changed = [f.name for f in dataclasses.fields(config) if getattr(config, f.name) != getattr(plain, f.name)]
    if changed:
        raise ValueError(
            f"the release policy has no setting {', '.join(changed)}: it does what the public script does; "
            "leave them at their defaults or decode with policy 'paper'"
        )
