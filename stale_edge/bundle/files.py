"""Files and folders written so that a kill at any moment leaves the old one or the new one whole."""

import contextlib
import ctypes
import hashlib
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from stale_edge.errors import BundleError
from stale_edge.paths import inside

_CHUNK_BYTES = 1 << 20
_AT_FDCWD = -100
_EXCHANGE = 2  # RENAME_EXCHANGE of Linux and RENAME_SWAP of macOS


def sha256_of(path: Path) -> str:
    """Hash a file in pieces of 1 MiB; lower-case hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def file_problem(folder: Path, name: str, *, size: int, sha256: str) -> str | None:
    """Say what is wrong with a file of a folder that promises its size and hash, or None."""
    try:
        path = inside(folder, name, nested=True, error=BundleError)
    except BundleError as error:
        return str(error)
    try:
        if not path.is_file():
            return f"{name} is missing" if not path.exists() else f"{name} is not a file"
        found = path.stat().st_size
        if found != size:
            return f"{name} has {found} bytes; the manifest says {size}"
        found_sha256 = sha256_of(path)
    except OSError as error:
        return f"{name} cannot be read: {error.strerror or error}"
    return None if found_sha256 == sha256 else f"{name} has changed: sha256 {found_sha256}, the manifest says {sha256}"


def write_file_atomically(path: Path, content: bytes) -> None:
    """Write beside the target, flush to the disk, then rename over it.

    Raises:
        OSError: the folder does not exist, is full or not writable; the old file, if any, is untouched.
    """
    temporary = _beside(path)
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextlib.contextmanager
def folder_beside(target: Path) -> Iterator[Path]:
    """Make an empty folder on the target's file system, named so that nobody takes it for the target.

    Whatever stands under that name when the block ends is removed; a killed process leaves `.NAME.*.part` behind,
    which may be deleted.
    """
    folder = _beside(target)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def replace_folder(prepared: Path, target: Path) -> None:
    """Put a prepared folder in the target's place; the old folder, if any, is afterwards where the prepared one was.

    Linux and macOS exchange the two in one step. Elsewhere, and on file systems that cannot, the old folder moves
    aside first, so a kill in that instant leaves it whole under the name `.NAME.*.part`.

    Raises:
        OSError: the target is a file, or the file system refuses; the old folder is still in its place.
    """
    if not target.exists() or not any(target.iterdir()):
        if os.name == "nt" and target.exists():
            target.rmdir()
        os.rename(prepared, target)
    elif not _exchange(prepared, target):
        aside = _beside(target)
        os.rename(target, aside)
        try:
            os.rename(prepared, target)
        except OSError:
            os.rename(aside, target)
            raise
        os.rename(aside, prepared)
    sync_folder(target.parent)


def link_or_copy(source: Path, target: Path) -> None:
    """Give the same bytes a second name, without copying them where the file system knows hard links."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)
        sync_file(target)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename in it survives a power cut; Windows has no such call."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Flush one file's content to the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")


def _exchange(first: Path, second: Path) -> bool:
    """Swap two names in one step; False where the system or the file system cannot."""
    system: str = sys.platform
    if system not in ("linux", "darwin"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    a, b = os.fsencode(first), os.fsencode(second)
    try:
        if system == "linux":
            return bool(libc.renameat2(_AT_FDCWD, a, _AT_FDCWD, b, _EXCHANGE) == 0)
        return bool(libc.renamex_np(a, b, _EXCHANGE) == 0)
    except AttributeError:
        return False
