"""Data of one video that a page can show beside its detections."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from stale_edge.segments import FloatArray


class Thumbnail(NamedTuple):
    """A small picture of the video at `time_s`, as the bytes of a JPEG file."""

    time_s: float
    jpeg: bytes


class ClassCurves(NamedTuple):
    """Scores of the classes over time.

    names: of K classes.
    scores: (K, N) in [0, 1]; column n covers [n, n + 1) / N of the video.
    """

    names: tuple[str, ...]
    scores: FloatArray


class Truth(NamedTuple):
    """An annotated action, in seconds."""

    label: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class VideoView:
    """One video of a page; missing parts are not shown.

    source: address of the video, relative to the page or absolute; it is linked, not embedded.
    thumbnails: by rising time, any number; ten to forty look best.
    curves: of any classes; only those with a lane are shown.
    truth: annotated actions; None: unknown (not the same as no actions).
    """

    source: str | None = None
    thumbnails: Sequence[Thumbnail] = ()
    curves: ClassCurves | None = None
    truth: Sequence[Truth] | None = None
