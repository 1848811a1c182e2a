"""Videos opened with PyAV: pictures by presentation time, and notes on parts that could not be read."""

import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import av
import numpy as np
from numpy.typing import NDArray

from stale_edge.errors import DataError
from stale_edge.video.orientation import UPRIGHT, Orientation, read_orientation

VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts", ".3gp", ".flv", ".ogv",
    ".wmv", ".asf", ".vob", ".mxf", ".y4m", ".h264", ".hevc",
)  # fmt: skip
"""Suffixes of video files; the container format is detected from the content, not from the suffix."""

DEFAULT_FPS = 25.0
"""Frames per second if neither time stamps nor the container give it, as in raw streams."""
LONGEST_GAP_S = 600.0
"""If the file states no length, a longer gap between pictures is a jump of the clock, not a still scene."""
CLOCK_JUMP_S = 1.0
"""If time goes back by more than this, the clock was reset; if by less, the picture is left out."""
SHORT_BY = 0.05
"""A video is truncated if more than this fraction of its stated length, plus one second, is missing."""


_NEAR = 0.05
"""A picture is decoded if it is this near to a sampled moment, in steps: packets' times are rounded."""


class Picture:
    """One decoded picture. It is converted to RGB only when asked for, once.

    time_s: start of display, in seconds from the start of the video.
    end_s: end of display, as far as the file says; > time_s.
    """

    def __init__(self, frame: Any, *, time_s: float, end_s: float, orientation: Orientation, aspect: float) -> None:
        self.time_s = time_s
        self.end_s = end_s
        self._frame = frame
        self._orientation = orientation
        self._aspect = aspect

    @cached_property
    def rgb(self) -> NDArray[np.uint8]:
        """The picture for display: upright, pixels square, (H, W, 3) uint8."""
        width = max(1, round(self._frame.width * self._aspect))
        frame = self._frame.reformat(width=width, format="rgb24", threads=1)
        return self._orientation.apply(frame.to_ndarray())

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the picture for display."""
        height, width = self._frame.height, max(1, round(self._frame.width * self._aspect))
        return (width, height) if self._orientation.swap_axes else (height, width)

    def scaled(self, height: int, width: int, *, interpolation: str) -> NDArray[np.uint8]:
        """Scale the picture for display with FFmpeg's scaler, while it converts to RGB: (height, width, 3) uint8.

        Args:
            interpolation: FFmpeg's name, such as `BICUBIC`.
        """
        stored = (width, height) if self._orientation.swap_axes else (height, width)
        frame = self._frame.reformat(
            width=stored[1], height=stored[0], format="rgb24", interpolation=interpolation, threads=1
        )
        return self._orientation.apply(frame.to_ndarray())


class VideoSource:
    """An opened video; iterate over it once for its pictures in display order.

    Memory does not depend on the length. What cannot be decoded is skipped and counted; `notes` reports it.
    Opened by `open_video`; close it, or use it in a `with` block.
    """

    def __init__(self, container: Any, stream: Any, name: str, *, threads: int, only_at: float | None = None) -> None:
        self.name = name
        self._only_at = only_at
        self._skipped_end_s = 0.0
        self._container = container
        self._stream = stream
        context = stream.codec_context
        context.thread_count = threads
        context.thread_type = "AUTO" if threads > 1 else "NONE"
        if only_at is not None:
            context.options = {"skip_loop_filter": "all"}
        self.announced_s: float | None = _announced_s(container, stream)
        """Length in seconds stated by the file, or None."""
        self.fps = float(stream.average_rate or stream.guessed_rate or DEFAULT_FPS)
        """Average pictures per second stated by the file."""
        self.n_pictures = 0
        """Number of pictures returned so far."""
        self.end_s = 0.0
        """End of the last picture returned, in seconds; after the iteration, the length of the readable part."""
        self._orientation = UPRIGHT
        self._odd_angle = False
        self._failed_packets = 0
        self._damaged = 0
        self._late = 0
        self._jumps = 0
        self._broken_off = ""

    def __enter__(self) -> "VideoSource":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file or device."""
        self._container.close()

    def __iter__(self) -> Iterator[Picture]:
        aspect = float(self._stream.sample_aspect_ratio or 0) or 1.0
        origin, shift, last_s = self._origin_s(), 0.0, -math.inf
        for frame in self._frames():
            duration_s = float((frame.duration or 0) * (frame.time_base or 0)) or 1 / self.fps
            if frame.pts is None or frame.time_base is None:
                time_s = self.end_s
            else:
                stamp_s = float(frame.pts * frame.time_base)
                origin = stamp_s if origin is None else origin
                time_s = stamp_s - origin + shift
            if self._jumped(time_s, last_s):
                self._jumps += 1
                shift += self.end_s - time_s
                time_s = self.end_s
            if time_s <= last_s:
                self._late += 1
                continue
            self.n_pictures += 1
            self._damaged += bool(frame.is_corrupt)
            last_s, self.end_s = time_s, time_s + duration_s
            yield Picture(
                frame, time_s=time_s, end_s=self.end_s, orientation=self._orientation_of(frame), aspect=aspect
            )
        self.end_s = max(self.end_s, self._skipped_end_s)
        if self.n_pictures == 0:
            reason = self._broken_off or "no picture in it can be decoded"
            raise DataError(f"{self.name}: {reason}; packets that failed: {self._failed_packets}")

    @property
    def shortfall(self) -> str:
        """Say that the video ends before the end it announces; empty: it does not. Complete after the iteration."""
        announced = self.announced_s
        if announced is None or self.end_s >= announced * (1 - SHORT_BY) - 1:
            return ""
        return f"ends after {self.end_s:.2f} s of the {announced:.2f} s it announces: truncated or damaged"

    @property
    def notes(self) -> tuple[str, ...]:
        """Problems, one sentence each; empty for an intact video. Complete after the iteration."""
        said = [self.shortfall] if self.shortfall else []
        if self._broken_off:
            said.append(self._broken_off)
        for what, count in (
            ("packets that could not be decoded", self._failed_packets),
            ("damaged pictures, used as they are", self._damaged),
            ("pictures left out, since their time was past when they came", self._late),
            ("jumps of the clock; what follows was joined to what came before", self._jumps),
        ):
            if count:
                said.append(f"{what}: {count}")
        if self._odd_angle:
            said.append("it asks to be turned by an angle that is no multiple of 90 degrees; it was not turned")
        return tuple(said)

    def _frames(self) -> Iterator[Any]:
        """Decode packet by packet, so that a bad packet affects no other."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (av.FFmpegError, OSError) as error:
                self._broken_off = f"reading stopped at {self.end_s:.2f} s: {_reason(error)}"
                return
            if self._only_at is not None:
                self._stream.codec_context.skip_frame = "NONREF" if self._is_not_sampled(packet) else "DEFAULT"
            try:
                frames = packet.decode()
            except (av.FFmpegError, OSError):
                self._failed_packets += 1
                continue
            yield from frames

    def _is_not_sampled(self, packet: Any) -> bool:
        """Whether a packet's picture is on the screen at no sampled moment, so that it may be left out.

        FFmpeg leaves it out only if no other picture is computed from it. Where times are uncertain, nothing is.
        """
        origin = self._origin_s()
        if origin is None or self._jumps or packet.pts is None or not packet.duration or packet.time_base is None:
            return False
        rate = self._only_at or 0.0
        start = (float(packet.pts * packet.time_base) - origin) * rate - 0.5
        end = start + float(packet.duration * packet.time_base) * rate
        if math.floor(end + _NEAR) >= math.ceil(start - _NEAR):
            return False
        self._skipped_end_s = max(self._skipped_end_s, (end + 0.5) / rate)
        return True

    def _origin_s(self) -> float | None:
        """Find the time stamp that counts as 0, as in players; None: that of the first picture.

        A transport stream may start at any time. Before 0 there is only sound that fills a decoder.
        """
        start = self._container.start_time
        return None if start is None else max(0.0, float(start) / av.time_base)

    def _jumped(self, time_s: float, last_s: float) -> bool:
        if self.n_pictures == 0:
            return False
        latest = max(self.announced_s or 0.0, self.end_s + LONGEST_GAP_S)
        return time_s < last_s - CLOCK_JUMP_S or time_s > latest

    def _orientation_of(self, frame: Any) -> Orientation:
        matrix = frame.side_data.get("DISPLAYMATRIX")
        if matrix is None:
            return UPRIGHT
        read = read_orientation(bytes(matrix))
        self._odd_angle = self._odd_angle or read is None
        return read or UPRIGHT


class Readable(Protocol):
    """An object that a video can be read from as bytes, such as a pipe."""

    def read(self, size: int, /) -> bytes:
        """Read at most `size` bytes; none at the end."""
        ...


def open_video(
    source: Path | str | Readable,
    *,
    threads: int = 1,
    container_format: str | None = None,
    options: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
    only_at: float | None = None,
) -> VideoSource:
    """Open a video file, or a string that PyAV can open: a URL, a device, `-` for a pipe.

    Args:
        source: a path, always read as a local file; or a string such as `rtsp://host/stream`, `/dev/video0` (with
            `container_format="v4l2"`) or `-`, standard input; or an object with `read`.
        threads: decoding threads, >= 1.
        container_format: FFmpeg's name of the format, if it cannot be guessed; None: guess.
        options: passed on to FFmpeg.
        timeout_s: give up on a silent network source after this many seconds; None: wait.
        only_at: the pictures are sampled at this rate (`sample`), and looked at when small: others are not decoded
            where that is possible, and the codec's loop filter is left out; None: every picture, as the codec says.

    Raises:
        ValueError: threads < 1.
        DataError: no such file, not a video, or without a video stream; the message lists its streams.
    """
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ValueError(f"threads must be an integer >= 1; got {threads!r}")
    target, chosen = _target(source, dict(options or {}))
    try:
        container = av.open(target, format=container_format, options=chosen, timeout=timeout_s)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DataError(f"{source}: cannot be read as a video: {_reason(error)}") from error
    stream = next((s for s in container.streams.video if not _is_cover(s)), None)
    if stream is None or stream.codec_context is None:
        held = ", ".join(_said(s) for s in container.streams) or "nothing"
        container.close()
        raise DataError(f"{source}: there is no video in it to decode; it holds {held}")
    return VideoSource(container, stream, str(source), threads=threads, only_at=only_at)


def _target(source: Path | str | Readable, options: dict[str, str]) -> tuple[Any, dict[str, str]]:
    """Return the target that FFmpeg opens. A local file must not refer to other places, like a disguised playlist."""
    if not isinstance(source, Path | str):
        return source, options
    path = Path(source)
    if isinstance(source, Path) or path.is_file():
        if not path.is_file():
            what = "it is a folder" if path.is_dir() else "no such file"
            raise DataError(f"{path}: cannot be read as a video: {what}")
        return f"file:{path}", {"protocol_whitelist": "file", **options}
    return ("pipe:0" if source == "-" else source), options


def _announced_s(container: Any, stream: Any) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else float(container.duration) / av.time_base


def _is_cover(stream: Any) -> bool:
    """Whether a stream is the cover picture of a sound file, not a video."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _said(stream: Any) -> str:
    context = stream.codec_context
    name = getattr(context, "name", None)
    return f"{'a cover picture' if stream.type == 'video' and _is_cover(stream) else stream.type}" + (
        f" ({name})" if name else ""
    )


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())
