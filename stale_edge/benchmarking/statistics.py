"""Order statistics of measured times; small enough to be checked by hand."""

import random
from collections.abc import Sequence
from statistics import median, stdev
from typing import TypedDict


class Seconds(TypedDict):
    """Seconds of one call, over every timed call of a row."""

    median: float
    p90: float
    min: float
    max: float
    std: float


def percentile(values: Sequence[float], percent: float) -> float:
    """Interpolate linearly between the two nearest order statistics, as NumPy does by default.

    Args:
        values: at least one number, in any order.
        percent: in [0, 100].

    Raises:
        ValueError: no values, or a percent outside [0, 100].
    """
    if not values:
        raise ValueError("percentile of no values; give at least one")
    if not 0 <= percent <= 100:
        raise ValueError(f"percent must be in [0, 100]; got {percent}")
    ordered = sorted(values)
    position = (len(ordered) - 1) * percent / 100
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def summarize(values: Sequence[float]) -> Seconds:
    """Return median, 90th percentile, extremes and sample standard deviation (0 for a single value)."""
    return Seconds(
        median=median(values),
        p90=percentile(values, 90),
        min=min(values),
        max=max(values),
        std=stdev(values) if len(values) > 1 else 0.0,
    )


def median_interval(
    trials: Sequence[Sequence[float]], *, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Bootstrap an interval for the median call, drawing whole trials with replacement.

    Calls of one trial share the state of the machine, so only trials can be independent.

    Args:
        trials: the timed calls of each trial, none empty.
        level: share of resampled medians inside the interval, in (0, 1).
        resamples: number of times that the trials are drawn.
        seed: seed of the random draws.

    Returns:
        Lower and upper end, in the unit of the values.
    """
    generator = random.Random(seed)
    medians = [
        median([value for trial in generator.choices(trials, k=len(trials)) for value in trial])
        for _ in range(resamples)
    ]
    tail = 100 * (1 - level) / 2
    return percentile(medians, tail), percentile(medians, 100 - tail)
