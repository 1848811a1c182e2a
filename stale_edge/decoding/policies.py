"""The decode policies: which outputs of a detector each one reads, and how it makes candidates and detections of them.

All policies share the code that follows: windows, streams, joining, suppression, seconds, files.
"""

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stale_edge.config import DecodeConfig, DecodeSettings, Policy, RelativeGrid, TimeGrid
from stale_edge.decoding.arrays import float_array
from stale_edge.decoding.inference import (
    DecodedArrays,
    check_enhancement,
    decode_arrays,
    distinct_names,
    paper_proposals,
)
from stale_edge.decoding.points import grid_seconds, level_lengths, points_candidates, suppressed_points
from stale_edge.decoding.runs import decode_runs_arrays, runs_candidates
from stale_edge.segments import Detection, FloatArray

Outputs = Mapping[str, NDArray[Any]]
"""A detector's outputs for one video, by name, without the axis B."""


class Decoder(Protocol):
    """One policy."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the outputs that it requires."""
        ...

    @property
    def may_read(self) -> tuple[str, ...]:
        """Names of the outputs that it uses if a detector has them."""
        ...

    @property
    def joins_candidates(self) -> bool:
        """Whether windows join candidates before soft-NMS; else each window's detections are joined."""
        ...

    def n_snippets(self, outputs: Outputs, config: Any) -> int:
        """T, number of snippets, the unit of segments."""
        ...

    def n_classes(self, outputs: Outputs) -> int:
        """K, number of classes without background."""
        ...

    def candidates(self, outputs: Outputs, config: Any) -> DecodedArrays:
        """Find the candidates for suppression; segments in snippets."""
        ...

    def detections(self, outputs: Outputs, config: Any) -> DecodedArrays:
        """Find the detections after suppression, best first; segments in snippets."""
        ...

    def class_scores(self, outputs: Outputs, config: Any) -> FloatArray:
        """Compute the score of each class at each snippet: (K, T) in [0, 1]."""
        ...


@dataclass(frozen=True)
class _Masks:
    """STALE: class logits with background, and the mask that each snippet predicts."""

    joins_candidates: bool
    reads: tuple[str, ...] = ("class_logits", "masks")
    may_read: tuple[str, ...] = ()

    def n_snippets(self, outputs: Outputs, config: Any) -> int:
        del config
        return int(outputs["class_logits"].shape[1])

    def n_classes(self, outputs: Outputs) -> int:
        return int(outputs["class_logits"].shape[0]) - 1

    def candidates(self, outputs: Outputs, config: Any) -> DecodedArrays:
        return paper_proposals(outputs["class_logits"], outputs["masks"], config=config)

    def detections(self, outputs: Outputs, config: Any) -> DecodedArrays:
        return decode_arrays(outputs["class_logits"], outputs["masks"], config=config)

    def class_scores(self, outputs: Outputs, config: Any) -> FloatArray:
        del config
        return _softmax_without_background(outputs["class_logits"])


@dataclass(frozen=True)
class _Runs:
    """Class logits with background, and attention if the detector has it."""

    joins_candidates: bool = True
    reads: tuple[str, ...] = ("class_logits",)
    may_read: tuple[str, ...] = ("attention",)

    def n_snippets(self, outputs: Outputs, config: Any) -> int:
        del config
        return int(outputs["class_logits"].shape[1])

    def n_classes(self, outputs: Outputs) -> int:
        return int(outputs["class_logits"].shape[0]) - 1

    def candidates(self, outputs: Outputs, config: Any) -> DecodedArrays:
        return runs_candidates(outputs["class_logits"], outputs.get("attention"), config=config)

    def detections(self, outputs: Outputs, config: Any) -> DecodedArrays:
        return decode_runs_arrays(outputs["class_logits"], outputs.get("attention"), config=config)

    def class_scores(self, outputs: Outputs, config: Any) -> FloatArray:
        if config.class_scores == "sigmoid":
            logits = outputs["class_logits"]
            scores = np.asarray(1 / (1 + np.exp(np.minimum(logits[-1:] - logits[:-1], 80))), dtype=np.float32)
        else:
            scores = _softmax_without_background(outputs["class_logits"])
        return scores * outputs["attention"] if "attention" in outputs else scores


@dataclass(frozen=True)
class _Points:
    """Class logits and boundary distances of the points of a pyramid; snippets are the points of its first level."""

    joins_candidates: bool = False
    reads: tuple[str, ...] = ("class_logits", "offsets", "valid")
    may_read: tuple[str, ...] = ()

    def n_snippets(self, outputs: Outputs, config: Any) -> int:
        first = self._levels(outputs, config)[0]
        return max(1, int(np.asarray(outputs["valid"][:first] > 0.5).sum()))

    def n_classes(self, outputs: Outputs) -> int:
        return int(outputs["class_logits"].shape[1])

    def candidates(self, outputs: Outputs, config: Any) -> DecodedArrays:
        return points_candidates(
            outputs["class_logits"],
            outputs["offsets"],
            outputs["valid"] > 0.5,
            level_lengths=self._levels(outputs, config),
            config=config,
        )

    def detections(self, outputs: Outputs, config: Any) -> DecodedArrays:
        return suppressed_points(self.candidates(outputs, config), config=config)

    def class_scores(self, outputs: Outputs, config: Any) -> FloatArray:
        logits = outputs["class_logits"][: self.n_snippets(outputs, config)]
        return np.asarray(1 / (1 + np.exp(-logits.T)), dtype=np.float32)

    @staticmethod
    def _levels(outputs: Outputs, config: Any) -> tuple[int, ...]:
        return level_lengths(len(outputs["class_logits"]), n_levels=config.n_levels)


