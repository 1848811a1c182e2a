"""The video demo's report: one self-contained HTML page."""

import base64
from importlib.resources import files
from pathlib import Path
from typing import Any

from stale_edge.demo.report import artifact_row
from stale_edge.demo.video.actions import COLOURS, MANNERS, SEEN, SHAPES, UNSEEN, captioned_actors
from stale_edge.demo.video.pictures import action_sheet, clip_curve, film_timeline
from stale_edge.demo.video.video_outcome import SetResult, VideoOutcome
from stale_edge.demo.video.video_world import VIDEOS_FOLDER
from stale_edge.errors import MissingExtraError
from stale_edge.evaluation.ladder import shortfall
from stale_edge.report.figures import loss_curve
from stale_edge.segments import Detection

SHOWN_PART = 0.5
"""Detections that score less than this fraction of the best score of their video are not drawn."""


def write_video_report(outcome: VideoOutcome, path: Path) -> None:
    """Write the page, and its figures as PNG files beside it.

    Raises:
        MissingExtraError: jinja2 or matplotlib is not installed.
    """
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise MissingExtraError('the report needs jinja2: pip install "stale-edge[report]"') from error
    figures = {
        "seen": action_sheet(SEEN, seed=outcome.seed),
        "unseen": action_sheet(UNSEEN, seed=outcome.seed),
        "clip": clip_curve(outcome.clip.losses),
        "loss": loss_curve(outcome.trained.records),
        **{video: _film(outcome, video) for video in outcome.shown},
    }
    for name, png in figures.items():
        (path.parent / f"{name}.png").write_bytes(png)
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(
        files("stale_edge.demo.video").joinpath("report.html.j2").read_text(encoding="utf-8")
    )
    encoded = {name: base64.b64encode(png).decode() for name, png in figures.items()}
    path.write_text(template.render(**_content(outcome), figures=encoded), encoding="utf-8")


def _content(outcome: VideoOutcome) -> dict[str, Any]:
    result = outcome.to_json()
    total_s = sum(outcome.seconds.values())
    return {
        "seed": outcome.seed,
        "detector": outcome.detector,
        "result": result,
        "counts": {
            "seen": len(SEEN),
            "unseen": len(UNSEEN),
            "combinations": len(COLOURS) * len(SHAPES) * len(MANNERS),
            "captioned": sum(bool(actor.manner) for actor in captioned_actors()),
        },
        "unseen_names": [actor.name for actor in UNSEEN],
        "minutes": f"{total_s / 60:.1f}",
        "tiles": _tiles(result, outcome),
        "accuracy": [("trained on", outcome.closed), ("never trained on", outcome.unseen)],
        "ladder": outcome.ladder,
        "shortfall": shortfall(outcome.ladder),
        "together": outcome.together,
        "times": _times,
        "films": outcome.shown,
        "artifacts": [artifact_row(artifact) for artifact in result["artifacts"]],
        "encoder_files": result["encoder"]["files"],
        "speed": [(stage, outcome.timings.seconds(stage)) for stage in (*outcome.timings.STAGES, "total")],
        "timings": outcome.timings,
        "stages": [(stage, seconds, f"{seconds / total_s:.0%}") for stage, seconds in outcome.seconds.items()],
    }


def _tiles(result: dict[str, Any], outcome: VideoOutcome) -> list[dict[str, str]]:
    closed, unseen = outcome.closed, outcome.unseen
    speed = outcome.timings.video_s / outcome.timings.total_s
    return [
        {"value": f"{closed.map_50:.1f} %", "label": f"mAP@0.5, {len(SEEN)} actions trained on"},
        {"value": f"{unseen.map_50:.1f} %", "label": f"mAP@0.5, {len(UNSEEN)} actions never trained on"},
        {"value": _times(unseen), "label": "a random ranking of the same segments, unseen actions"},
        {"value": f"{speed:.0f} x", "label": "real time from mp4 to detections, one thread"},
        {"value": f"{result['video_seconds'] / 3600:.1f} h", "label": f"of video in {result['n_videos']} mp4 files"},
    ]


def _times(part: SetResult) -> str:
    return f"{part.map_50 / part.random_map_50:.1f} x" if part.random_map_50 else "-"


def _film(outcome: VideoOutcome, video: str) -> bytes:
    known = outcome.data_set.annotations.videos[video]
    rows = [Detection(row["label"], row["score"], *row["segment"]) for row in outcome.detected["results"][video]]
    return film_timeline(
        outcome.data_set.root / VIDEOS_FOLDER / f"{video}.mp4",
        rows,
        [(action.label, action.start_s, action.end_s) for action in known.actions],
        duration_s=known.duration_s,
        title=f"{video}.mp4",
        min_score=SHOWN_PART * max((row.score for row in rows), default=0.0),
    )
