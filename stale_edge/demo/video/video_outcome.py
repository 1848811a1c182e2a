"""The results of a video demo as one value, from which the JSON and the report are made."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stale_edge.data import DataSet
from stale_edge.demo.video.actions import SEEN, UNSEEN
from stale_edge.demo.video.clip import ClipTraining
from stale_edge.demo.video.ranking import map_at_half, random_ranking
from stale_edge.errors import DataError
from stale_edge.evaluation.ladder import Rung
from stale_edge.exporting import ExportReport
from stale_edge.exporting.encoder import EncoderReport
from stale_edge.runtime.evaluate import EvaluationReport
from stale_edge.runtime.timings import StageTimings
from stale_edge.training import TrainResult

SCHEMA = "stale-edge-demo-video/1"


@dataclass(frozen=True)
class SetResult:
    """mAP on one set of actions, in percent.

    map_50: mAP at tIoU 0.5. average_map: average mAP over 0.50:0.05:0.95. baseline_map_50, baseline_average_map: the
    same of the training-free detector. random_map_50: mAP at tIoU 0.5 of the same detections with
    random scores.
    """

    report: EvaluationReport
    map_50: float
    average_map: float
    baseline_map_50: float
    baseline_average_map: float
    random_map_50: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, named as in the other reports."""
        return {
            "mAP_50": self.map_50,
            "average_mAP": self.average_map,
            "baseline_mAP_50": self.baseline_map_50,
            "baseline_average_mAP": self.baseline_average_map,
            "random_ranking_mAP_50": self.random_map_50,
            "times_random_ranking": self.map_50 / self.random_map_50 if self.random_map_50 else None,
            "videos": self.report.n_videos,
        }


@dataclass
class VideoOutcome:
    """Results of the stages of one demo.

    ladder: the training-free baseline, the linear probe, the trained detector.
    detected: detections of the bundle in the mp4 files of the test videos, for all names at once; ActivityNet's layout.
    together: mAP@0.5 of those detections, over the seen actions and over the unseen ones, in percent.
    timings: seconds of each stage from the mp4 files of the test videos to detections.
    shown: names of the videos with an HTML page and SRT subtitles.
    """

    out: Path
    seed: int
    data_set: DataSet
    clip: ClipTraining
    encoder: EncoderReport
    trained: TrainResult
    closed: SetResult
    unseen: SetResult
    ladder: tuple[Rung, ...]
    exported: ExportReport
    detected: dict[str, Any]
    together: dict[str, float]
    timings: StageTimings
    shown: tuple[str, ...]
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def detector(self) -> str:
        """Name of the trained detector, as in the ladder."""
        return self.ladder[-1].detector

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values in the demo's schema; mAP in percent."""
        videos = self.data_set.annotations.videos.values()
        return {
            "schema": SCHEMA,
            "seed": self.seed,
            "videos": "rendered",
            "n_videos": len(videos),
            "video_seconds": sum(video.duration_s for video in videos),
            "tiny_clip": self.clip.to_json(),
            "encoder": self.encoder.to_json(),
            "closed_set": self.closed.to_json(),
            "open_set": self.unseen.to_json(),
            "ladder": [rung.to_json() for rung in self.ladder],
            "all_names_at_once": {f"{part}_mAP_50": value for part, value in self.together.items()},
            "artifacts": [artifact.to_json() for artifact in self.exported.artifacts],
            "detect": self.timings.to_json(),
            "seconds": self.seconds,
        }


def evaluate_set(report: EvaluationReport, data_set: DataSet, *, classes: Sequence[str], seed: int) -> SetResult:
    """Combine an evaluation with the training-free baseline and the random ranking.

    Raises:
        DataError: there is no baseline.
    """
    if report.baseline is None:
        raise DataError(f"the baseline could not be computed: {report.baseline_note}")
    truth = data_set.annotations.to_layout()
    return SetResult(
        report=report,
        map_50=map_at_half(truth, report.predictions, classes=classes),
        average_map=report.result.average_mAP,
        baseline_map_50=report.baseline.mAP[0],
        baseline_average_map=report.baseline.average_mAP,
        random_map_50=random_ranking(truth, report.predictions, classes=classes, seed=seed),
    )


def evaluate_together(detected: dict[str, Any], data_set: DataSet) -> dict[str, float]:
    """Measure mAP@0.5 of detections for all names at once, where seen and unseen actions compete."""
    truth = data_set.annotations.to_layout()
    parts = {"seen": SEEN, "unseen": UNSEEN}
    return {
        part: map_at_half(truth, detected, classes=[actor.name for actor in actors]) for part, actors in parts.items()
    }
