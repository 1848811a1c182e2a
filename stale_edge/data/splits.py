"""Class splits: which classes a model is trained on, and which it first sees when it is asked for them."""

from pathlib import Path

from stale_edge.errors import DataError


def read_split(path: Path) -> tuple[str, ...]:
    """Read class names, one a line, in the order of the file; empty lines are passed over.

    The published lists of ActivityNet and THUMOS14 (75/25 and 50/50) have this form.

    Raises:
        DataError: the file is unreadable, names no class, or names one twice.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such split file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable split file: {error}") from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise DataError(f"{path}: the split names no class; write one class name a line")
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise DataError(f"{path}: duplicate class names: {', '.join(duplicates)}; keep each once")
    return tuple(names)
