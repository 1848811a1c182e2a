"""Video to snippet features: decode, prepare, encode in batches, in constant memory.

With several workers the next pictures are decoded and prepared while earlier ones are encoded.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from stale_edge.config import ExtractConfig, FeatureSpec, Preprocessing
from stale_edge.segments import FloatArray
from stale_edge.video.preprocess import ClipPreprocess
from stale_edge.video.sampling import Snippet, sample, snippet_rate
from stale_edge.video.similar import SimilarPictures
from stale_edge.video.source import Picture, VideoSource, open_video

_SCALERS = {0: "POINT", 1: "LANCZOS", 2: "BILINEAR", 3: "BICUBIC", 4: "AREA"}
"""FFmpeg's scaler for each of Pillow's filters; it has none for the last."""


class FrameEncoder(Protocol):
    """Interface that turns pictures into features; `stale_edge.runtime.VisualEncoder` has it."""

    @property
    def embed_dim(self) -> int:
        """C, the width of one feature."""
        ...

    preprocess: ClipPreprocess
    """Prepares one picture (H, W, 3) uint8 RGB; gives (3, height, width) float32."""

    def embed(self, pixels: FloatArray) -> FloatArray:
        """Encode prepared pictures (N, 3, height, width); gives (N, C) float32."""
        ...


@dataclass(frozen=True)
class FrameSettings:
    """How the pictures of a video become features.

    Raises:
        ValueError: a value is out of range.
    """

    batch: int = ExtractConfig.batch
    """Number of pictures encoded together, >= 1."""
    workers: int = 1
    """Number of batches encoded at once, and of threads that decode, >= 1."""
    preprocessing: Preprocessing = "exact"
    """`exact`: as transformers prepares pictures; `fast`: by the decoder's scaler, other pictures hardly decoded."""
    skip_similar: float | None = None
    """A picture that has changed by at most this since the last encoded one takes its features (`SimilarPictures`);
    None: every picture is encoded."""

    def __post_init__(self) -> None:
        for name in ("batch", "workers"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be an integer >= 1; got {value!r}")
        FeatureSpec(preprocessing=self.preprocessing, skip_similar=self.skip_similar)  # checks its rules


@dataclass
class Timings:
    """Seconds by stage, and the number of pictures that were encoded.

    decode_s: reading the video; with exact preprocessing also the conversion to RGB. preprocess_s: preparing pictures.
    encoder_s: waiting for the encoder; with several workers it runs during the other two as well.
    """

    decode_s: float = 0.0
    preprocess_s: float = 0.0
    encoder_s: float = 0.0
    n_encoded: int = 0


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
    settings: FrameSettings | None = None,
    on_snippet: Callable[[Snippet], None] | None = None,
) -> VideoFeatures:
    """Extract the features of one video.

    Args:
        path: a video file.
        encoder: from `stale_edge.runtime.load_encoder`, with `at_once` as many as `settings.workers`.
        fps, stride: a snippet is `stride` frames at `fps` frames per second; `sample` says which picture represents it.
        settings: None: the defaults.
        on_snippet: called with every snippet, for example `ThumbnailStrip.add`.

    Raises:
        ValueError: fps or stride is not allowed.
        DataError: it cannot be read as a video, or no picture can be decoded.
    """
    rate = snippet_rate(fps, stride)
    timings, chosen = Timings(), settings or FrameSettings()
    with open_sampled(path, chosen, rate=rate) as source:
        blocks = list(
            snippet_features(source, encoder, rate=rate, settings=chosen, timings=timings, on_snippet=on_snippet)
        )
        features: FloatArray = np.concatenate(blocks)
        return VideoFeatures(features, source.end_s, len(features) / rate, timings, source.notes)


def open_sampled(path: Path | str, settings: FrameSettings, *, rate: float) -> VideoSource:
    """Open a video for `snippet_features` at a rate; errors as in `open_video`."""
    return open_video(path, threads=settings.workers, only_at=rate if settings.preprocessing == "fast" else None)


