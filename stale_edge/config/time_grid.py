"""Convert between units of a detector's time grid and seconds."""

import math
from dataclasses import dataclass

from stale_edge.config.checks import require


@dataclass(frozen=True)
class FrameGrid:
    """One feature every `stride` frames, each of a window of `num_frames` frames; g = 0 is the middle of the first.

    seconds = (g * stride + num_frames / 2) / fps, kept in [0, duration_s].
    """

    fps: float
    """Frames per second, > 0."""
    stride: float
    """Frames between two features, > 0; not always whole, as features may be resampled."""
    num_frames: float
    """Frames that one feature covers, >= 0."""
    duration_s: float
    """Length of the video in seconds, > 0."""

    def __post_init__(self) -> None:
        for name in ("fps", "stride", "duration_s"):
            value = getattr(self, name)
            require(_is_number(value) and value > 0, f"grid.{name}", value, "a finite number > 0")
        frames = self.num_frames
        require(_is_number(frames) and frames >= 0, "grid.num_frames", frames, "a finite number >= 0")


@dataclass(frozen=True)
class RelativeGrid:
    """The first level's points share the video evenly: seconds = g / T * duration_s, kept in [0, duration_s].

    T is the number of valid points on the first level.
    """

    duration_s: float
    """Length of the video in seconds, > 0."""

    def __post_init__(self) -> None:
        value = self.duration_s
        require(_is_number(value) and value > 0, "grid.duration_s", value, "a finite number of seconds > 0")


TimeGrid = FrameGrid | RelativeGrid


def _is_number(value: object) -> bool:
    """Whether it is a finite number: fps or stride are None where a feature spec does not say them."""
    return isinstance(value, int | float) and math.isfinite(value)
