"""Feature files, and their resampling, shared by training and deployment."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from stale_edge.data import hdf5, parquet, tar_shards
from stale_edge.errors import DataError, FeatureContractError, StaleEdgeError, reason, shown
from stale_edge.paths import check_members
from stale_edge.segments import FloatArray, find_video

FEATURE_SUFFIXES = (".npy", ".npz", *hdf5.SUFFIXES, *tar_shards.SUFFIXES, *parquet.SUFFIXES)
SHARD_SUFFIXES = (*tar_shards.SUFFIXES, *parquet.SUFFIXES)
"""Suffixes of files that hold many videos, whatever their name."""

_READERS = {suffix: module.read_array for module in (hdf5, tar_shards, parquet) for suffix in module.SUFFIXES}
_LISTERS = {suffix: module.array_names for module in (tar_shards, parquet) for suffix in module.SUFFIXES}


def resample(features: NDArray[np.floating], length: int) -> FloatArray:
    """Resample features to another number of snippets by linear interpolation.

    Snippet i of T covers [i, i + 1) / T of the video; values are interpolated between the centres of snippets and held
    constant before the first centre and after the last. This is `torch.nn.functional.interpolate(mode="linear",
    align_corners=False)`, as in the public code (stale_lib/stale_dataloader.py, loadFeature), in NumPy alone.

    Args:
        features: (T, C) floating, T >= 1, C >= 1.
        length: number of snippets in the result, >= 1.

    Returns:
        (length, C) float32; equal to `features` if T == length, and may then share their memory.

    Raises:
        ValueError: length is not a positive integer.
        FeatureContractError: (a ValueError) features are not of floating type and shape (T, C), or have no snippet.
    """
    if isinstance(length, bool) or not isinstance(length, int | np.integer) or length < 1:
        raise ValueError(f"length must be an integer >= 1; got {shown(length)}")
    _require_feature_array(features, "features")
    n_snippets = features.shape[0]
    if n_snippets == length:
        return np.ascontiguousarray(features, dtype=np.float32)
    position = np.maximum((np.arange(length) + 0.5) * (n_snippets / length) - 0.5, 0.0)
    left = np.minimum(position.astype(np.int64), n_snippets - 1)
    right = np.minimum(left + 1, n_snippets - 1)
    weight = (position - left).astype(np.float32)[:, None]  # (length, 1)
    values = np.asarray(features, dtype=np.float32)
    resampled: FloatArray = values[left] * (1 - weight) + values[right] * weight  # (length, C)
    return resampled


def read_features(path: Path, array: str | None = None) -> FloatArray:
    """Read the features of one video from a file of `FEATURE_SUFFIXES`; nothing is unpickled.

    In a file with several arrays, one must be named `features` or like the file's stem, or `array` must choose one.

    Args:
        path: file with (T, C) floating values; float16 and float64 become float32.
        array: name of the array inside an `.npz` or HDF5 file; None: the only one, `features`, or the file's stem.

    Returns:
        (T, C) float32, finite, T >= 1, C >= 1.

    Raises:
        DataError: the file is missing, unreadable, of another format, or it is unclear which array is meant.
        FeatureContractError: the array is empty, not floating, not two-dimensional, or has values that are not finite.
        MissingExtraError: an HDF5 file without h5py.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in FEATURE_SUFFIXES:
        raise DataError(f"{path}: not a feature file; allowed: {', '.join(FEATURE_SUFFIXES)}")
    if not path.is_file():
        raise DataError(f"{path}: no such feature file")

    def choose(names: Sequence[str]) -> str:
        return _choose_array(names, path, array)

    return check_features(_read_array(path, choose), str(path))


def open_features(path: Path, array: str | None = None) -> NDArray[np.floating]:
    """Open the features of one video without reading them all, to read one window after the other.

    An `.npy` file becomes a read-only memory map, whose values the caller must check. Other formats are read
    whole, as by `read_features`.

    Args:
        path: as in `read_features`.
        array: as in `read_features`.

    Returns:
        (T, C) floating, T >= 1, C >= 1.

    Raises:
        DataError, FeatureContractError, MissingExtraError: as `read_features`.
    """
    path = Path(path)
    if path.suffix.lower() != ".npy" or not path.is_file():
        return read_features(path, array)
    try:
        mapped: Any = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # numpy raises a dozen types for a damaged header
        raise DataError(f"{path}: not a readable feature file ({reason(error)})") from error
    _require_feature_array(mapped, str(path))
    features: NDArray[np.floating] = mapped
    return features


def _read_array(path: Path, choose: Callable[[Sequence[str]], str]) -> Any:
    read = _READERS.get(path.suffix.lower())
    if read is not None:
        return read(path, choose)
    try:
        with path.open("rb") as file:
            if not file.read(8).startswith((b"\x93NUMPY", b"PK")):
                # numpy treats any other content as a pickle, and its message would advise unsafe loading.
                raise DataError(f"{path}: not a readable feature file: its content is not in a format of numpy")
            file.seek(0)
            content = np.load(file, allow_pickle=False)
            if not isinstance(content, NpzFile):
                return content
            if content.zip is not None:
                check_members(content.zip)
            return content[choose(content.files)]
    except StaleEdgeError:
        raise
    except Exception as error:  # numpy and zipfile raise a dozen types for a damaged file
        raise DataError(f"{path}: not a readable feature file ({reason(error)})") from error


def _choose_array(names: Sequence[str], path: Path, array: str | None) -> str:
    listed = ", ".join(names) or "none"
    if array is not None:
        if array not in names:
            raise DataError(f"{path}: there is no array {shown(array)}; the file holds: {listed}")
        return array
    for name in ("features", path.stem):
        if name in names:
            return name
    if len(names) != 1:
        raise DataError(
            f"{path}: it is not clear which array holds the features; the file holds: {listed}. "
            f"Keep one, or call one 'features' or {shown(path.stem)}"
        )
    return names[0]