POLICIES: Mapping[str, Decoder] = {
    "paper": _Masks(joins_candidates=True),
    "release": _Masks(joins_candidates=False),
    "runs": _Runs(),
    "points": _Points(),
}


def decoder_of(config: DecodeSettings) -> Decoder:
    """Find the decoder for these settings."""
    return POLICIES[config.policy]


def missing_outputs(config: DecodeSettings, names: Collection[str]) -> list[str]:
    """List the outputs that the policy needs and a detector with outputs of these names does not have."""
    return [name for name in decoder_of(config).reads if name not in names]


def decode_outputs(
    outputs: Outputs,
    *,
    class_names: Sequence[str],
    grid: TimeGrid,
    config: DecodeSettings,
    video_label: str | None = None,
    video_score: float | None = None,
) -> list[Detection]:
    """Turn a detector's outputs for one video into named detections in seconds, under any policy.

    Args:
        outputs: those that the policy reads, without the axis B.
        class_names: K distinct names, in the order of the class bank's rows.
        grid: where snippets lie in time.
        config: the policy and its settings.
        video_label, video_score: score enhancement, both or neither; see `decode`.

    Returns:
        Detections, best first, within the video.

    Raises:
        ValueError: shapes disagree, a number is not finite or out of its range, or `class_names` does not have K
            distinct names.
    """
    decoder, names = decoder_of(config), distinct_names(class_names)
    if len(names) != decoder.n_classes(outputs):
        raise ValueError(
            f"class_names must hold K = {decoder.n_classes(outputs)} names, one a class of class_logits; "
            f"got {len(names)}"
        )
    check_enhancement(video_label, video_score)
    found = decoder.detections(outputs, config)
    seconds = grid_seconds(found.segments, grid, n_points=decoder.n_snippets(outputs, config)).tolist()
    detections = []
    for row, score, (start_s, end_s) in zip(found.labels.tolist(), found.scores.tolist(), seconds, strict=True):
        label = names[row]
        if video_label is not None and video_score is not None and score <= video_score:
            label = video_label
        detections.append(Detection(label, score, start_s, end_s))
    return detections


def decode(
    class_logits: ArrayLike,
    masks: ArrayLike,
    *,
    class_names: Sequence[str],
    duration_s: float,
    policy: Policy | None = None,
    video_label: str | None = None,
    video_score: float | None = None,
    config: DecodeConfig | None = None,
) -> list[Detection]:
    """Turn the detector's outputs for one video into named detections in seconds.

    `decode_arrays` describes the two policies. With `video_label` and `video_score` (score enhancement, thesis
    section 3.3; utils/postprocess_utils.py:138-142 of the release), every detection that scores no more than the
    video-level score takes the video-level label.

    Args:
        class_logits: (K+1, T) floats, background last.
        masks: (T, T) floats in [0, 1], row i predicted by snippet i.
        class_names: K names, row by row.
        duration_s: length of the video in seconds, > 0.
        policy: `paper` or `release`; None: the one in `config`.
        video_label: the video-level class, not necessarily one of `class_names`; given if and only if `video_score` is.
        video_score: its score.
        config: settings of the paper policy; None: the defaults of `DecodeConfig`.

    Returns:
        Detections, best first, within [0, duration_s]. Under the paper policy scores lie in [0, 1].

    Raises:
        ValueError: shapes disagree, a number is not finite or out of its range (the row is named), `class_names` does
            not have K distinct names, or an argument is out of its range.
    """
    logits = float_array(class_logits, "class_logits", np.float32)
    names = distinct_names(class_names)
    if logits.ndim != 2 or len(logits) < 2:
        raise ValueError(f"class_logits must have shape (K + 1, T), K >= 1, background last; got {logits.shape}")
    if len(names) != len(logits) - 1:
        raise ValueError(
            f"class_names must hold K = {len(logits) - 1} names, one for each row of class_logits but the last, "
            f"the background; got {len(names)}"
        )
    if not (math.isfinite(duration_s) and duration_s > 0):
        raise ValueError(f"duration_s must be a finite number of seconds > 0; got {duration_s!r}")
    return decode_outputs(
        {"class_logits": logits, "masks": float_array(masks, "masks", np.float32)},
        class_names=names,
        grid=RelativeGrid(float(duration_s)),
        config=_settings(policy, config),
        video_label=video_label,
        video_score=video_score,
    )


def _settings(policy: Policy | None, config: DecodeConfig | None) -> DecodeConfig:
    if policy not in (None, "paper", "release"):
        raise ValueError(f"policy must be 'paper' or 'release'; got {policy!r}")
    settings = DecodeConfig() if config is None else config
    return settings if policy is None else dataclasses.replace(settings, policy=policy)


def _softmax_without_background(class_logits: NDArray[Any]) -> FloatArray:
    shares = np.exp(class_logits - class_logits.max(axis=0))
    return np.asarray((shares / shares.sum(axis=0))[:-1], dtype=np.float32)
