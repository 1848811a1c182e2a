"""Pictures of segments: a clip of each, and a sheet with the middle of each."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from PIL import Image, ImageDraw

from stale_edge.errors import DataError
from stale_edge.interchange.timelines import Span, milliseconds
from stale_edge.video import open_video

TIME_BASE = Fraction(1, 1000)
CODEC, PIXELS = "mpeg4", "yuv420p"
"""An encoder that every build of FFmpeg has."""
COLUMNS, CELL, CAPTION = 4, (240, 135), 18
_UNSAFE = re.compile(r"[^\w-]+")


@dataclass
class _Clip:
    """One clip while it is written."""

    span: Span
    container: Any
    stream: Any

    def add(self, rgb: Any, time_s: float) -> None:
        frame = av.VideoFrame.from_ndarray(rgb[: self.stream.height, : self.stream.width], format="rgb24")
        frame.pts, frame.time_base = milliseconds(max(time_s - self.span.start_s, 0.0)), TIME_BASE
        self.container.mux(self.stream.encode(frame))

    def close(self) -> None:
        self.container.mux(self.stream.encode(None))
        self.container.close()


def write_clips(video: Path, spans: Sequence[Span], folder: Path) -> list[Path]:
    """Cut each segment into a file of its own, `<number>-<label>.mp4`, in one pass; without sound.

    Raises:
        DataError: the video cannot be read, or no picture lies in a segment.
    """
    folder.mkdir(parents=True, exist_ok=True)
    waiting = sorted(enumerate(spans, 1), key=lambda item: item[1].start_s)
    running: list[_Clip] = []
    written: list[Path] = []
    with open_video(video) as source:
        for picture in source:
            while waiting and waiting[0][1].start_s < picture.end_s:
                number, span = waiting.pop(0)
                path = folder / f"{number:03d}-{_UNSAFE.sub('_', span.label)[:60] or 'segment'}.mp4"
                running.append(_started(span, path, picture.shape))
                written.append(path)
            for clip in running:
                clip.add(picture.rgb, picture.time_s)
            for clip in [one for one in running if picture.end_s >= one.span.end_s]:
                clip.close()
                running.remove(clip)
            if not waiting and not running:
                break
    for clip in running:
        clip.close()
    if waiting:
        number, span = waiting[0]
        raise DataError(
            f"{video}: no picture lies in segment {number}, {span.start_s:g} to {span.end_s:g} s; is this the video?"
        )
    return written


def _started(span: Span, path: Path, shape: tuple[int, ...]) -> _Clip:
    container = av.open(str(path), "w")
    stream = container.add_stream(CODEC, rate=25)
    stream.height, stream.width = (size - size % 2 for size in shape[:2])  # the encoder takes even sizes
    stream.pix_fmt = PIXELS
    stream.codec_context.time_base = stream.time_base = TIME_BASE
    return _Clip(span, container, stream)


def contact_sheet(video: Path, spans: Sequence[Span]) -> Image.Image:
    """Draw the picture in the middle of each segment, with its label and time, in rows of `COLUMNS`.

    Raises:
        DataError: the video cannot be read, or there is no segment.
    """
    if not spans:
        raise DataError(f"{video}: there is no segment to show; lower --min-score")
    middles = sorted((span.start_s + span.end_s) / 2 for span in spans)
    found: dict[float, Any] = {}
    with open_video(video) as source:
        last = None
        for picture in source:
            while middles and middles[0] < picture.end_s:
                found[middles.pop(0)] = picture.rgb
            last = picture.rgb
            if not middles:
                break
    n_rows = -(-len(spans) // COLUMNS)
    width, height = CELL
    sheet = Image.new("RGB", (COLUMNS * width, n_rows * (height + CAPTION)), "white")
    draw = ImageDraw.Draw(sheet)
    for place, span in enumerate(sorted(spans, key=lambda span: span.start_s)):
        left, top = place % COLUMNS * width, place // COLUMNS * (height + CAPTION)
        rgb = found.get((span.start_s + span.end_s) / 2, last)
        if rgb is not None:
            cell = Image.fromarray(rgb)
            cell.thumbnail(CELL)
            sheet.paste(cell, (left, top))
        text = f"{' '.join(span.label.split())[:28]} {span.start_s:.1f}-{span.end_s:.1f} s"
        draw.text((left + 3, top + height + 3), text, fill="black")
    return sheet
