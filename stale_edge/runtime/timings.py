"""Seconds spent in each stage from a video to its segments."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from stale_edge.segments import Detection, FloatArray


@dataclass
class StageTimings:
    """Seconds by stage, and the length of the video.

    decode_s: reading the video and turning pictures into RGB. encoder_s: preparing pictures and the visual encoder;
    both are 0 for features. detector_s: the detector's network. postprocess_s: all later steps up to segments.
    """

    video_s: float = 0.0
    decode_s: float = 0.0
    encoder_s: float = 0.0
    detector_s: float = 0.0
    postprocess_s: float = 0.0
    frames_sampled: int = 0
    """Number of snippets of videos."""
    frames_encoded: int = 0
    """Number of pictures that the visual encoder was given; fewer than snippets with `skip_similar`."""

    STAGES = ("decode", "encoder", "detector", "postprocess")

    @property
    def total_s(self) -> float:
        """Sum of all stages, in seconds."""
        return sum(self.seconds(stage) for stage in self.STAGES)

    def seconds(self, stage: str) -> float:
        """Seconds of one of `STAGES`."""
        return float(getattr(self, f"{stage}_s"))

    def times_real_time(self, seconds: float) -> float | None:
        """Seconds of video per second of work: 10 is ten times faster than real time; None: no work."""
        return self.video_s / seconds if seconds > 0 else None

    def add(self, other: "StageTimings") -> None:
        """Add the timings of another video."""
        self.video_s += other.video_s
        for stage in self.STAGES:
            setattr(self, f"{stage}_s", self.seconds(stage) + other.seconds(stage))
        self.frames_sampled += other.frames_sampled
        self.frames_encoded += other.frames_encoded

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: seconds, and times real time, by stage and in total."""
        spent = {**{stage: self.seconds(stage) for stage in self.STAGES}, "total": self.total_s}
        return {
            "video_s": self.video_s,
            "seconds": spent,
            "frames_sampled": self.frames_sampled,
            "frames_encoded": self.frames_encoded,
            "times_real_time": {stage: self.times_real_time(seconds) for stage, seconds in spent.items()},
        }


@dataclass
class Watch:
    """Seconds of the network and of post-processing, and optionally the class scores of the network.

    Not safe to share between threads: one belongs to one call, or to one pass over windows.
    """

    timings: StageTimings = field(default_factory=StageTimings)
    class_scores: list[FloatArray] | None = None
    """None: not kept; else the scores (K, T) of every call of the network, in order."""

    @contextmanager
    def network(self) -> Iterator[None]:
        """Count the time inside the block as the network's."""
        start = time.perf_counter()
        yield
        self.timings.detector_s += time.perf_counter() - start

    @contextmanager
    def postprocessing(self) -> Iterator[None]:
        """Count the time inside the block as post-processing, without the network's seconds."""
        before, start = self.timings.detector_s, time.perf_counter()
        yield
        self.timings.postprocess_s += time.perf_counter() - start - (self.timings.detector_s - before)


class Measured(NamedTuple):
    """Detections, and the time they took.

    timings: of network and post-processing.
    class_scores: scores of the classes, (K, T) for each call of the network; None: not requested.
    """

    detections: list[Detection]
    timings: StageTimings
    class_scores: list[FloatArray] | None = None
