"""Near ties: a model's possible detections when its outputs move by less than an engine's rounding.

If two scores differ by less than rounding, soft-NMS may pick the two candidates in either order, and the first pick
decays the other. Both outcomes count as the model's; a file must reach one of them.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from stale_edge.segments import FloatArray

_TRIALS = 32
"""Number of random moves. One near tie is missed with chance 2^-32; an outcome of five at once, with about 1/3."""


def outcomes(outputs: Mapping[str, FloatArray], *, by: Mapping[str, float]) -> Iterator[dict[str, FloatArray]]:
    """Move outputs at random, the same way in every run.

    Args:
        outputs: a detector's outputs by name. An output without negative values keeps none; one without values above 1
            keeps none.
        by: largest move of a value by output name, in either direction, >= 0; other outputs do not move.
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
