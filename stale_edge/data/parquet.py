"""Parquet files of features, one row per video: `video` (string) and `features` (a list of T lists of C numbers).

pyarrow is imported only when such a file is opened.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from stale_edge.errors import DataError, MissingExtraError, reason, shown

SUFFIXES = (".parquet",)
VIDEO, FEATURES = "video", "features"


def array_names(path: Path) -> list[str] | None:
    """List the videos of a file, sorted; None if it is unreadable; `read_array` then raises an error.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    try:
        return sorted(_rows(path))
    except DataError:
        return None


def read_array(path: Path, choose: Callable[[Sequence[str]], str]) -> Any:
    """Read the features of the video that `choose` picks; only its row group is read.

    Raises:
        DataError: the file is unreadable, or a video's snippets are not all of one width.
        MissingExtraError: pyarrow is not installed.
    """
    parquet = import_parquet()
    rows = _rows(path)
    video = choose(sorted(rows))
    group, row = rows[video]
    try:
        with parquet.ParquetFile(path) as file:
            snippets = file.read_row_group(group, columns=[FEATURES]).column(FEATURES)[row].values
        n_snippets = len(snippets)
        values = snippets.flatten().to_numpy(zero_copy_only=False)
        if n_snippets and len(values) % n_snippets:
            raise ValueError(f"{len(values)} numbers are not {n_snippets} snippets of one width")
        return np.array(values).reshape(n_snippets, -1)  # a copy: Arrow's memory is read-only
    except Exception as error:  # Arrow raises many types for a damaged file
        raise DataError(f"{path}: unreadable features of {shown(video)} ({reason(error)})") from error


def import_parquet() -> Any:
    """Import pyarrow's Parquet module.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError('Parquet features need pyarrow: pip install "stale-edge[parquet]"') from error
    return pyarrow.parquet


def _rows(path: Path) -> Mapping[str, tuple[int, int]]:
    try:
        state = path.stat()
        return _index(path, state.st_size, state.st_mtime_ns)
    except MissingExtraError:
        raise
    except Exception as error:  # Arrow raises many types for a damaged file
        raise DataError(f"{path}: not a readable Parquet file ({reason(error)})") from error


@lru_cache(maxsize=4096)
def _index(path: Path, size: int, mtime_ns: int) -> Mapping[str, tuple[int, int]]:
    """Map each video to its row group and its row there; size and time distinguish versions of the file."""
    del size, mtime_ns
    parquet = import_parquet()
    rows: dict[str, tuple[int, int]] = {}
    with parquet.ParquetFile(path) as file:
        missing = {VIDEO, FEATURES} - set(file.schema_arrow.names)
        if missing:
            raise KeyError(f"there is no column {', '.join(sorted(missing))}")
        for group in range(file.num_row_groups):
            names = file.read_row_group(group, columns=[VIDEO]).column(VIDEO).to_pylist()
            for row, name in enumerate(names):
                if not isinstance(name, str) or name in rows:
                    raise ValueError(f"each row needs its own video; got {shown(name)} in group {group}, row {row}")
                rows[name] = (group, row)
    return MappingProxyType(rows)
