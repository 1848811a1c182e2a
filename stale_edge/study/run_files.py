"""One JSON file per run, written atomically, so that a study can be resumed."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stale_edge.bundle.files import write_file_atomically
from stale_edge.bundle.locks import sweep
from stale_edge.errors import DataError
from stale_edge.paths import MOST_TEXT_BYTES, read_regular
from stale_edge.study.study import FinishedRun, Run
from stale_edge.version import __version__

SCHEMA = "stale-edge-study/1"
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class RunFiles:
    """The files `<folder>/<key>.json` of one study."""

    def __init__(self, folder: Path, *, study: str) -> None:
        self.folder = Path(folder)
        sweep(self.folder)
        self.study = study

    def path(self, run: Run) -> Path:
        """Give the path of a run's file."""
        return self.folder / f"{run.key}.json"

    def read(self, run: Run) -> FinishedRun | None:
        """Read a run's result; None if there is no file, or one that is not a JSON object.

        Raises:
            DataError: the file is of another study or of other parameters; the first that differ are named.
        """
        path = self.path(run)
        try:
            document = json.loads(read_regular(path, most=MOST_TEXT_BYTES))
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError):  # cut off by a full disk or a crash; nothing in it can be lost
            return None
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error}") from error
        if not isinstance(document, dict):
            return None
        if document.get("schema") != SCHEMA or document.get("study") != self.study:
            raise DataError(
                f"{path}: not a run of the study {self.study} ({SCHEMA}) but of {document.get('study')!r} "
                f"({document.get('schema')!r}); choose another folder"
            )
        differences = _differences(document.get("parameters"), _plain(run.parameters))
        if differences:
            raise DataError(
                f"{path}: made with other settings ({'; '.join(differences[:3])}); choose another folder, or delete "
                "the file to make the run again"
            )
        result, seconds = document.get("result"), document.get("seconds")
        if not isinstance(result, dict) or not isinstance(seconds, int | float):
            return None
        return FinishedRun(run, result, float(seconds))

    def write(self, finished: FinishedRun) -> None:
        """Write a run's file atomically; a number that is not finite is an error.

        Raises:
            ValueError: the result is no JSON.
            OSError: the file cannot be written.
        """
        document = {
            "schema": SCHEMA,
            "study": self.study,
            "key": finished.run.key,
            "parameters": _plain(finished.run.parameters),
            "result": finished.result,
            "seconds": round(finished.seconds, 3),
            "version": __version__,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        write_file_atomically(self.path(finished.run), text.encode())

    def require_distinct(self, runs: tuple[Run, ...]) -> None:
        """Refuse a plan whose runs would write the same file, or one elsewhere.

        Raises:
            ValueError: a key stands twice or is no file name.
        """
        keys = [run.key for run in runs]
        for key in keys:
            if not _KEY.fullmatch(key):
                raise ValueError(f"a run's key must be letters, digits, '.', '_' and '-'; got {key!r}")
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise ValueError(f"every run needs a key of its own; twice: {', '.join(twice)}")


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert parameters to the form read from JSON: tuples to lists, integer keys to strings."""
    plain: dict[str, Any] = json.loads(json.dumps(values, allow_nan=False))
    return plain


def _differences(old: Any, new: Any, where: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in sorted({*old, *new}):
            found += _differences(old.get(key), new.get(key), f"{where}.{key}" if where else key)
        return found
    return [] if old == new else [f"{where or 'parameters'} was {_short(old)}, is {_short(new)}"]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
