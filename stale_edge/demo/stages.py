"""What every demo needs: a folder of its own, and a clock for its stages."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stale_edge.errors import DataError

_STARTED_FILE = "demo.started"


def make_room(out: Path) -> None:
    """Empty the folder of an earlier demo; touch nothing else.

    Raises:
        DataError: `out` holds something that is no demo.
    """
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / _STARTED_FILE).is_file())):
        raise DataError(f"{out} exists and holds no demo; give a folder that is empty or does not exist yet")
    if out.is_dir():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    (out / _STARTED_FILE).write_text("stale-edge demo writes into this folder and may replace it.\n", encoding="utf-8")


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Note how long a stage took, in seconds."""
    started = time.monotonic()
    yield
    seconds[stage] = round(time.monotonic() - started, 2)
