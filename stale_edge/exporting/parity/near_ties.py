"""What a model's detections become when its outputs move by less than an engine's rounding.

Two candidates whose scores differ by less than rounding are picked by soft-NMS in either order, and the one that is
picked first decays the other. Both outcomes are the model's decision; a file must reach one of them.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from stale_edge.segments import FloatArray

_TRIALS = 32
"""One near tie is missed with a chance of 2^-32, five at once with one of a third."""


def outcomes(outputs: Mapping[str, FloatArray], *, by: Mapping[str, float]) -> Iterator[dict[str, FloatArray]]:
    """Move outputs at random, the same way in every run.

    Args:
        outputs: a detector's, by name. What is nowhere negative stays so, what is nowhere above 1 too.
        by: the most that a value of an output moves, either way, >= 0; those that are not named stay as they are.
    """
    rng = np.random.default_rng(0)
    for _ in range(_TRIALS):
        moved = dict(outputs)
        for name, most in by.items():
            values = outputs[name]
            noise = rng.uniform(-most, most, values.shape).astype(np.float32)
            moved[name] = np.clip(
                values + noise, 0 if values.min() >= 0 else -np.inf, 1 if values.max() <= 1 else np.inf
            )
        yield moved
