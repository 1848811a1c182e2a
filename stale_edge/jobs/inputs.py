"""Which videos a run is about, and how to tell that one has not changed since."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stale_edge.bundle.files import sha256_of
from stale_edge.errors import DataError
from stale_edge.video.source import VIDEO_SUFFIXES


@dataclass(frozen=True)
class VideoInput:
    """A video file and the name that its results go by."""

    video: str
    path: Path


@dataclass(frozen=True)
class SourceState:
    """What a file was like: enough to see that it did not change without reading it, and to be sure by reading it."""

    bytes: int
    mtime_ns: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> "SourceState":
        """Look at a file and hash it.

        Raises:
            DataError: it cannot be read.
        """
        try:
            state = path.stat()
            return cls(state.st_size, state.st_mtime_ns, sha256_of(path))
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error

    @classmethod
    def from_json(cls, values: Any) -> "SourceState | None":
        """Read what a record holds; None when it is not of this form."""
        try:
            return cls(int(values["bytes"]), int(values["mtime_ns"]), str(values["sha256"]))
        except (KeyError, TypeError, ValueError):
            return None

    def is_still(self, path: Path) -> bool:
        """Say whether a file is as it was; it is hashed only when its time alone is new."""
        try:
            state = path.stat()
            if state.st_size != self.bytes:
                return False
            return state.st_mtime_ns == self.mtime_ns or sha256_of(path) == self.sha256
        except OSError:
            return False


def find_videos(inputs: Sequence[Path]) -> tuple[VideoInput, ...]:
    """List video files, and those in folders and the folders below, by their names' endings.

    A file that is named itself is taken whatever its name ends in; whether it is a video shows when it is opened.

    Raises:
        DataError: a folder holds no video, or two videos have the same name.
    """
    found: dict[str, Path] = {}
    for given in inputs:
        path = Path(given)
        files = [path]
        if path.is_dir():
            files = sorted(
                file
                for file in path.rglob("*")
                if file.suffix.lower() in VIDEO_SUFFIXES and not file.name.startswith(".") and file.is_file()
            )
            if not files:
                raise DataError(f"{path}: no video in this folder; looked for names that end in {_listed()}")
        for file in files:
            if file.stem in found:
                raise DataError(f"two videos are called {file.stem}: {found[file.stem]} and {file}; rename one")
            found[file.stem] = file
    return tuple(VideoInput(video, path) for video, path in found.items())


def _listed() -> str:
    return ", ".join(VIDEO_SUFFIXES[:6]) + ", …"
