"""Sample pictures of a video on a regular grid of presentation times."""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stale_edge.progress import Progress
from stale_edge.video.source import Picture, VideoSource, open_video


class VideoWarning(UserWarning):
    """A video was read only in part, or not as its file demands."""


class Snippet(NamedTuple):
    """The picture that represents one step of a video.

    step: i, counted from 0; it covers [i, i + 1) / rate seconds.
    time_s: middle of the step, (i + 0.5) / rate, when the picture is on the screen.
    """

    step: int
    time_s: float
    picture: Picture


def snippet_rate(fps: float, stride: int) -> float:
    """Compute snippets per second: a snippet is `stride` frames at `fps` frames per second.

    Raises:
        ValueError: fps is not finite and > 0, or stride is not an integer >= 1.
    """
    if isinstance(fps, bool) or not math.isfinite(fps) or fps <= 0:
        raise ValueError(f"fps must be a finite number > 0; got {fps!r}")
    if isinstance(stride, bool) or not isinstance(stride, int) or stride < 1:
        raise ValueError(f"stride must be an integer >= 1; got {stride!r}")
    return fps / stride


def sample(pictures: Iterable[Picture], rate: float) -> Iterator[Snippet]:
    """Take, for each step of 1 / rate seconds, the picture that is on the screen at its middle.

    If steps are as long as pictures, the middle is never on the border of two pictures, so a video sampled at its own
    rate gives each picture once. The picture represents the middle of the step, not its start. A picture is on the
    screen from its time until that of the next one, also at uneven intervals; the first one from the start.

    Args:
        pictures: in rising order of time; only one is held at a time.
        rate: steps per second, > 0.
    """
    step, shown = 0, None
    for picture in pictures:
        while shown is not None and (middle := (step + 0.5) / rate) < picture.time_s:
            yield Snippet(step, middle, shown)
            step += 1
        shown = picture
    while shown is not None and (middle := (step + 0.5) / rate) < shown.end_s:
        yield Snippet(step, middle, shown)
        step += 1
    if step == 0 and shown is not None:  # a video shorter than half a step is one step
        yield Snippet(0, 0.5 / rate, shown)


def watch_video(progress: Progress, source: VideoSource, name: str) -> Callable[[Snippet], None]:
    """Make a function that reports how far a video has been read; it is called with every snippet.

    Args:
        progress: called with (stage, seconds done, seconds announced, name).
    """

    def look(snippet: Snippet) -> None:
        seconds = int(snippet.time_s)
        progress("seconds of this video", seconds, max(seconds, int(source.announced_s or 0)), name)

    return look


def read_frames(
    path: Path | str, *, fps: float | None = None, stride: int = 1, threads: int = 1
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Read the pictures of a video in constant memory.

    Args:
        path: a video file, or any other source that `open_video` opens.
        fps: frames per second to sample; None: every picture at its own time.
        stride: take one of this many frames, >= 1; `sample` says which.
        threads: decoding threads, >= 1.

    Yields:
        The time in seconds from the start of the video, and the picture (H, W, 3) uint8 RGB, upright, pixels square.

    Raises:
        ValueError: fps or stride is not allowed.
        DataError: it cannot be read as a video, or no picture can be decoded.

    Warns:
        VideoWarning: at the end, if the video could be read only in part; the message says what is missing.
    """
    rate = None if fps is None else snippet_rate(fps, stride)
    with open_video(path, threads=threads) as source:
        if rate is None:
            for picture in source:
                yield picture.time_s, picture.rgb
        else:
            for snippet in sample(source, rate):
                yield snippet.time_s, snippet.picture.rgb
        _warn(source)


def _warn(source: VideoSource) -> None:
    if source.notes:
        warnings.warn(f"{source.name}: {'; '.join(source.notes)}", VideoWarning, stacklevel=3)
