"""Detections in many inputs, and the text of a file of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stale_edge.data import Annotations, read_annotations
from stale_edge.errors import DataError
from stale_edge.report.formats import FORMATTERS, meaningful_decimals, to_html
from stale_edge.report.view import ClassCurves, Thumbnail, Truth, VideoView
from stale_edge.runtime.detect_inputs import Input
from stale_edge.runtime.detect_settings import OutputSettings
from stale_edge.runtime.timings import StageTimings
from stale_edge.runtime.views import link_to
from stale_edge.segments import Detection, find_video

_MOST_ERRORS = 5
"""Number of bad inputs named when every input is bad, so that the line stays short."""


@dataclass(frozen=True)
class Found:
    """Detections in one video.

    span_s: seconds that its snippets cover; segments lie in [0, span_s].
    notes: parts of it that could not be read.
    thumbnails, curves: for a page, if requested.
    provider: what computed the detector, as `Localizer.provider`; empty: not recorded.
    """

    video: str
    detections: list[Detection]
    span_s: float
    timings: StageTimings
    notes: tuple[str, ...] = ()
    thumbnails: tuple[Thumbnail, ...] = ()
    curves: ClassCurves | None = None
    provider: str = ""


@dataclass(frozen=True)
class DetectionRun:
    """Detections in several inputs.

    text: the detections of every input that could be read, in the requested format.
    errors: one line for every input that could not be read; equal lines appear once.
    encoded: class names that the class bank lacks and that the bundle's text encoder embedded.
    timings: seconds by stage, for each video.
    has_videos: whether a video was among the inputs, and not only features.
    notes: parts that could not be read, by video; only videos that have such parts.
    providers: what computed the detector, as `Localizer.provider`; without repetition.
    n_written, n_left_out: number of detections in the text, and of those that the selection left out.
    """

    text: str
    errors: tuple[str, ...]
    encoded: tuple[str, ...] = ()
    timings: Mapping[str, StageTimings] = field(default_factory=dict)
    has_videos: bool = False
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    providers: tuple[str, ...] = ()
    n_written: int = 0
    n_left_out: int = 0

    @property
    def total(self) -> StageTimings:
        """Sum of the stages over all videos."""
        summed = StageTimings()
        for timings in self.timings.values():
            summed.add(timings)
        return summed


def summarize(
    found: Sequence[Found],
    errors: Sequence[str],
    items: Sequence[Input],
    *,
    output: OutputSettings,
    encoded: tuple[str, ...] = (),
    snippet_s: float | None = None,
) -> DetectionRun:
    """Format the detections of many inputs.

    Args:
        found: detections of the inputs that could be used; errors: one line for each of the others.
        items: the inputs.
        output: format and selection.
        encoded: class names that were embedded.
        snippet_s: seconds of a snippet, which times are rounded to; None: unknown.

    Raises:
        DataError: there are errors and no input could be used (the first few errors are named), or the annotations to
            show cannot be read.
    """
    lines = tuple(dict.fromkeys(errors))  # an error of a whole folder is reported once, not per video
    if lines and not found:
        more = f"; and {len(lines) - _MOST_ERRORS} more" if len(lines) > _MOST_ERRORS else ""
        raise DataError("; ".join(lines[:_MOST_ERRORS]) + more)
    results = {one.video: output.selection.of(one.detections) for one in found}
    left_out = {one.video: len(one.detections) - len(results[one.video]) for one in found}
    durations = {one.video: one.span_s for one in found}
    if output.format == "html":
        truth = None if output.truth is None else read_annotations(output.truth)
        views = _views(found, items, page=output.page, truth=truth)
        text = to_html(results, durations=durations, views=views, left_out=left_out)
    else:
        text = FORMATTERS[output.format](results, durations=durations, decimals=meaningful_decimals(snippet_s))
    return DetectionRun(
        text,
        lines,
        encoded,
        {one.video: one.timings for one in found},
        any(item.is_video for item in items),
        {one.video: one.notes for one in found if one.notes},
        tuple(dict.fromkeys(one.provider for one in found if one.provider)),
        n_written=sum(map(len, results.values())),
        n_left_out=sum(left_out.values()),
    )


def _views(
    found: Sequence[Found], items: Sequence[Input], *, page: Path | None, truth: Annotations | None
) -> dict[str, VideoView]:
    by_name = {item.video: item for item in items}
    views = {}
    for one in found:
        item = by_name[one.video]
        actions = item.truth
        if truth is not None:
            name = find_video(one.video, truth.videos)
            actions = tuple(Truth(*action) for action in truth.videos[name].actions) if name else None
        link = link_to(item.path, page) if item.is_video else None
        views[one.video] = VideoView(link, one.thumbnails, one.curves, actions)
    return views
