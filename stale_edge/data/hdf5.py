"""HDF5 files of features; h5py is imported only when such a file is opened."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stale_edge.errors import DataError, MissingExtraError, StaleEdgeError, reason, shown
from stale_edge.paths import MOST_INFLATED_BYTES

SUFFIXES = (".h5", ".hdf5")


def array_names(path: Path) -> list[str] | None:
    """List the datasets of a file; a group that holds one dataset, or one called `features`, counts as one.

    Returns:
        Names at the top of the file, sorted; None if the file is unreadable; `read_array` then raises an error.

    Raises:
        MissingExtraError: h5py is not installed.
    """
    h5py = _import_h5py()
    try:
        with h5py.File(path, "r") as file:
            return sorted(name for name in file if _dataset(h5py, file, name) is not None)
    except Exception:  # h5py raises many types for a damaged file
        return None


def read_array(path: Path, choose: Callable[[Sequence[str]], str]) -> Any:
    """Read the dataset that `choose` picks among the names that `array_names` lists.

    Raises:
        DataError: the file is unreadable.
        MissingExtraError: h5py is not installed.
    """
    h5py = _import_h5py()
    try:
        with h5py.File(path, "r") as file:
            names = sorted(name for name in file if _dataset(h5py, file, name) is not None)
            chosen = choose(names)
            dataset = _dataset(h5py, file, chosen)
            if dataset.external or dataset.is_virtual:
                raise ValueError(f"{shown(chosen)} lies in another file, which is not followed; copy it into this one")
            if dataset.dtype.kind not in "fiubc":
                raise ValueError(f"{shown(chosen)} must hold numbers; got {dataset.dtype}")
            if dataset.nbytes > max(MOST_INFLATED_BYTES, 100 * path.stat().st_size):
                raise ValueError(f"{shown(chosen)} has {dataset.nbytes:,} bytes, which this file cannot hold")
            return np.asarray(dataset[()])
    except StaleEdgeError:
        raise
    except Exception as error:  # h5py raises many types for a damaged file
        raise DataError(f"{path}: not a readable HDF5 file ({reason(error)})") from error


def _dataset(h5py: Any, group: Any, name: str) -> Any:
    """Return the dataset that a name in a file stands for, or None; links into other files are not followed."""
    if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
        return None
    item = group[name]
    if isinstance(item, h5py.Dataset):
        return item
    if not isinstance(item, h5py.Group):
        return None
    own = [name for name in item if not isinstance(item.get(name, getlink=True), h5py.ExternalLink)]
    inside = {name: item[name] for name in own if isinstance(item[name], h5py.Dataset)}
    return inside.get("features", next(iter(inside.values())) if len(inside) == 1 else None)


def _import_h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError('HDF5 features need h5py: pip install "stale-edge[hdf5]"') from error
    return h5py
