"""Names that become paths: of videos, classes, files of a bundle, members of an archive."""

import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from stale_edge.errors import DataError, StaleEdgeError, shown

_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
"""Names that Windows gives to devices, whatever they end in."""
_DRIVE = re.compile(r"[A-Za-z]:")


def inside(
    folder: Path, name: str, *, suffix: str = "", nested: bool = False, error: type[StaleEdgeError] = DataError
) -> Path:
    """Turn a name that came from a file or a user into a path in a folder.

    Every name that becomes a path goes through here. The rules are those of all systems at once, so that what is
    written on one can be read on the others.

    Args:
        folder: where the path must stay; links in its own path are followed.
        name: as it was got; nothing in it is bent.
        suffix: put behind the name, as `.json`.
        nested: whether the name may have folders in it, with forward slashes.
        error: what to raise.

    Raises:
        error: the name is empty, absolute or climbs, has a drive letter, a backslash or a control character, is the
            name of a device, ends in a dot or a space, or a link leads out of the folder.
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
    """Refuse names that some file systems take for one: they differ in case or in Unicode's normal form only.

    Args:
        what: the names are of, in the plural, as `videos`.

    Raises:
        error: two names are one; both are named.
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
    """Give names that some file systems take for one the same form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())
