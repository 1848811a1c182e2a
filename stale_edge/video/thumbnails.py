"""A strip of small pictures spread over a video whose length is not known beforehand, in constant memory."""

import io
from typing import NamedTuple

from PIL import Image

from stale_edge.video.sampling import Snippet

HEIGHT = 90
QUALITY = 70
MOST = 40
"""Largest number of pictures in a strip; it holds at least half as many if the video has enough snippets."""


class StripPicture(NamedTuple):
    """A small picture as the bytes of a JPEG file, and its time in seconds."""

    time_s: float
    jpeg: bytes


class ThumbnailStrip:
    """Collects small pictures while a video is read: all at first, every second one when there are too many."""

    def __init__(self, most: int = MOST) -> None:
        if most < 2:
            raise ValueError(f"a strip must be allowed at least 2 pictures; got {most!r}")
        self._most = most
        self._every = 1
        self._kept: list[StripPicture] = []

    def add(self, snippet: Snippet) -> None:
        """Add the next snippet of the video, or skip it."""
        if snippet.step % self._every:
            return
        if len(self._kept) == self._most:
            self._kept = self._kept[::2]
            self._every *= 2
            if snippet.step % self._every:
                return
        self._kept.append(StripPicture(snippet.time_s, _jpeg(snippet)))

    @property
    def pictures(self) -> tuple[StripPicture, ...]:
        """The pictures kept, by rising time."""
        return tuple(self._kept)


def _jpeg(snippet: Snippet) -> bytes:
    image = Image.fromarray(snippet.picture.rgb)
    width = max(1, round(image.width * HEIGHT / image.height))
    buffer = io.BytesIO()
    image.resize((width, HEIGHT), Image.Resampling.BILINEAR, reducing_gap=2.0).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()
