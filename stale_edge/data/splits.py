"""Lists in text files: class splits, and videos for training."""

from collections import Counter
from pathlib import Path

from stale_edge.errors import DataError, cut, reason
from stale_edge.paths import MOST_TEXT_BYTES, read_regular


def read_split(path: Path) -> tuple[str, ...]:
    """Read class names, one per line, in the order of the file; empty lines are ignored.

    The published lists of ActivityNet and THUMOS14 (75/25 and 50/50) have this form: seen classes, which a
    model is trained on, and unseen classes, which are only tested.

    Raises:
        DataError: the file is unreadable, names no class, or names one twice.
    """
    return read_lines(Path(path), kind="split", what="class")


def read_video_list(path: Path) -> tuple[str, ...]:
    """Read names of videos, one per line, in the order of the file; empty lines are ignored.

    Raises:
        DataError: the file is unreadable, names no video, or names one twice.
    """
    return read_lines(Path(path), kind="video list", what="video")


def read_lines(path: Path, *, kind: str, what: str) -> tuple[str, ...]:
    """Read the lines of a list, all different; `kind` and `what` name the file and its lines in errors."""
    try:
        lines = read_regular(path, most=MOST_TEXT_BYTES).decode("utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such {kind} file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable {kind} file: {reason(error)}") from error
    names = tuple(line.strip() for line in lines if line.strip())
    if not names:
        raise DataError(f"{path}: the {kind} names no {what}; write one {what} name a line")
    duplicates = sorted(name for name, count in Counter(names).items() if count > 1)
    if duplicates:
        raise DataError(f"{path}: duplicate {what} names: {cut(', '.join(duplicates), 200)}; keep each once")
    return names
