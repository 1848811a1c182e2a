"""Simulated data of a video: random features, and outputs like those of a trained detector."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stale_edge.config import DecodeConfig, DecodeSettings, PointsConfig, RunsConfig
from stale_edge.errors import ConfigError
from stale_edge.segments import FloatArray

SNIPPET_S = 0.5
"""Duration of a snippet in the benchmark's videos, in seconds; it only scales the times of detections."""


def random_features(length: int, channels: int, *, seed: int) -> FloatArray:
    """Return features (T, C) float32 with norm 10 for each snippet, as CLIP's features have."""
    features = np.random.default_rng(seed).standard_normal((length, channels), dtype=np.float32)
    return features * np.float32(10.0 / channels**0.5)


def plausible_outputs(settings: DecodeSettings, *, n_classes: int, length: int, seed: int) -> dict[str, FloatArray]:
    """Make outputs like a trained detector's for post-processing, since its time depends on them.

    Args:
        settings: decode policy and settings.
        n_classes: K.
        length: T in snippets.
        seed: seed of all random numbers.

    Returns:
        The outputs of one video that the policy reads, by name.

    Raises:
        ConfigError: the benchmark has no such outputs for the policy.
    """
    make = PLAUSIBLE.get(settings.policy)
    if make is None:
        raise ConfigError(
            f"post-processing is timed for the decode policies {', '.join(PLAUSIBLE)}; got {settings.policy!r}: "
            "leave the variant postprocess out"
        )
    return make(settings, n_classes, length, np.random.default_rng(seed))


@dataclass(frozen=True)
class _Action:
    """Snippets `first` to `last` - 1 show class `label`."""

    first: int
    last: int
    label: int


def _actions(n_classes: int, length: int, generator: np.random.Generator) -> Iterator[_Action]:
    """Place one action of 10 to 30 snippets in about every 40 snippets."""
    for start in range(0, length, 40):
        first = start + int(generator.integers(0, 10))
        last = min(length, first + int(generator.integers(10, 31)))
        if first < last:
            yield _Action(first, last, int(generator.integers(n_classes)))


def _logits_and_masks(
    settings: DecodeConfig, n_classes: int, length: int, generator: np.random.Generator
) -> dict[str, FloatArray]:
    """Add 12 to the logit of one class inside an action and of background outside, over noise with deviation 1.

    The masks of an action's snippets are soft boxes around it; the other masks are noise below 0.05.

    Returns:
        class_logits (K + 1, T) float32, background last, and masks (T, T) float32 in [0, 1].
    """
    del settings
    logits = generator.standard_normal((n_classes + 1, length), dtype=np.float32)
    masks = generator.random((length, length), dtype=np.float32) * np.float32(0.05)
    background = np.ones(length, dtype=bool)
    snippets = np.arange(length, dtype=np.float32)
    for action in _actions(n_classes, length, generator):
        inside = slice(action.first, action.last)
        edge = (1 + np.tanh((np.minimum(snippets - action.first, action.last - 1 - snippets) + 1) / 2)) / 2  # (T,)
        heights = generator.uniform(0.6, 1.0, action.last - action.first)
        masks[inside] = np.clip(edge * heights[:, None] + masks[inside], 0, 1)
        logits[action.label, inside] += 12
        background[inside] = False
    logits[n_classes, background] += 12
    return {"class_logits": logits, "masks": masks}


def _logits_and_attention(
    settings: RunsConfig, n_classes: int, length: int, generator: np.random.Generator
) -> dict[str, FloatArray]:
    """Add 12 to the logit of one class inside an action, with high attention there; noise elsewhere.

    Returns:
        class_logits (K + 1, T) float32, background last, and attention (T,) float32 in [0, 1].
    """
    del settings
    logits = generator.standard_normal((n_classes + 1, length), dtype=np.float32)
    attention = generator.random(length, dtype=np.float32) * np.float32(0.05)
    logits[n_classes] += 12
    for action in _actions(n_classes, length, generator):
        inside = slice(action.first, action.last)
        logits[action.label, inside] += 12
        logits[n_classes, inside] -= 12
        attention[inside] += np.float32(0.9)
    return {"class_logits": logits, "attention": attention}


def _points(
    settings: PointsConfig, n_classes: int, length: int, generator: np.random.Generator
) -> dict[str, FloatArray]:
    """Raise the action's class logit at every point inside it, with the distances to its ends, on each level.

    Returns:
        class_logits (P, K), offsets (P, 2) in units of the level's stride, and valid (P,), float32.
    """
    unit = 2 ** (settings.n_levels - 1)
    padded = -(-length // unit) * unit
    strides = np.concatenate([np.full(padded >> level, 1 << level) for level in range(settings.n_levels)])  # (P,)
    at = np.concatenate([np.arange(padded >> level) << level for level in range(settings.n_levels)])
    logits = generator.standard_normal((len(at), n_classes), dtype=np.float32) - np.float32(6)
    offsets = np.ones((len(at), 2), dtype=np.float32)
    for action in _actions(n_classes, length, generator):
        inside = (at >= action.first) & (at < action.last)
        logits[inside, action.label] += 8
        offsets[inside] = np.stack([at - action.first, action.last - at], axis=1)[inside] / strides[inside, None]
    return {"class_logits": logits, "offsets": offsets, "valid": (at < length).astype(np.float32)}


PLAUSIBLE: Mapping[str, Callable[[Any, int, int, np.random.Generator], dict[str, FloatArray]]] = {
    "paper": _logits_and_masks,
    "release": _logits_and_masks,
    "runs": _logits_and_attention,
    "points": _points,
}
"""Decode policy -> function that makes its outputs."""
