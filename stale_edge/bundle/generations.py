"""Reading a folder that may be replaced at the same time: all files come from one generation, old or new.

A writer never changes a file of a bundle: it makes a new folder beside the old one and then replaces the old one, in
one step on Linux and macOS. A reader opens the manifest first and then each file that it names, so it may begin in the
old folder and end in the new one. Hence the rule: read the manifest, read the files (each is checked against its
hash), read the manifest again. If the manifest is the same, all files came from one generation. If not, or if it is
missing while a writer works (Windows needs two steps), the data is discarded and reading starts again.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from stale_edge.bundle.locks import is_locked
from stale_edge.errors import BusyError
from stale_edge.paths import MOST_MANIFEST_BYTES, read_regular

T = TypeVar("T")

_TRIES = 40
_PAUSE_S = 0.05


def in_one_generation(folder: Path | str, read: Callable[[], T], *, manifest: str = "manifest.json") -> T:
    """Run a function that reads a folder, and run it again if the folder was replaced during the run.

    Args:
        folder: a bundle, an encoder, or another folder that is replaced as a whole.
        read: reads the folder, and raises an error if something is wrong with it.
        manifest: the file that differs between generations.

    Raises:
        BusyError: the folder is replaced faster than it can be read.
        Any error of `read`, if the folder was not replaced.
    """
    path = Path(folder) / manifest
    for attempt in range(_TRIES):
        before = _content(path)
        try:
            result = read()
        except Exception:
            after = _content(path)
            between_two_steps = after is None and is_locked(Path(folder))
            if (after == before and not between_two_steps) or attempt == _TRIES - 1:
                raise
        else:
            if _content(path) == before:
                return result
        time.sleep(min(_PAUSE_S, 0.002 * attempt))
    raise BusyError(f"{folder}: it was replaced {_TRIES} times while it was read; try again when its writers are done")


def _content(path: Path) -> bytes | None:
    try:
        return read_regular(path, most=MOST_MANIFEST_BYTES)
    except OSError:
        return None
