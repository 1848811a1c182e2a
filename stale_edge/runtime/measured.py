"""Where the time went on the way from a video to its segments, stage by stage."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from stale_edge.bundle import ClassBank, FeatureContract
from stale_edge.config import DecodeSettings
from stale_edge.decoding import decoder_of
from stale_edge.runtime.base import BaseLocalizer
from stale_edge.runtime.windows import WindowCandidates
from stale_edge.segments import Detection, FloatArray


@dataclass
class StageTimings:
    """Seconds by stage, and of how much video.

    decode_s: reading the video and turning pictures into RGB. encoder_s: preparing pictures and the visual encoder;
    both are 0 for features. detector_s: the detector's network. postprocess_s: all else that makes segments of it.
    """

    video_s: float = 0.0
    decode_s: float = 0.0
    encoder_s: float = 0.0
    detector_s: float = 0.0
    postprocess_s: float = 0.0

    STAGES = ("decode", "encoder", "detector", "postprocess")

    @property
    def total_s(self) -> float:
        """All stages together."""
        return sum(self.seconds(stage) for stage in self.STAGES)

    def seconds(self, stage: str) -> float:
        """Seconds of one of `STAGES`."""
        return float(getattr(self, f"{stage}_s"))

    def times_real_time(self, seconds: float) -> float | None:
        """How many seconds of video a second of work does: 10 is ten times faster than playing; None: no work."""
        return self.video_s / seconds if seconds > 0 else None

    def add(self, other: "StageTimings") -> None:
        """Add another video's."""
        self.video_s += other.video_s
        for stage in self.STAGES:
            setattr(self, f"{stage}_s", self.seconds(stage) + other.seconds(stage))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: seconds, and times real time, by stage and in total."""
        spent = {**{stage: self.seconds(stage) for stage in self.STAGES}, "total": self.total_s}
        return {
            "video_s": self.video_s,
            "seconds": spent,
            "times_real_time": {stage: self.times_real_time(seconds) for stage, seconds in spent.items()},
        }


class MeasuredLocalizer(BaseLocalizer):
    """A localizer that says how long its network and its post-processing took; it finds what the one inside finds.

    Not safe to share between threads: the seconds of all calls add up in `timings`.
    """

    def __init__(self, inner: BaseLocalizer) -> None:
        self._inner = inner
        self.timings = StageTimings()
        self.kept_scores: list[FloatArray] | None = None
        """None; or a list that gets the scores (K, T) of every call of the network in `detect`."""

    @property
    def class_bank(self) -> ClassBank:
        """The inner localizer's."""
        return self._inner.class_bank

    @property
    def feature_contract(self) -> FeatureContract:
        """The inner localizer's."""
        return self._inner.feature_contract

    @property
    def decode_config(self) -> DecodeSettings:
        """The inner localizer's."""
        return self._inner.decode_config

    def detect(
        self,
        features: Any,
        *,
        duration_s: float,
        class_bank: ClassBank | Sequence[str] | None = None,
        video_label: str | None = None,
        video_score: float | None = None,
        window: int | None = None,
        overlap: int | None = None,
    ) -> list[Detection]:
        """Detect as the inner localizer does; the seconds outside the network are post-processing."""
        # Windows measure themselves one by one: what lies between them is the reading of features.
        with nullcontext() if window is not None else self.postprocessing():
            return super().detect(
                features,
                duration_s=duration_s,
                class_bank=class_bank,
                video_label=video_label,
                video_score=video_score,
                window=window,
                overlap=overlap,
            )

    def candidates(self, features: Any, *, class_bank: ClassBank | Sequence[str] | None = None) -> WindowCandidates:
        """Look at a window as the inner localizer does, measured like `detect`."""
        with self.postprocessing():
            return super().candidates(features, class_bank=class_bank)

    @contextmanager
    def postprocessing(self) -> Iterator[None]:
        """Count what is enclosed as post-processing, but for the network's seconds."""
        before, start = self.timings.detector_s, time.perf_counter()
        yield
        self.timings.postprocess_s += time.perf_counter() - start - (self.timings.detector_s - before)

    def _run(self, features: FloatArray, class_embeddings: FloatArray) -> dict[str, FloatArray]:
        start = time.perf_counter()
        outputs = self._inner._run(features, class_embeddings)
        self.timings.detector_s += time.perf_counter() - start
        return outputs

    def _run_for_decoding(self, features: FloatArray, class_embeddings: FloatArray) -> dict[str, FloatArray]:
        start = time.perf_counter()
        outputs = self._inner._run_for_decoding(features, class_embeddings)
        self.timings.detector_s += time.perf_counter() - start
        if self.kept_scores is not None:
            one = {name: value[0] for name, value in outputs.items()}
            self.kept_scores.append(decoder_of(self.decode_config).class_scores(one, self.decode_config))
        return outputs
