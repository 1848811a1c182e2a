"""Video to snippet features: decode, prepare, encode in batches, in constant memory."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from stale_edge.config import ExtractConfig
from stale_edge.segments import FloatArray
from stale_edge.video.sampling import Snippet, sample, snippet_rate
from stale_edge.video.source import VideoSource, open_video


class FrameEncoder(Protocol):
    """Interface that turns pictures into features; `stale_edge.runtime.VisualEncoder` has it."""

    @property
    def embed_dim(self) -> int:
        """C, the width of one feature."""
        ...

    def preprocess(self, picture: NDArray[np.uint8]) -> FloatArray:
        """Prepare one picture (H, W, 3) uint8 RGB; gives (3, height, width) float32."""
        ...

    def embed(self, pixels: FloatArray) -> FloatArray:
        """Encode prepared pictures (N, 3, height, width); gives (N, C) float32."""
        ...


@dataclass
class Timings:
    """Seconds by stage; decoding includes the conversion to RGB, encoding the preprocessing."""

    decode_s: float = 0.0
    encoder_s: float = 0.0


class VideoFeatures(NamedTuple):
    """The features of one video.

    features: (T, C) float32, one row per snippet.
    duration_s: length of the part that could be read, in seconds.
    span_s: seconds that the T snippets cover, T * stride / fps; pass it to `Localizer.detect` as the duration, so that
        segments are in the video's own time. It differs from `duration_s` by less than a snippet.
    timings: seconds by stage.
    notes: parts that could not be read, one sentence each.
    """

    features: FloatArray
    duration_s: float
    span_s: float
    timings: Timings
    notes: tuple[str, ...]


def extract_features(
    path: Path | str,
    encoder: FrameEncoder,
    *,
    fps: float,
    stride: int,
    batch: int = ExtractConfig.batch,
    threads: int = 1,
    on_snippet: Callable[[Snippet], None] | None = None,
) -> VideoFeatures:
    """Extract the features of one video.

    Args:
        path: a video file.
        encoder: from `stale_edge.runtime.load_encoder`.
        fps, stride: a snippet is `stride` frames at `fps` frames per second; `sample` says which picture represents it.
        batch: number of pictures encoded together, >= 1.
        threads: decoding threads, >= 1.
        on_snippet: called with every snippet, for example `ThumbnailStrip.add`.

    Raises:
        ValueError: fps, stride or batch is not allowed.
        DataError: it cannot be read as a video, or no picture can be decoded.
    """
    rate = snippet_rate(fps, stride)
    timings = Timings()
    with open_video(path, threads=threads) as source:
        blocks = list(snippet_features(source, encoder, rate=rate, batch=batch, timings=timings, on_snippet=on_snippet))
        features: FloatArray = np.concatenate(blocks)
        return VideoFeatures(features, source.end_s, len(features) / rate, timings, source.notes)


def snippet_features(
    source: VideoSource,
    encoder: FrameEncoder,
    *,
    rate: float,
    batch: int = ExtractConfig.batch,
    timings: Timings | None = None,
    on_snippet: Callable[[Snippet], None] | None = None,
) -> Iterator[FloatArray]:
    """Encode a video snippet by snippet, in order; a live source with `batch=1` gives each at once.

    Args:
        source: an opened video; it is read to its end.
        rate: snippets per second, from `snippet_rate`.
        batch: number of pictures encoded together, >= 1.
        timings: seconds are added to it.
        on_snippet: called with every snippet before encoding; its time counts as decoding.

    Yields:
        (n, C) float32, 1 <= n <= batch.

    Raises:
        ValueError: batch < 1.
        DataError: no picture can be decoded.
    """
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise ValueError(f"batch must be an integer >= 1; got {batch!r}")
    spent = Timings() if timings is None else timings
    prepared: list[FloatArray] = []
    snippets = sample(source, rate)
    while True:
        start = time.perf_counter()
        snippet = next(snippets, None)
        picture = None if snippet is None else snippet.picture.rgb
        if snippet is not None and on_snippet is not None:
            on_snippet(snippet)
        decoded = time.perf_counter()
        spent.decode_s += decoded - start
        if picture is not None:
            prepared.append(encoder.preprocess(picture))
        features = None
        if len(prepared) == batch or (picture is None and prepared):
            features = encoder.embed(np.stack(prepared))
            prepared.clear()
        spent.encoder_s += time.perf_counter() - decoded
        if features is not None:
            yield features
        if picture is None:
            return
