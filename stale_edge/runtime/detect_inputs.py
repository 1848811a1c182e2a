"""Inputs of `detect`: feature files, folders of them, data sets, videos, and folders of videos."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stale_edge.data import FeatureFolder, open_data_set, open_features, read_features
from stale_edge.data.feature_files import FEATURE_SUFFIXES, SHARD_SUFFIXES, videos_in_shard
from stale_edge.data.folder import ANNOTATIONS_FILE
from stale_edge.errors import DataError, shown
from stale_edge.report.view import Truth
from stale_edge.segments import find_video


@dataclass(frozen=True)
class Input:
    """One video, as a video file or as its features; plain values that can be sent to another process.

    source: path that the user gave: the file itself, or the folder that contains it.
    path, array: the file, and the array inside it if the file holds several videos.
    is_video: whether `path` is a video file; otherwise it holds features.
    duration_s, truth: length in seconds and annotated actions, if its data set has them.
    problem: why it cannot be used, if already known.
    """

    video: str
    source: Path
    path: Path
    array: str | None = None
    is_video: bool = False
    duration_s: float | None = None
    truth: tuple[Truth, ...] | None = None
    problem: str = ""

    def features(self, *, lazily: bool) -> NDArray[np.floating]:
        """Read the features (T, C), or open them to be read window by window.

        Raises:
            DataError, FeatureContractError, MissingExtraError: as `read_features`.
        """
        return (open_features if lazily else read_features)(self.path, self.array)


def find_inputs(paths: Sequence[Path]) -> tuple[Input, ...]:
    """List the videos at these paths.

    A file without a suffix of feature files counts as a video. A folder gives its features; if it has none, its
    videos.

    Raises:
        DataError: two inputs have the same name, or a folder has neither features nor videos.
    """
    seen: dict[str, Input] = {}
    for path in paths:
        for item in map(_named, _inputs_at(Path(path))):
            if item.video in seen:
                other = seen[item.video].source
                raise DataError(f"two inputs are called {item.video}: {other} and {item.source}; rename one")
            seen[item.video] = item
    return tuple(seen.values())


def _named(item: Input) -> Input:
    """Replace a name that is not valid text, and so cannot be written into a result, and add a problem."""
    try:
        item.video.encode()
    except UnicodeEncodeError:
        name = item.video.encode(errors="backslashreplace").decode()
        return replace(item, video=name, problem=f"the name {shown(name)} has bytes that are no text; rename it")
    return item


def _inputs_at(path: Path) -> Iterator[Input]:
    if path.suffix.lower() in SHARD_SUFFIXES and path.is_file() and (videos := videos_in_shard(path)):
        yield from (Input(video, path, place.path, place.array) for video, place in videos)
        return
    if not path.is_dir():
        yield Input(path.stem, path, path, is_video=path.suffix.lower() not in FEATURE_SUFFIXES)
        return
    if (path / ANNOTATIONS_FILE).is_file():
        data_set = open_data_set(path)
        folder, annotated = data_set.features, data_set.annotations.videos
    else:
        folder, annotated = FeatureFolder(path), {}
    if not folder.videos:
        yield from _videos_in(path)
    for video in folder.videos:
        name = find_video(video, annotated)
        known = annotated[name] if name else None
        duration_s = known.duration_s if known else None
        truth = tuple(Truth(*action) for action in known.actions) if known else None
        try:
            found = folder.source(video)
        except DataError as error:
            yield Input(video, path, path, duration_s=duration_s, truth=truth, problem=str(error))
        else:
            yield Input(video, path, found.path, found.array, duration_s=duration_s, truth=truth)


def _videos_in(folder: Path) -> Iterator[Input]:
    try:
        from stale_edge.video.source import VIDEO_SUFFIXES
    except ModuleNotFoundError:  # without PyAV no file is a video
        suffixes: tuple[str, ...] = ()
    else:
        suffixes = VIDEO_SUFFIXES
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in suffixes and not file.name.startswith(".") and file.is_file()
    )
    if not files:
        raise DataError(
            f"{folder}: no feature file in this folder; allowed: {', '.join(FEATURE_SUFFIXES)}"
            + (", or videos" if suffixes else "; videos need PyAV: pip install 'stale-edge[video]'")
        )
    for file in files:
        yield Input(file.stem, folder, file, is_video=True)
