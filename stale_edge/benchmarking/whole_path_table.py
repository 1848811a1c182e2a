"""The results of `bench --video` for people."""

from collections.abc import Sequence
from typing import Any

COLUMNS = (
    "encoder", "threads", "pictures", "decode s", "preprocess s", "encoder s", "detector s", "postprocess s", "whole s",
    "CPU s", "start-up s", "x real time", "x default", "found again",
)  # fmt: skip
_STAGES = ("decode", "preprocess", "encoder", "detector", "postprocess", "whole")


def table_rows(results: dict[str, Any]) -> list[list[str]]:
    """Make one row per way, from its rows of `results`."""
    rows = results["rows"]
    ways = [rows[i : i + len(_STAGES)] for i in range(0, len(rows), len(_STAGES))]
    return [_row(way, ways) for way in ways]


def _row(way: Sequence[dict[str, Any]], ways: Sequence[Sequence[dict[str, Any]]]) -> list[str]:
    whole = way[-1]
    default = next(other[-1] for other in ways if other[-1]["default"] and other[-1]["threads"] == whole["threads"])
    name = f"{whole['encoder_runtime']} {whole['encoder_precision']}, batch {whole['batch']}"
    name += "" if whole["preprocessing"] == "exact" else f", {whole['preprocessing']}"
    name += "" if whole["skip_similar"] is None else f", skip {whole['skip_similar']:g}"
    name += " (default)" if whole["default"] else " (recommended)" if whole["recommended"] else ""
    ratio = default["seconds"]["median"] / whole["seconds"]["median"]
    found = whole.get("found_again")
    return [
        name,
        str(whole["threads"]),
        f"{whole['frames_encoded']} of {whole['frames_sampled']}",
        *(f"{row['seconds']['median']:.3f}" for row in way),
        f"{whole['cpu_seconds']:.2f}",
        f"{whole['start_up_seconds']:.2f}",
        f"{whole['times_real_time']:.1f}",
        f"{ratio:.2f}",
        "-" if found is None else f"{found:.1%}",
    ]


def summary_lines(results: dict[str, Any]) -> list[str]:
    """Say what was measured, and what was recommended."""
    video, encoder, machine = results["video"], results["encoder"], results["machine"]
    lines = [
        f"{video['file']}: {video['seconds']:.1f} s, {video['width']} x {video['height']}, {video['frames']} pictures; "
        f"encoder {encoder['name']}; {machine['cpu']}",
        f"detector: {results['detector']}",
    ]
    if "load" in results["protocol"]["notes"]:
        lines.append(results["protocol"]["notes"]["load"])
    for threads, said in results.get("recommendation", {}).get("by_threads", {}).items():
        one = said["chosen"]
        lines.append(
            f"{threads} thread{'s' if threads != '1' else ''}: detect --encoder-runtime auto uses {one['runtime']} "
            f"{one['precision']} for a video of this length"
        )
    return lines
