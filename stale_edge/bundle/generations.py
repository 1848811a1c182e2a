"""Reading a folder that somebody may replace meanwhile: one generation or the other, never files of both.

A writer never changes a file of a bundle: it makes a new folder beside the old one and puts it in its place, in one
step on Linux and macOS. A reader opens the manifest first and then, one after the other, the files that it names, so
it may begin in the old folder and end in the new one. Hence the rule: read the manifest, read the files (each is held
against its hash), read the manifest again. If it is the same, everything came from one generation; if not, or if it is
missing while a writer is at work (Windows needs two steps), what was read is thrown away and reading starts over.
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
    """Run what reads a folder, and run it again whenever the folder was replaced meanwhile.

    Args:
        folder: a bundle, an encoder, or another folder that is replaced as a whole.
        read: reads what it needs, and raises what is wrong with it.
        manifest: the file that differs between generations.

    Raises:
        BusyError: the folder is replaced faster than it can be read.
        Whatever `read` raises for a folder that stays as it is.
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
