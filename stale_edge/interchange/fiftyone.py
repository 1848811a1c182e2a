"""FiftyOne's `FiftyOneTemporalDetectionDataset`: the labels.json of a folder with data/ beside it."""

import json
from typing import Any

from stale_edge.errors import DataError
from stale_edge.interchange.timelines import Span, Timeline, Timelines, checked, length_of


def write_fiftyone(timelines: Timelines) -> str:
    """Write timestamps in seconds, scores as confidence; lengths and subsets lie in a key that FiftyOne passes over."""
    classes = sorted({span.label for timeline in timelines.values() for span in timeline.spans})
    labels = {video: [_detection(span, classes) for span in timeline.spans] for video, timeline in timelines.items()}
    kept = {
        video: {"duration_s": timeline.duration_s, "subset": timeline.subset} for video, timeline in timelines.items()
    }
    document = {"classes": classes, "labels": labels, "stale_edge": kept}
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _detection(span: Span, classes: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {"label": classes.index(span.label), "timestamps": [span.start_s, span.end_s]}
    return found if span.score is None else {**found, "confidence": span.score}


def read_fiftyone(document: Any, where: str) -> dict[str, Timeline]:
    """Read a labels.json; labels are names, or places in `classes`.

    Raises:
        DataError: a segment has frames (`support`) in place of timestamps, or cannot be read.
    """
    classes = document.get("classes") or []
    kept = document.get("stale_edge") or {}
    timelines = {}
    for video, found in document["labels"].items():
        spans = []
        for number, one in enumerate(found or (), 1):
            place = f"{where}, {video}, segment {number}"
            ends = one.get("timestamps")
            if not isinstance(ends, list) or len(ends) != 2:
                raise DataError(f"{place}: needs timestamps [start, end]; export with use_timestamps=True")
            label = one.get("label")
            if isinstance(label, int) and 0 <= label < len(classes):
                label = classes[label]
            spans.append(checked(place, label, ends, one.get("confidence")))
        held = kept.get(video) or {}
        timelines[video] = Timeline(tuple(spans), length_of(held.get("duration_s")), held.get("subset"))
    return timelines
