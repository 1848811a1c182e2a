"""Figures of the demo's report: pictures of the actions, and pictures of a video above its detections."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stale_edge.demo.video.actions import COLOURS, Actor
from stale_edge.demo.video.drawing import Place
from stale_edge.demo.video.render import frames
from stale_edge.demo.video.script import Appearance, Script
from stale_edge.report.canvas import new_figure
from stale_edge.segments import Detection
from stale_edge.video import read_frames

STRIP_PICTURES = 14
"""Pictures above a timeline."""
INK, FAINT, LINE = "#1b1f24", "#5b6470", "#e3e6ea"
_DOTS_PER_INCH = 130


def action_sheet(actions: Sequence[Actor], *, seed: int, n_pictures: int = 5) -> bytes:
    """Draw each action as a strip of pictures half a second apart, with its name below.

    Returns:
        A PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    n_columns = 3
    n_rows = -(-len(actions) // n_columns)
    figure = new_figure(9.6, 0.95 * n_rows, dots_per_inch=_DOTS_PER_INCH)
    grid = figure.subplots(n_rows, n_columns, squeeze=False)
    for number, axes in enumerate(grid.flat):
        axes.set_axis_off()
        if number < len(actions):
            place = Place(0.5, 0.52, 0.19, 0.0, 0.2, 0.55, 0.1 * (number % 7))
            shown = Appearance(actions[number], place, 0.0, 60.0)
            pictures = list(frames(Script(0.5 * n_pictures, (0.0,), (shown,), (seed, 9, number))))
            strip = pictures[:: max(1, len(pictures) // n_pictures)][:n_pictures]
            axes.imshow(np.concatenate(strip, axis=1), interpolation="lanczos")
            axes.set_title(actions[number].name, fontsize=8, color=INK, pad=2.5)
    return _png(figure)


def film_timeline(
    video: Path,
    detections: Sequence[Detection],
    truth: Sequence[tuple[str, float, float]],
    *,
    duration_s: float,
    title: str,
    min_score: float,
) -> bytes:
    """Draw pictures of a video over time, and below them one lane per class: annotations above, detections below.

    Args:
        video: video file.
        detections: detections in this video.
        truth: (label, start_s, end_s) of every annotated action.
        duration_s: length of the video in seconds, > 0.
        title: title of the figure.
        min_score: detections with a lower score are left out.

    Returns:
        A PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
        DataError: the video cannot be read.
    """
    shown = sorted((d for d in detections if d.score >= min_score), key=lambda d: d.score)
    labels = list(dict.fromkeys([label for label, _, _ in truth] + [d.label for d in reversed(shown)]))
    lane_height = 0.36
    strip_height = 9.6 * 0.86 / STRIP_PICTURES
    figure = new_figure(9.6, strip_height + lane_height * len(labels) + 0.62, dots_per_inch=_DOTS_PER_INCH)
    film, lanes = figure.subplots(2, 1, sharex=True, height_ratios=[strip_height, lane_height * len(labels)])
    film.imshow(_strip(video), extent=(0, duration_s, 0, 1), aspect="auto", interpolation="lanczos")
    film.set_axis_off()
    film.set_title(title, loc="left", fontsize=9, color=INK)
    best = max((d.score for d in shown), default=1.0) or 1.0
    for row, label in enumerate(labels):
        colour = _lane_colour(label)
        for name, start_s, end_s in truth:
            if name == label:
                lanes.broken_barh(
                    [(start_s, end_s - start_s)],
                    (row - 0.4, 0.32),
                    facecolors="#d5d9de",
                    edgecolors=FAINT,
                    linewidth=0.6,
                )
        for d in shown:
            if d.label == label:
                lanes.broken_barh(
                    [(d.start_s, d.end_s - d.start_s)],
                    (row - 0.02, 0.4),
                    facecolors=(*colour, max(0.12, d.score / best)),
                    edgecolors=(*colour, 0.9),
                    linewidth=0.5,
                )
    lanes.set_xlim(0, duration_s)
    lanes.set_ylim(len(labels) - 0.5, -0.5)
    lanes.set_yticks(range(len(labels)), labels, fontsize=8, color=INK)
    lanes.set_xlabel("seconds", fontsize=8, color=FAINT)
    lanes.tick_params(axis="x", labelsize=7.5, colors=FAINT)
    lanes.tick_params(axis="y", length=0)
    lanes.grid(axis="x", color=LINE)
    lanes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        lanes.spines[side].set_visible(False)
    return _png(figure)


def clip_curve(losses: Sequence[float]) -> bytes:
    """Draw the loss of the tiny CLIP over the steps, smoothed over a hundredth of them.

    Returns:
        A PNG.
    """
    figure = new_figure(8.0, 2.6, dots_per_inch=_DOTS_PER_INCH)
    axes = figure.subplots()
    width = max(1, len(losses) // 100)
    smooth = np.convolve(losses, np.ones(width) / width, mode="valid")
    axes.plot(np.arange(len(smooth)) + width, smooth, color="#115ca6", linewidth=1.4)
    axes.set_xlabel("step", fontsize=8)
    axes.set_ylabel("contrastive loss", fontsize=8)
    axes.set_ylim(bottom=0)
    axes.grid(color=LINE)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return _png(figure)


def _strip(video: Path) -> NDArray[np.uint8]:
    """Read pictures at equal time steps and put them side by side."""
    pictures = list(read_frames(video, fps=2))
    places = (np.arange(STRIP_PICTURES) + 0.5) * len(pictures) / STRIP_PICTURES
    return np.concatenate([pictures[int(place)][1] for place in places], axis=1)


def _lane_colour(label: str) -> tuple[float, float, float]:
    """Give the colour in the class name; white becomes grey, to be visible on paper."""
    red, green, blue = COLOURS.get(label.split(" ")[0], (0.07, 0.36, 0.65))
    return (0.35, 0.38, 0.42) if min(red, green, blue) > 0.9 else (red, green, blue)


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