def check_features(features: Any, source: str, *, channels: int | None = None) -> FloatArray:
    """Check one video's features and convert them to float32.

    Args:
        features: must be an array (T, C) of floating type, finite, not empty.
        source: file or name used in messages.
        channels: the required width C; None: any.

    Raises:
        FeatureContractError: a check failed; the message names `source`, the actual and the allowed value.
    """
    _require_feature_array(features, source)
    if channels is not None and features.shape[1] != channels:
        raise FeatureContractError(
            f"{source}: features must have C = {channels} channels; got shape {features.shape} (T, C)"
        )
    with np.errstate(over="ignore"):  # a float64 too large for float32 becomes infinite and is named below
        values = np.ascontiguousarray(features, dtype=np.float32)
    if not np.isfinite(values).all():
        snippet, channel = np.argwhere(~np.isfinite(values))[0]
        raise FeatureContractError(
            f"{source}: features must be finite; got {features[snippet, channel]} at snippet {snippet}, "
            f"channel {channel}; extract the features of this video again"
        )
    return values


def _require_feature_array(features: Any, source: str) -> None:
    if not isinstance(features, np.ndarray) or features.ndim != 2:
        shape = getattr(features, "shape", type(features).__name__)
        raise FeatureContractError(f"{source}: features must be an array of shape (T, C); got {shape}")
    if not np.issubdtype(features.dtype, np.floating):
        raise FeatureContractError(
            f"{source}: features must be float32 or float16; got {features.dtype}; convert them before saving"
        )
    if 0 in features.shape:
        raise FeatureContractError(
            f"{source}: features are empty; got shape {features.shape}, at least one snippet and one channel are needed"
        )


class FeatureSource(NamedTuple):
    """Place of a video's features: a file, and the array inside it (None: the file holds only this video)."""

    path: Path
    array: str | None


class FeatureFolder:
    """The features of a data set: a folder with one file per video, or with HDF5 files or shards of many videos.

    Subfolders are read too. Opening lists files and the names inside HDF5 files; features are read by `load`.
    A file holds one video if it has one array, or an array named `features` or like the file. Any other HDF5 file, and
    an HDF5 file that is alone in the folder, holds one video under each of its names.

    Raises:
        DataError: the folder is missing.
        MissingExtraError: it holds HDF5 files and h5py is not installed.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such feature folder")
        files = sorted(
            path
            for path in self.root.rglob("*")
            if path.suffix.lower() in FEATURE_SUFFIXES and not path.name.startswith(".") and path.is_file()
        )
        self._sources: dict[str, list[FeatureSource]] = {}
        for path in files:
            for video, source in _videos_of(path, alone=len(files) == 1):
                self._sources.setdefault(video, []).append(source)

    @property
    def videos(self) -> tuple[str, ...]:
        """Names of the videos as in the files, sorted."""
        return tuple(sorted(self._sources))

    def __contains__(self, video: object) -> bool:
        return isinstance(video, str) and find_video(video, self._sources) is not None

    def __len__(self) -> int:
        return len(self._sources)

    def find(self, video: str) -> str | None:
        """Find the name of a video's features in the files, with or without the prefix `v_`; None: there are none."""
        return find_video(video, self._sources)

    def sources(self, video: str) -> tuple[FeatureSource, ...]:
        """List every place of a video's features; more than one is an error in the data set."""
        name = self.find(video)
        return () if name is None else tuple(self._sources[name])

    def load(self, video: str, *, channels: int | None = None) -> FloatArray:
        """Read one video's features, (T, C) float32, finite.

        Args:
            video: its name, with or without the prefix `v_`.
            channels: the required width C; None: any.

        Raises:
            DataError: there are no features, more than one file has them, or the file is unreadable.
            FeatureContractError: see `check_features`; the message names the file.
        """
        source = self.source(video)
        return check_features(read_features(*source), str(source.path), channels=channels)

    def open(self, video: str) -> NDArray[np.floating]:
        """Open one video's features without reading them all if the file allows it; see `open_features`.

        Raises:
            DataError, FeatureContractError: as `load`.
        """
        return open_features(*self.source(video))

    def source(self, video: str) -> FeatureSource:
        """Return the place of one video's features.

        Raises:
            DataError: there is none, or more than one.
        """
        sources = self.sources(video)
        if not sources:
            raise DataError(f"{self.root}: no features of video {shown(video)}; expected a file such as {video}.npy")
        if len(sources) > 1:
            listed = ", ".join(str(source.path.relative_to(self.root)) for source in sources)
            raise DataError(f"{self.root}: several files hold features of video {shown(video)}: {listed}; keep one")
        return sources[0]


def _videos_of(path: Path, *, alone: bool) -> list[tuple[str, FeatureSource]]:
    own = [(path.stem, FeatureSource(path, None))]
    suffix = path.suffix.lower()
    if suffix in SHARD_SUFFIXES:
        return videos_in_shard(path) or own
    if suffix not in hdf5.SUFFIXES:
        return own
    names = hdf5.array_names(path)
    if names is None or {"features", path.stem} & set(names) or (len(names) <= 1 and not (alone and names)):
        return own
    return [(name, FeatureSource(path, name)) for name in names]


def videos_in_shard(path: Path) -> list[tuple[str, FeatureSource]]:
    """List the videos of a file of `SHARD_SUFFIXES`; none if it is unreadable; reading it then raises an error.

    Raises:
        MissingExtraError: a Parquet file without pyarrow.
    """
    names = _LISTERS[path.suffix.lower()](path)
    return [(name, FeatureSource(path, name)) for name in names or ()]
