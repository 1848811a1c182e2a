"""Where live snippets come from: files read as if live, pipes, cameras and network streams."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from stale_edge.bundle import FeatureContract
from stale_edge.data import open_features
from stale_edge.data.feature_files import FEATURE_SUFFIXES
from stale_edge.errors import DataError, FeatureContractError
from stale_edge.runtime.contract import check_spec_near, checked_features, implied_duration_s
from stale_edge.segments import FloatArray

if TYPE_CHECKING:
    from stale_edge.runtime.video_reader import VideoReader

PIPE = "-"
_NPY_MAGIC = b"\x93NUMPY"
_NOTHING: Callable[[], tuple[str, ...]] = tuple


class Incoming(NamedTuple):
    """One incoming snippet: its number from 0, and a function that computes its features (C,) when needed."""

    step: int
    features: Callable[[], FloatArray]


class Peekable(Protocol):
    """Standard input as Python opens it: its next bytes can be read without taking them."""

    def peek(self, size: int = 0, /) -> bytes:
        """Return the next bytes without taking them."""
        ...

    def read(self, size: int = -1, /) -> bytes:
        """Read `size` bytes, fewer only at the end."""
        ...

    def read1(self, size: int = -1, /) -> bytes:
        """Read the bytes available now, at most `size`."""
        ...


@dataclass(frozen=True)
class LiveSource:
    """An opened source; iterate over `snippets` once.

    name: name used in messages.
    snippet_s: seconds per snippet.
    snippets: in rising order of `step`; may block until more comes.
    is_pipe: it waits for its reader, so nothing is lost when the reader is slow.
    notes: problems of the source, one sentence each; complete at the end.
    shortfall: note that the source ended before the end it announces, empty where it did not; no problem if it was
        stopped.
    close: closes the file or device.
    """

    name: str
    snippet_s: float
    snippets: Iterator[Incoming]
    is_pipe: bool = False
    notes: Callable[[], tuple[str, ...]] = _NOTHING
    shortfall: Callable[[], str] = str
    close: Callable[[], None] = lambda: None


def open_live(
    source: str,
    reader: "VideoReader",
    *,
    snippet_s: float | None = None,
    input_format: str | None = None,
    pipe: Peekable | None = None,
) -> LiveSource:
    """Open a live source.

    Args:
        source: a feature file; a video file; `-`, a pipe with a video or with an `.npy` stream (its header, then rows
            until it ends, however many the header speaks of); else whatever PyAV opens: a URL, a device.
        reader: knows the feature contract, and opens the visual encoder where the source is a video.
        snippet_s: seconds per snippet of features; None: stride / fps of the contract.
        input_format: FFmpeg's name of the format, if it cannot be guessed; `/dev/video*` is opened as `v4l2`.
        pipe: what `-` reads from.

    Raises:
        DataError: it cannot be opened.
        BundleError: it is a video, and there is no encoder.
        FeatureContractError: features or encoder do not match the contract, or the length of a snippet is unknown.
        ModuleNotFoundError: a video without PyAV.
    """
    contract = reader.contract
    if source == PIPE:
        if pipe is None:
            raise DataError("-: there is no standard input to read")
        beginning = pipe.peek(len(_NPY_MAGIC))
        if not beginning:
            raise DataError("-: nothing came through the pipe")
        if beginning.startswith(_NPY_MAGIC):
            seconds = _feature_snippet_s(contract, snippet_s)
            return LiveSource(PIPE, seconds, _numbered(_rows(pipe, contract)), is_pipe=True)
        return _open_video(_Pipe(pipe), reader, input_format=input_format)
    path = Path(source)
    if path.suffix.lower() in FEATURE_SUFFIXES:
        check_spec_near(contract, path)
        rows = iter(open_features(path))
        return LiveSource(source, _feature_snippet_s(contract, snippet_s), _numbered(rows))
    is_place = "://" in source or source.startswith("/dev/") or input_format is not None
    if source.startswith("/dev/video") and input_format is None:
        input_format = "v4l2"
    return _open_video(source if is_place and not path.is_file() else path, reader, input_format=input_format)


def _open_video(opened: Any, reader: "VideoReader", *, input_format: str | None) -> LiveSource:
    from stale_edge.video import SimilarPictures, Snippet, open_video, prepare_fast, sample, snippet_rate

    encoder = reader.opened
    rate = snippet_rate(*reader.sampling)
    fast = reader.contract.preprocessing == "fast"
    video = open_video(opened, threads=reader.threads, container_format=input_format, only_at=rate if fast else None)
    similar = None if reader.skip_similar is None else SimilarPictures(encoder.preprocess, reader.skip_similar)
    last: FloatArray | None = None

    def features(snippet: Snippet) -> FloatArray:
        nonlocal last
        picture = snippet.picture
        pixels = prepare_fast(picture, encoder.preprocess) if fast else encoder.preprocess(picture.rgb)
        if last is None or similar is None or similar.is_new(pixels):
            last = encoder.embed(pixels[None])[0]
        return last

    def encoded(snippet: Snippet) -> Incoming:
        return Incoming(snippet.step, lambda: features(snippet))

    return LiveSource(
        video.name,
        1 / rate,
        (encoded(snippet) for snippet in sample(video, rate)),
        is_pipe=isinstance(opened, _Pipe),
        notes=lambda: tuple(note for note in video.notes if note != video.shortfall),
        shortfall=lambda: video.shortfall,
        close=video.close,
    )


def _feature_snippet_s(contract: FeatureContract, snippet_s: float | None) -> float:
    seconds = implied_duration_s(contract, 1) if snippet_s is None else snippet_s
    if seconds is None:
        raise FeatureContractError(
            "nobody says how long a snippet is: the bundle's feature contract has no fps and stride; "
            "give --snippet SECONDS"
        )
    return seconds


def _numbered(rows: Iterator[Any]) -> Iterator[Incoming]:
    for step, row in enumerate(rows):
        yield Incoming(step, partial(np.asarray, row))


def _rows(pipe: Peekable, contract: FeatureContract) -> Iterator[FloatArray]:
    """Read an `.npy` stream row by row until it ends."""
    try:
        version = np.lib.format.read_magic(pipe)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran_order, dtype = read_header(pipe)
    except ValueError as error:
        raise DataError(f"-: not an .npy stream: {error}") from error
    if len(shape) != 2 or fortran_order or dtype.hasobject:
        raise DataError(f"-: an .npy stream of features must be (T, C) in C order; got {dtype} {shape}")
    checked_features(np.zeros((1, shape[1]), dtype), contract, any_length=True)  # type and width, before rows come
    size = shape[1] * dtype.itemsize
    while row := pipe.read(size):
        if len(row) < size:
            raise DataError(f"-: the stream ended within a row: {len(row)} of {size} bytes")
        yield np.frombuffer(row, dtype)


class _Pipe:
    """A named pipe object for FFmpeg that returns the bytes available instead of waiting for a full buffer."""

    name = PIPE

    def __init__(self, pipe: Peekable) -> None:
        self._pipe = pipe

    def __str__(self) -> str:
        return self.name

    def read(self, size: int) -> bytes:
        """Read at most `size` bytes; none at the end."""
        return self._pipe.read1(size)
