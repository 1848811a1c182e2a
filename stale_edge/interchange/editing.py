"""Cuts for video editors, through OpenTimelineIO and its adapters for EDL and FCPXML."""

import tempfile
from pathlib import Path
from typing import Any

from stale_edge.errors import MissingExtraError
from stale_edge.interchange.timelines import Timeline

EXACT_RATE = 1000.0
"""Frames per second of an .otio file, which holds times to the millisecond."""
_IN_FCPXML = str.maketrans({"'": "’", '"': "”", "[": "(", "]": ")"})
FRAME_RATE = 25.0
"""Frames per second of EDL and FCPXML, which know only those of video."""


def write_cuts(video: str, timeline: Timeline, suffix: str, *, media: str = "") -> str:
    """Write the segments of one video as clips, one after the other by time.

    Args:
        video: its name.
        timeline: its segments.
        suffix: `.otio`, exact to the millisecond; `.edl` or `.fcpxml`, at `FRAME_RATE`. In their names line breaks
            become spaces; in FCPXML quotation marks and brackets, on which its adapter stumbles, are replaced.
        media: address of the video file; empty: its name.

    Raises:
        MissingExtraError: OpenTimelineIO or the adapter is not installed.
    """
    try:
        import opentimelineio as otio
    except ImportError as error:
        raise MissingExtraError(
            f'{suffix} needs OpenTimelineIO: pip install "stale-edge[interchange]", or write csv or vtt'
        ) from error
    rate = EXACT_RATE if suffix == ".otio" else FRAME_RATE
    track = otio.schema.Track(name="actions", kind=otio.schema.TrackKind.Video)
    available = None if timeline.duration_s is None else _range(otio, 0.0, timeline.duration_s, rate)
    for span in sorted(timeline.spans, key=lambda span: (span.start_s, span.end_s)):
        name = _name(span.label, suffix)
        track.append(
            otio.schema.Clip(
                name=name,
                media_reference=otio.schema.ExternalReference(media or video, available),
                source_range=_range(otio, span.start_s, span.end_s, rate),
                metadata={"stale-edge": {} if span.score is None else {"score": span.score}},
            )
        )
    made = otio.schema.Timeline(name=_name(video, suffix))
    made.tracks.append(track)
    with tempfile.TemporaryDirectory() as work:
        path = Path(work, f"timeline{suffix}")
        try:
            otio.adapters.write_to_file(made, str(path))
        except otio.exceptions.NoKnownAdapterForExtensionError as error:
            raise MissingExtraError(f'{suffix} needs its adapter: pip install "stale-edge[interchange]"') from error
        return path.read_text(encoding="utf-8")


def _name(text: str, suffix: str) -> str:
    if suffix == ".otio":
        return text
    line = " ".join(text.split())
    return line.translate(_IN_FCPXML) if suffix == ".fcpxml" else line


def _range(otio: Any, start_s: float, end_s: float, rate: float) -> Any:
    start, end = round(start_s * rate), round(end_s * rate)
    return otio.opentime.TimeRange(
        otio.opentime.RationalTime(start, rate), otio.opentime.RationalTime(max(end - start, 1), rate)
    )
