"""Finding the videos of a run, and checking that a file has not changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stale_edge.bundle.files import sha256_of
from stale_edge.errors import DataError
from stale_edge.video.source import VIDEO_SUFFIXES


@dataclass(frozen=True)
class VideoInput:
    """A video file and the name of its results."""

    video: str
    path: Path


@dataclass(frozen=True)
class SourceState:
    """State of a file at one time: size and time for a quick check that it has not changed, and a hash to be sure."""

    bytes: int
    mtime_ns: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> "SourceState":
        """Read a file's state and hash it.

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
        """Read the state in a record; None: it has another form."""
        try:
            return cls(int(values["bytes"]), int(values["mtime_ns"]), str(values["sha256"]))
        except (KeyError, TypeError, ValueError):
            return None

    def is_still(self, path: Path) -> bool:
        """Check whether a file is unchanged; it is hashed only if its size is the same but its time is new."""
        try:
            state = path.stat()
            if state.st_size != self.bytes:
                return False
            return state.st_mtime_ns == self.mtime_ns or sha256_of(path) == self.sha256
        except OSError:
            return False


def find_videos(inputs: Sequence[Path]) -> tuple[VideoInput, ...]:
    """List video files, and the video files in folders and their subfolders, found by file extension.

    A file that is given directly may have any extension; whether it is a video is checked when it is opened.

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
