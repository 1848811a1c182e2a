"""Which picture stands for which moment: sampling on a regular grid of presentation times."""

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
    """A video was read only in part, or not as it asks to be."""


class Snippet(NamedTuple):
    """The picture that stands for one step of a video.

    step: i, counted from 0; it covers [i, i + 1) / rate seconds.
    time_s: its middle, (i + 0.5) / rate, at which the picture is on the screen.
    """

    step: int
    time_s: float
    picture: Picture


def snippet_rate(fps: float, stride: int) -> float:
    """Compute snippets a second: a snippet is `stride` frames of `fps` frames a second.

    Raises:
        ValueError: fps is not finite and > 0, or stride not an integer >= 1.
    """
    if isinstance(fps, bool) or not math.isfinite(fps) or fps <= 0:
        raise ValueError(f"fps must be a finite number > 0; got {fps!r}")
    if isinstance(stride, bool) or not isinstance(stride, int) or stride < 1:
        raise ValueError(f"stride must be an integer >= 1; got {stride!r}")
    return fps / stride


def sample(pictures: Iterable[Picture], rate: float) -> Iterator[Snippet]:
    """Take, for each step of 1 / rate seconds, the picture that is on the screen in its middle.

    The middle is never on the border of two pictures where steps are as long as pictures, so that a video sampled at
    its own rate gives each picture once; and what is said of a step is said of its middle, not of its beginning. A
    picture is on the screen from its time until the next one's, however unevenly they come; the first one from the
    start.

    Args:
        pictures: in rising order of time; one at a time is held.
        rate: steps a second, > 0.
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
    if step == 0 and shown is not None:  # shorter than half a step: it is one all the same
        yield Snippet(0, 0.5 / rate, shown)


def watch_video(progress: Progress, source: VideoSource, name: str) -> Callable[[Snippet], None]:
    """Make what reports how far a video has been read, called with every snippet.

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
        path: a video file, or what else `open_video` opens.
        fps: frames a second to sample; None: every picture at its own time.
        stride: of those, one every this many, >= 1; see `sample` for which.
        threads: decoding threads, >= 1.

    Yields:
        The time in seconds from the start of the video, and the picture (H, W, 3) uint8 RGB, upright, pixels square.

    Raises:
        ValueError: fps or stride is not allowed.
        DataError: it cannot be read as a video, or not one picture can be decoded.

    Warns:
        VideoWarning: at the end, when the video could be read only in part; what is missing is said.
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
