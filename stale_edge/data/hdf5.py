"""HDF5 files of features; h5py is imported only when one is met."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stale_edge.errors import DataError, MissingExtraError

SUFFIXES = (".h5", ".hdf5")


def array_names(path: Path) -> list[str] | None:
    """List the datasets of a file; a group that holds one dataset, or one called `features`, counts as one.

    Returns:
        Names at the top of the file, sorted; None when the file is unreadable, which `read_array` then explains.

    Raises:
        MissingExtraError: h5py is not installed.
    """
    h5py = _import_h5py()
    try:
        with h5py.File(path, "r") as file:
            return sorted(name for name in file if _dataset(h5py, file[name]) is not None)
    except (OSError, RuntimeError, KeyError):
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
            names = sorted(name for name in file if _dataset(h5py, file[name]) is not None)
            dataset = _dataset(h5py, file[choose(names)])
            return np.asarray(dataset[()])
    except (OSError, RuntimeError, KeyError) as error:
        raise DataError(f"{path}: not a readable HDF5 file ({type(error).__name__}: {error})") from error


def _dataset(h5py: Any, item: Any) -> Any:
    """Return the dataset that an item of a file stands for, or None."""
    if isinstance(item, h5py.Dataset):
        return item
    if not isinstance(item, h5py.Group):
        return None
    inside = {name: item[name] for name in item if isinstance(item[name], h5py.Dataset)}
    return inside.get("features", next(iter(inside.values())) if len(inside) == 1 else None)


def _import_h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError('HDF5 features need h5py: pip install "stale-edge[hdf5]"') from error
    return h5py
