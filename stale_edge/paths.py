"""Names that become paths (of videos, classes, files of a bundle, members of an archive), and what is read there."""

import errno
import os
import re
import stat
import unicodedata
import zipfile
from collections.abc import Iterable
from pathlib import Path

from stale_edge.errors import DataError, StaleEdgeError, shown

MOST_TEXT_BYTES = 1 << 30
"""A JSON, TOML, CSV or text file that is larger is not read: ActivityNet's annotations have 30 MB."""
MOST_MANIFEST_BYTES = 1 << 26
"""A manifest that is larger is not read: one of 1,000 files has 1 MB."""
MOST_INFLATED_BYTES = 1 << 26
"""Unpacked size in bytes that is allowed for every archive member, at any compression ratio."""

_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *([.:].*)?", re.IGNORECASE)
"""Names that Windows gives to devices, whatever they end in."""
_DRIVE = re.compile(r"[A-Za-z]:")
_ON_WINDOWS = os.name == "nt"
_ARCHIVE_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ARCHIVE_VERSION = 45
"""Newest version of the zip format whose members are read: the one with members of more than 4 GiB."""


def inside(
    folder: Path, name: str, *, suffix: str = "", nested: bool = False, error: type[StaleEdgeError] = DataError
) -> Path:
    """Turn a name that came from a file or a user into a path in a folder.

    Every name that becomes a path goes through here. The rules are those of all systems at once, so that what is
    written on one can be read on the others.

    Args:
        folder: where the path must stay; links in its own path are followed.
        name: used unchanged.
        suffix: appended to the name, for example `.json`.
        nested: whether the name may have folders in it, with forward slashes.
        error: what to raise.

    Raises:
        error: the name is empty, absolute or climbs, has a drive letter, a backslash or a control character, is the
            name of a device, ends in a dot or a space, or a link leads out of the folder; on Windows, it has a colon.
    """
    problem = name_problem(f"{name}{suffix}" if name else "", nested=nested)
    if problem:
        raise error(f"the name {shown(name)} {problem}, so it cannot name a file in {folder}; rename it")
    path = folder / f"{name}{suffix}"
    real = Path(os.path.realpath(path))
    if not real.is_relative_to(os.path.realpath(folder)):
        raise error(f"the name {shown(name)} leads out of {folder}, over a link to {real}; remove the link")
    return path


def name_problem(name: str, *, nested: bool = False) -> str:
    """Say why a name cannot be that of a file in a folder; "" if it can. Links are not looked at: see `inside`."""
    if not name:
        return "is empty"
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        return "has a control character, or bytes that are no text"
    if "\\" in name or _DRIVE.match(name):
        return "has a drive letter or a backslash"
    if _ON_WINDOWS and ":" in name:
        return "has a colon, after which Windows reads the name of a stream inside another file"
    if name.startswith("/"):
        return "is absolute"
    for part in name.split("/"):
        if part in ("", ".", ".."):
            return "climbs out of its folder" if part == ".." else f"has the part {part!r}"
        if part != part.rstrip(" ."):
            return "ends in a dot or a space"
        if _DEVICE.fullmatch(part):
            return "is that of a device on Windows"
    return "has a slash" if "/" in name and not nested else ""


def check_distinct(names: Iterable[str], *, what: str, error: type[StaleEdgeError] = DataError) -> None:
    """Refuse names that are the same file on some file systems: they differ only in case or Unicode normal form.

    Args:
        what: the named things, in the plural, for example `videos`.

    Raises:
        error: two names are the same file; both are named.
    """
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(folded(name), name)
        if other is not name:
            raise error(
                f"two {what} are called {shown(other)} and {shown(name)}, which are one name on some file systems; "
                "rename one"
            )


def folded(name: str) -> str:
    """Fold case and Unicode form, so that names of the same file become equal."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def read_regular(path: Path, *, most: int) -> bytes:
    """Read a whole file, which must be a regular one: a pipe would be waited for, a device may have no end.

    Args:
        most: largest size in bytes; a larger file is refused.

    Raises:
        OSError: it cannot be read, is not a regular file, or is larger; `strerror` says which.
    """
    # Without O_NONBLOCK a pipe that nobody writes to would already stop the opening.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            kind = errno.EISDIR if stat.S_ISDIR(state.st_mode) else errno.EINVAL
            raise OSError(kind, "it is not a regular file", str(path))
        if state.st_size > most:
            raise OSError(errno.EFBIG, f"it has {state.st_size:,} bytes; at most {most:,} are read", str(path))
        return file.read(most + 1)[:most]


def check_members(archive: zipfile.ZipFile) -> None:
    """Refuse a zip archive with members that none of our writers make, or that grow out of proportion when unpacked.

    Features compress to a third, a file of zeros to a thousandth.

    Raises:
        ValueError: a member is encrypted, is packed by another method than deflate, needs a newer zip format, or has
            more than `MOST_INFLATED_BYTES` and more than 100 times its size in the archive.
    """
    for member in archive.infolist():
        name = shown(member.filename)
        if member.flag_bits & 1:
            raise ValueError(f"{name} is encrypted; write it without a password")
        if member.compress_type not in _ARCHIVE_METHODS:
            raise ValueError(
                f"{name} is packed by zip method {member.compress_type}; 0 (stored) and 8 (deflate) are read"
            )
        if member.extract_version > _ARCHIVE_VERSION:
            raise ValueError(f"{name} needs zip {member.extract_version / 10}; up to {_ARCHIVE_VERSION / 10} is read")
        if member.file_size > max(MOST_INFLATED_BYTES, 100 * member.compress_size):
            raise ValueError(
                f"{name} has {member.file_size:,} bytes, packed into {member.compress_size:,}; "
                f"beyond {MOST_INFLATED_BYTES:,} bytes at most 100 times the packed size is unpacked"
            )
