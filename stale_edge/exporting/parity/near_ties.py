"""What a model's detections become when its outputs move by less than an engine's rounding.

Two candidates whose scores differ by less than rounding are picked by soft-NMS in either order, and the one that is
picked first decays the other. Both outcomes are the model's decision; an artifact must reach one of them.
"""

from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np

from stale_edge.segments import FloatArray

_TRIALS = 32
"""One near tie is missed with a chance of 2^-32, five at once with one of a third."""

FoundT = TypeVar("FoundT")


def outcomes(
    class_logits: FloatArray,
    masks: FloatArray,
    decode: Callable[[FloatArray, FloatArray], FoundT],
    *,
    logits_by: float,
    masks_by: float,
) -> Iterator[FoundT]:
    """Decode outputs that are moved at random, the same way in every run.

    Args:
        class_logits: (K, T) float32 of one video.
        masks: (T, T) float32 of one video, in [0, 1].
        decode: what to do with class logits and masks.
        logits_by, masks_by: the most that a value moves, either way; >= 0.
    """
    rng = np.random.default_rng(0)
    for _ in range(_TRIALS):
        logits = class_logits + rng.uniform(-logits_by, logits_by, class_logits.shape).astype(np.float32)
        moved = masks + rng.uniform(-masks_by, masks_by, masks.shape).astype(np.float32)
        yield decode(logits, np.clip(moved, 0, 1))
