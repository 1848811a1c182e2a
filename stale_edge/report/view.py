"""What a page can show of one video beside its detections."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from stale_edge.segments import FloatArray


class Thumbnail(NamedTuple):
    """A small picture of the video at `time_s`, as the bytes of a JPEG file."""

    time_s: float
    jpeg: bytes


class ClassCurves(NamedTuple):
    """How sure the network is of each class at each moment.

    names: of K classes.
    scores: (K, N) in [0, 1]; column n stands for [n, n + 1) / N of the video.
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
    """One video of a page; whatever is left out is not shown.

    source: where the page finds the video, relative to the page or absolute; it is linked, not embedded.
    thumbnails: by rising time, any number; ten to forty look best.
    curves: of any classes; those that have a lane are shown.
    truth: annotated actions; None: unknown, which differs from no actions.
    """

    source: str | None = None
    thumbnails: Sequence[Thumbnail] = ()
    curves: ClassCurves | None = None
    truth: Sequence[Truth] | None = None
