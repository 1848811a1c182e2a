"""Label Studio's tasks: detections as predictions, corrected annotations back. Times are seconds, not frames.

The labelling configuration is that of its template "Video timeline segmentation": `CONFIG`.
"""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from stale_edge.errors import DataError, shown
from stale_edge.interchange.timelines import Span, Timeline, Timelines, checked, length_of

CONFIG = """<View>
  <Labels name="label" toName="audio" choice="single">{labels}</Labels>
  <Video name="video" value="$video" sync="audio"/>
  <Audio name="audio" value="$video" sync="video" zoom="true"/>
</View>"""
MODEL = "stale-edge"


def write_label_studio(timelines: Timelines, *, media: Mapping[str, str] | None = None) -> str:
    """Write one task per video: segments with a score as a prediction, those without as an annotation.

    Args:
        timelines: segments by video.
        media: address of each video; None: its name, which must then be replaced.
    """
    tasks = []
    for video, timeline in timelines.items():
        kept = {"video": video, "duration_s": timeline.duration_s, "subset": timeline.subset}
        task: dict[str, Any] = {"data": {"video": (media or {}).get(video, video), "stale_edge": kept}}
        detected = [span for span in timeline.spans if span.score is not None]
        annotated = [span for span in timeline.spans if span.score is None]
        if detected:
            task["predictions"] = [{"model_version": MODEL, "result": _results(detected)}]
        if annotated or not detected:
            task["annotations"] = [{"result": _results(annotated)}]
        tasks.append(task)
    return json.dumps(tasks, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _results(spans: list[Span]) -> list[dict[str, Any]]:
    return [
        {
            "id": f"segment-{number}",
            "type": "labels",
            "from_name": "label",
            "to_name": "audio",
            "value": {"start": span.start_s, "end": span.end_s, "labels": [span.label]},
            **({} if span.score is None else {"score": span.score}),
        }
        for number, span in enumerate(spans, 1)
    ]


def read_label_studio(document: Any, where: str) -> dict[str, Timeline]:
    """Read an export in the format JSON; of a task the last annotation counts, else its last prediction.

    Segments of the kinds `labels` (seconds) and `timelinelabels` (frames, of tasks whose data has `fps`) are read.

    Raises:
        DataError: a task has no video, two have the same one, or a segment cannot be read.
    """
    timelines: dict[str, Timeline] = {}
    for number, task in enumerate(document, 1):
        place = f"{where}, task {number}"
        data = task.get("data") if isinstance(task, dict) else None
        if not isinstance(data, dict) or not isinstance(data.get("video"), str):
            raise DataError(f"{place}: has no data.video; export in the format JSON, not JSON-MIN")
        held = data.get("stale_edge")
        kept: dict[str, Any] = held if isinstance(held, dict) else {}
        video = str(kept.get("video") or unquote(data["video"]).rpartition("/")[2].rpartition(".")[0] or data["video"])
        if video in timelines:
            raise DataError(f"{place}: the video {shown(video)} occurs twice; export every task once")
        done = [one for one in task.get("annotations") or () if not one.get("was_cancelled")]
        chosen = done or task.get("predictions") or [{"result": []}]
        spans = [
            span
            for result in chosen[-1].get("result", ())
            for span in _spans(result, place, data.get("fps"), scored=not done)
        ]
        subset = kept.get("subset")
        timelines[video] = Timeline(
            tuple(sorted(spans, key=lambda span: (span.start_s, span.end_s))),
            length_of(kept.get("duration_s")),
            subset if isinstance(subset, str) else None,
        )
    return timelines


def _spans(result: Mapping[str, Any], place: str, fps: Any, *, scored: bool) -> list[Span]:
    kind, value = result.get("type"), result.get("value") or {}
    score = result.get("score") if scored else None
    if kind == "labels":
        ends = value.get("start"), value.get("end")
        return [checked(place, label, ends, score) for label in value.get("labels", ())]
    if kind != "timelinelabels":
        return []
    if not isinstance(fps, int | float) or fps <= 0:
        raise DataError(f"{place}: its segments are frames; give data.fps, the frames per second of the video")
    return [
        checked(place, label, ((part["start"] - 1) / fps, part["end"] / fps), score)
        for part in value.get("ranges", ())
        for label in value.get("timelinelabels", ())
    ]
