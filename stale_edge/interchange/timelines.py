"""What every format is turned into: the segments of videos, annotated or detected."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from stale_edge.data.annotations import Action, Annotations, VideoAnnotation
from stale_edge.errors import DataError, shown
from stale_edge.segments import Detection

DEFAULT_SUBSET = "training"


class Span(NamedTuple):
    """One segment: its label, [start_s, end_s) in seconds, and the score of a detection (None: an annotation)."""

    label: str
    start_s: float
    end_s: float
    score: float | None = None


@dataclass(frozen=True)
class Timeline:
    """The segments of one video.

    duration_s: length in seconds, > 0; None: the file does not say.
    subset: of the data set; None: the file does not say.
    """

    spans: tuple[Span, ...]
    duration_s: float | None = None
    subset: str | None = None


Timelines = Mapping[str, Timeline]
"""By the name of the video."""


def checked(where: str, label: Any, ends_s: Any, score: Any = None) -> Span:
    """Make a span of values from a file; `ends_s` are its start and end.

    Raises:
        DataError: the label is no text, or a number is not finite, or the segment is reversed.
    """
    try:
        start_s, end_s = ends_s
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: a segment is [start, end]; got {shown(ends_s)}: correct it") from error
    try:
        start, end, confidence = float(start_s), float(end_s), None if score in (None, "") else float(score)
    except (TypeError, ValueError):
        start = end = math.nan
        confidence = None
    if not isinstance(label, str) or not label.strip():
        raise DataError(f"{where}: the label must be text; got {shown(label)}: give every segment a label")
    if not math.isfinite(start) or not math.isfinite(end) or not 0 <= start <= end:
        raise DataError(
            f"{where}: a segment needs 0 <= start <= end in seconds; got {shown(start_s)} to {shown(end_s)}: correct it"
        )
    if confidence is not None and not math.isfinite(confidence):
        raise DataError(f"{where}: a score must be a finite number; got {shown(score)}: correct it or leave it out")
    return Span(label, start, end, confidence)


def of_annotations(annotations: Annotations) -> dict[str, Timeline]:
    """Turn annotations into timelines."""
    return {
        name: Timeline(tuple(Span(*action) for action in video.actions), video.duration_s, video.subset)
        for name, video in annotations.videos.items()
    }


def to_annotations(timelines: Timelines) -> Annotations:
    """Turn timelines into annotations; scores are dropped, a missing subset becomes `DEFAULT_SUBSET`.

    Raises:
        DataError: the length of a video is not known.
    """
    videos = {}
    for name, timeline in timelines.items():
        if timeline.duration_s is None:
            raise DataError(
                f"{name}: annotations need the length of every video, and neither the file nor a video says it; give "
                "--durations ANNOTATIONS.json, or --videos DIR"
            )
        actions = tuple(Action(span.label, span.start_s, span.end_s) for span in timeline.spans)
        videos[name] = VideoAnnotation(timeline.duration_s, timeline.subset or DEFAULT_SUBSET, actions)
    return Annotations(videos)


def to_detections(timelines: Timelines) -> dict[str, list[Detection]]:
    """Turn timelines into detections; an annotation gets the score 1."""
    return {
        name: [Detection(s.label, 1.0 if s.score is None else s.score, s.start_s, s.end_s) for s in timeline.spans]
        for name, timeline in timelines.items()
    }


def length_of(value: Any) -> float | None:
    """Read the length of a video that this package wrote into a file; None where it is no number > 0."""
    return float(value) if isinstance(value, int | float) and value > 0 else None


def milliseconds(seconds: float) -> int:
    """Round seconds to milliseconds."""
    return round(seconds * 1000)
