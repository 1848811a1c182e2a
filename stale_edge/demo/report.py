"""The demo's report: one self-contained HTML page."""

import base64
from importlib.resources import files
from pathlib import Path
from typing import Any

from stale_edge.benchmarking.table import COLUMNS, machine_line, table_rows
from stale_edge.demo.outcome import Outcome
from stale_edge.errors import MissingExtraError
from stale_edge.evaluation.ladder import shortfall
from stale_edge.report.figures import latency_curve, loss_curve
from stale_edge.report.timeline import timeline
from stale_edge.segments import Detection

N_TIMELINES = 4


def write_report(outcome: Outcome, path: Path) -> None:
    """Write the page, and its figures as PNG files beside it.

    Raises:
        MissingExtraError: jinja2 or matplotlib is not installed.
    """
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise MissingExtraError('the report needs jinja2: pip install "stale-edge[report]"') from error
    figures = {"loss": loss_curve(outcome.trained.records), "latency": latency_curve(outcome.bench)}
    lanes = _timelines(outcome)
    for name, png in {**figures, "timeline": lanes[0][1]}.items():
        (path.parent / f"{name}.png").write_bytes(png)
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(
        files("stale_edge.demo").joinpath("report.html.j2").read_text(encoding="utf-8")
    )
    path.write_text(template.render(**_content(outcome, figures, lanes)), encoding="utf-8")


def _content(outcome: Outcome, figures: dict[str, bytes], lanes: list[tuple[str, bytes]]) -> dict[str, Any]:
    result = outcome.to_json()
    return {
        "seed": outcome.seed,
        "data": {
            "videos": len(outcome.data_set.annotations.videos),
            "classes": len(outcome.data_set.class_names),
            "seen": len(outcome.data_set.split("train.list")),
        },
        "machine": outcome.bench["machine"]["cpu"],
        "total_seconds": sum(outcome.seconds.values()),
        "tiles": _tiles(result),
        "ladder": outcome.ladder,
        "shortfall": shortfall(outcome.ladder),
        "on_device": None if outcome.on_device is None else outcome.on_device.result.average_mAP,
        "timelines": [
            {"alt": f"Detections in {video} against the annotation", "png": _base64(png)} for video, png in lanes
        ],
        "artifacts": [artifact_row(artifact.to_json()) for artifact in outcome.exported.artifacts],
        "bench_note": machine_line(outcome.bench) + ". Every row in a process of its own, in turns; medians.",
        "bench_columns": COLUMNS,
        "bench": table_rows(outcome.bench),
        "stages": list(outcome.seconds.items()),
        **{name: _base64(png) for name, png in figures.items()},
    }


def _tiles(result: dict[str, Any]) -> list[dict[str, str]]:
    closed, unseen, int8 = result["closed_set"], result["open_set"], result["precisions"]["int8"]
    # Only precisions that passed the parity check.
    checked = [row for row in result["bench"] if row["precision"] in result["precisions"]]
    detectors = [row for row in checked if row["variant"] == "detector" and row["speedup"]]
    fastest = max(detectors, key=lambda row: row["speedup"])
    return [
        {"value": f"{closed['average_mAP']:.1f} %", "label": "average mAP, seen classes"},
        *([{"value": f"{unseen['average_mAP']:.1f} %", "label": "average mAP, unseen classes"}] if unseen else []),
        {"value": f"{int8['model_bytes'] / 1e6:.2f} MB", "label": "int8 detector"},
        {"value": f"{int8['matched_detections']:.1%}", "label": "detections that int8 keeps"},
        {
            "value": f"{fastest['speedup']:.0f} x",
            "label": f"{fastest['runtime']} {fastest['precision']} over PyTorch with the text tower inside, "
            f"{fastest['length']} snippets",
        },
    ]


def artifact_row(artifact: dict[str, Any]) -> dict[str, str]:
    """Format an artifact of an export report (`Exported.to_json`) as a table row."""
    parity = artifact["parity"]
    return {
        "file": artifact["file"],
        "average_mAP": "-" if parity["average_mAP"] is None else f"{parity['average_mAP']:.2f}",
        "flipped": f"{parity['flipped_snippets']} of {parity['n_snippets']}",
        "matched": f"{parity['matched_detections']:.1%} of {parity['n_detections']}",
        "quantized": artifact["weights"] or "-",
        "size": f"{artifact['bytes'] / 1e6:.2f} MB",
    }


def _timelines(outcome: Outcome) -> list[tuple[str, bytes]]:
    """Draw validation videos with several actions, half with unseen classes where the detector knows them."""
    annotations = outcome.data_set.annotations.videos
    drawn = []
    reports = [report for report in (outcome.closed, outcome.unseen) if report is not None]
    n_each = N_TIMELINES // len(reports)
    for report in reports:
        found = report.predictions["results"]
        # Videos with the most actions; ties by name, so that the choice does not depend on the results.
        videos = sorted(found, key=lambda video: (-len(annotations[video].actions), video))[:n_each]
        for video in videos:
            truth = [(action.label, action.start_s, action.end_s) for action in annotations[video].actions]
            rows = [Detection(row["label"], row["score"], *row["segment"]) for row in found[video]]
            best = max((row.score for row in rows), default=0.0)
            png = timeline(
                rows,
                duration_s=annotations[video].duration_s,
                ground_truth=truth,
                title=f"{video} ({'unseen' if report is outcome.unseen else 'seen'} classes)",
                min_score=0.25 * best,
            )
            drawn.append((video, png))
    return drawn


def _base64(png: bytes) -> str:
    return base64.b64encode(png).decode()
