"""Files that a run over many inputs writes for users and for its next start: records, and one line per error."""

import json
import os
from pathlib import Path
from typing import Any

from stale_edge.bundle.files import naming, write_file_atomically
from stale_edge.bundle.manifest import is_sealed, sealed_text
from stale_edge.jobs.inputs import SourceState
from stale_edge.paths import MOST_TEXT_BYTES, read_regular

ERRORS_FILE = "errors.jsonl"
_SEAL = "record_sha256"
"""Key of a record's seal; records of older versions have none."""


class ErrorLog:
    """`errors.jsonl`: one line for every input that failed in this run; there is no file if none failed."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / ERRORS_FILE
        self.path.unlink(missing_ok=True)

    def add(self, video: str, path: str, error: str) -> None:
        """Append a line and flush it to the disk, so that a kill loses no line."""
        line = json.dumps({"video": video, "path": path, "error": error})
        with naming(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())


def write_record(path: Path, source: SourceState, values: dict[str, Any]) -> None:
    """Write an input's results and its state atomically."""
    state = {"bytes": source.bytes, "mtime_ns": source.mtime_ns, "sha256": source.sha256}
    write_file_atomically(path, sealed_text({**values, "source": state}, seal=_SEAL).encode())


def read_record(path: Path) -> dict[str, Any] | None:
    """Read a record; None: it is missing or damaged, so the work is done again."""
    try:
        content = read_regular(path, most=MOST_TEXT_BYTES)
        values = json.loads(content)
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or (_SEAL in values and not is_sealed(content, seal=_SEAL)):
        return None
    return values


def still_holds(record: dict[str, Any] | None, source: Path, wanted: dict[str, Any]) -> bool:
    """Check whether a record is from the same work on the same file, so nothing is left to do."""
    if record is None or any(record.get(key) != value for key, value in wanted.items()):
        return False
    state = SourceState.from_json(record.get("source"))
    return state is not None and state.is_still(source)