def snippet_features(
    source: VideoSource,
    encoder: FrameEncoder,
    *,
    rate: float,
    settings: FrameSettings | None = None,
    timings: Timings | None = None,
    on_snippet: Callable[[Snippet], None] | None = None,
) -> Iterator[FloatArray]:
    """Encode a video snippet by snippet, in order, in constant memory.

    Args:
        source: from `open_sampled` with the same settings and rate; it is read to its end.
        rate: snippets per second, from `snippet_rate`.
        settings: None: the defaults.
        timings: seconds are added to it.
        on_snippet: called with every snippet before encoding; its time counts as decoding.

    Yields:
        (n, C) float32, n >= 1.

    Raises:
        DataError: no picture can be decoded.
    """
    chosen, spent = settings or FrameSettings(), Timings() if timings is None else timings
    fast = chosen.preprocessing == "fast"
    similar = None if chosen.skip_similar is None else SimilarPictures(encoder.preprocess, chosen.skip_similar)
    clock = _Clock()
    with _Batches(encoder, chosen) as batches:
        for snippet in sample(source, rate):
            picture = snippet.picture
            if not fast:
                _ = picture.rgb
            if on_snippet is not None:
                on_snippet(snippet)
            spent.decode_s += clock.lap()
            pixels = prepare_fast(picture, encoder.preprocess) if fast else encoder.preprocess(picture.rgb)
            is_new = similar is None or similar.is_new(pixels)
            spent.preprocess_s += clock.lap()
            if is_new:
                spent.n_encoded += 1
                batches.add(pixels)
            else:
                batches.repeat()
            features = list(batches.finished())
            spent.encoder_s += clock.lap()
            yield from features
            clock.lap()  # the caller's time
        spent.decode_s += clock.lap()
        features = list(batches.rest())
        spent.encoder_s += clock.lap()
        yield from features


def prepare_fast(picture: Picture, preprocess: ClipPreprocess) -> FloatArray:
    """Prepare a picture (3, height, width) with FFmpeg's scaler, which filters a little differently from Pillow."""
    height, width = preprocess.resized_shape(*picture.shape)
    scaler = _SCALERS.get(preprocess.resample, "BICUBIC")
    return preprocess.finish(picture.scaled(height, width, interpolation=scaler))


class _Clock:
    def __init__(self) -> None:
        self._last = time.perf_counter()

    def lap(self) -> float:
        """Return the seconds since the last call."""
        before, self._last = self._last, time.perf_counter()
        return self._last - before


class _Batch(NamedTuple):
    pixels: list[FloatArray]
    counts: list[int]
    """Snippets that take the features of each picture, >= 1."""


class _Batches:
    """Encodes batches of pictures in order, several at once where there are several workers."""

    def __init__(self, encoder: FrameEncoder, settings: FrameSettings) -> None:
        self._encoder = encoder
        self._settings = settings
        self._pool = ThreadPoolExecutor(settings.workers) if settings.workers > 1 else None
        self._open = _Batch([], [])
        self._waiting: deque[tuple[Future[FloatArray], list[int]]] = deque()
        self._done: list[FloatArray] = []
        self._last: FloatArray | None = None

    def __enter__(self) -> "_Batches":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def add(self, pixels: FloatArray) -> None:
        """Take the next picture."""
        self._open.pixels.append(pixels)
        self._open.counts.append(1)
        if len(self._open.pixels) == self._settings.batch:
            self._send()

    def repeat(self) -> None:
        """Give the next snippet the features of the picture before."""
        if self._open.counts:
            self._open.counts[-1] += 1
        elif self._waiting:
            self._waiting[-1][1][-1] += 1
        elif self._last is not None:
            self._done.append(self._last)

    def finished(self) -> Iterator[FloatArray]:
        """Give features that are ready; waits while more batches are on their way than there are workers."""
        most = 0 if self._pool is None else self._settings.workers
        while self._waiting and (len(self._waiting) > most or self._waiting[0][0].done()):
            self._receive()
        yield from self._done
        self._done = []

    def rest(self) -> Iterator[FloatArray]:
        """Give all other features."""
        if self._open.pixels:
            self._send()
        while self._waiting:
            self._receive()
        yield from self.finished()

    def _send(self) -> None:
        pixels, counts = np.stack(self._open.pixels), self._open.counts
        self._open = _Batch([], [])
        if self._pool is None:
            ready: Future[FloatArray] = Future()
            ready.set_result(self._encoder.embed(pixels))
            self._waiting.append((ready, counts))
        else:
            self._waiting.append((self._pool.submit(self._encoder.embed, pixels), counts))

    def _receive(self) -> None:
        result, counts = self._waiting.popleft()
        features = result.result()
        self._last = features[-1:]
        self._done.append(np.repeat(features, counts, axis=0))
