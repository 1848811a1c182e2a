"""Batch size, epochs and learning rate of a run that does not set them: they follow the number of videos."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stale_edge.config import TrainConfig

FOLLOWING = ("epochs", "learning_rate", "batch_size")
"""Settings of `[train]` that follow the data where they are 0."""
LEAST_EPOCHS = 15
"""Epochs of the paper for ActivityNet; more where they give too few steps."""
SMALL_BATCH, LARGE_BATCH = 8, 100
"""Batch sizes of a small data set, and of the paper for the 10,000 videos of ActivityNet."""
STEPS_PER_EPOCH = 100
"""The batch grows with the videos once an epoch of small batches has more steps than this."""
LEARNING_RATE = 1e-4
"""Rate of the paper for ActivityNet, with `LARGE_BATCH` videos a step."""


def follow_data(
    train: TrainConfig, n_videos: int, *, least_steps: int, before: Mapping[str, Any] | None = None
) -> TrainConfig:
    """Choose the settings that are 0; all others stay.

    Args:
        train: settings.
        n_videos: number of training videos, >= 1.
        least_steps: smallest number of optimizer steps, as in the table of architectures.
        before: section `train` of the run that is continued, whose settings are kept; None: a new run.
    """
    if before is not None:
        kept = {name: before[name] for name in FOLLOWING if not getattr(train, name) and name in before}
        train = replace(train, **kept)
    batch_size = train.batch_size or min(max(SMALL_BATCH, n_videos // STEPS_PER_EPOCH), LARGE_BATCH)
    epochs = train.epochs or max(LEAST_EPOCHS, math.ceil(least_steps / math.ceil(n_videos / batch_size)))
    return replace(train, batch_size=batch_size, epochs=epochs, learning_rate=train.learning_rate or LEARNING_RATE)


def describe_chosen(before: TrainConfig, after: TrainConfig, n_videos: int) -> str:
    """Describe the settings that follow the data, in one line; empty: all were set."""
    named = [f"train.{name}={getattr(after, name):g}" for name in FOLLOWING if not getattr(before, name)]
    if not named:
        return ""
    steps = after.epochs * math.ceil(n_videos / after.batch_size)
    return f"chosen for {n_videos} training videos: {', '.join(named)} ({steps} steps)"
