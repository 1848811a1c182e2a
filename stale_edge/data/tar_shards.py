"""Tar shards of features, in WebDataset's layout: `<video>.npy`, and any other members with the same stem."""

import io
import tarfile
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from stale_edge.errors import DataError, reason, shown
from stale_edge.paths import name_problem

SUFFIXES = (".tar",)
_MEMBER = ".npy"


class _Place(NamedTuple):
    """Position of a member's bytes in the file."""

    offset: int
    size: int


def array_names(path: Path) -> list[str] | None:
    """List the videos of a shard, sorted; None if it is unreadable; `read_array` then raises an error."""
    try:
        return sorted(_places(path))
    except DataError:
        return None


def read_array(path: Path, choose: Callable[[Sequence[str]], str]) -> Any:
    """Read the array of the video that `choose` picks; the rest of the shard is not read.

    Raises:
        DataError: the shard or the member is unreadable.
    """
    places = _places(path)
    place = places[choose(sorted(places))]
    try:
        with path.open("rb") as file:
            file.seek(place.offset)
            content = file.read(place.size)
        return np.load(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # numpy raises a dozen types for damaged bytes
        raise DataError(f"{path}: not a readable shard of features ({reason(error)})") from error


def _places(path: Path) -> Mapping[str, _Place]:
    try:
        state = path.stat()
        return _index(path, state.st_size, state.st_mtime_ns)
    except Exception as error:  # tarfile raises many types for a damaged header
        raise DataError(f"{path}: not a readable tar shard ({reason(error)})") from error


@lru_cache(maxsize=4096)
def _index(path: Path, size: int, mtime_ns: int) -> Mapping[str, _Place]:
    """Read the headers of a shard once; size and time distinguish versions of the file."""
    del mtime_ns
    places = {}
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            problem = name_problem(member.name.removeprefix("./"), nested=True)
            if problem and member.name not in (".", "./"):
                raise tarfile.ReadError(f"its member {shown(member.name)} {problem}; make the shard anew")
            if member.isfile() and member.name.endswith(_MEMBER):
                if member.offset_data + member.size > size:
                    raise tarfile.ReadError(f"cut short in {member.name}")
                video = Path(member.name).name.removesuffix(_MEMBER)
                if video in places:
                    raise tarfile.ReadError(f"the video {shown(video)} stands in it twice; keep it once")
                places[video] = _Place(member.offset_data, member.size)
    return MappingProxyType(places)
