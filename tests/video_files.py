"""Small videos made with PyAV for tests; the shade of a picture says which one it is."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

TIME_BASE = Fraction(1, 1000)


def shade(index: int) -> int:
    """The grey of picture `index`, 0..9: far enough apart to survive a codec."""
    return 20 + 22 * (index % 10)


def shade_of(picture: np.ndarray) -> int:
    """Which picture, 0..9, a decoded one is."""
    return round((float(picture.mean()) - 20) / 22)


def write(
    path: Path,
    *,
    times_ms: Sequence[int] = tuple(range(0, 1000, 100)),
    size: tuple[int, int] = (48, 64),
    pictures: Sequence[np.ndarray] | None = None,
    codec: str = "mpeg4",
    pixel_format: str = "yuv420p",
    display_matrix: Sequence[int] | None = None,
    audio: bool = False,
    options: dict[str, str] | None = None,
    keyframe_every: int = 1,
) -> Path:
    """Write a video whose picture i is shown at times_ms[i]; `pictures` (H, W, 3) uint8, or plain shades of `size`."""
    height, width = pictures[0].shape[:2] if pictures is not None else size
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.codec_context.time_base = TIME_BASE
        stream.time_base = TIME_BASE
        stream.codec_context.gop_size = keyframe_every
        stream.codec_context.qmin, stream.codec_context.qmax = 1, 3
        if display_matrix is not None:
            stream.set_display_matrix(display_matrix)
        sound = _add_sound(container) if audio else None
        for i, time_ms in enumerate(times_ms):
            values = pictures[i] if pictures is not None else np.full((height, width, 3), shade(i), np.uint8)
            frame = av.VideoFrame.from_ndarray(values, format="rgb24")
            frame.pts, frame.time_base = time_ms, TIME_BASE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            _write_sound(container, sound)
    return path


def write_sound(path: Path) -> Path:
    """Write a file with a second of sound and no picture."""
    with av.open(str(path), "w") as container:
        _write_sound(container, _add_sound(container))
    return path


def _add_sound(container):
    return container.add_stream("aac", rate=8000, layout="mono")


def _write_sound(container, stream) -> None:
    for start in range(0, 8000, 1024):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 8000, start, Fraction(1, 8000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
