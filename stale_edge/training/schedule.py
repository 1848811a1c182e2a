"""The learning rate of every step: a linear warm-up, then half a cosine."""

import math

LEAST_RATE = 1e-8
"""Learning rate at the end of the cosine."""


def warmup_cosine(step: int, *, base: float, warmup_steps: int, steps: int) -> float:
    """Give the learning rate of a step.

    Args:
        step: counted from 0 over all epochs.
        base: the greatest rate, > 0.
        warmup_steps: steps of the warm-up, >= 0; the first of them has the rate 0, the last has `base`.
        steps: number of steps of the whole run, the warm-up included.
    """
    if step < warmup_steps:
        return base * step / (warmup_steps - 1) if warmup_steps > 1 else 0.0
    if steps == warmup_steps:
        return base
    progress = (step - warmup_steps) / (steps - warmup_steps)
    return LEAST_RATE + (base - LEAST_RATE) * 0.5 * (1 + math.cos(math.pi * progress))
