"""Files and folders written so that a kill at any moment leaves the old one or the new one whole.

Who may write, and what becomes of leftovers: `stale_edge.bundle.locks`.
"""

import contextlib
import ctypes
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from stale_edge.bundle.locks import beside, holds, sweep, writing
from stale_edge.errors import BundleError, BusyError
from stale_edge.paths import inside

_CHUNK_BYTES = 1 << 20
_RENAMES, _RENAME_PAUSE_S = 200, 0.05
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


def write_file_atomically(path: Path, *content: bytes | memoryview) -> None:
    """Write parts one behind the other beside the target, flush to the disk, then rename over it.

    Raises:
        OSError: the folder does not exist, is full or not writable, which names the file; the old one, if any, is
            untouched.
    """
    temporary = beside(path)
    try:
        with naming(path), temporary.open("xb") as file:
            file.writelines(content)
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

    The target's lock is held until the block ends, and what killed writers of it left is swept first. Whatever stands
    under the folder's name when the block ends is removed.

    Raises:
        BusyError: another process is writing the target.
        OSError: the file system refuses.
    """
    with naming(target), writing(target) as token:
        sweep(target.parent, target)
        folder = beside(target, token=token)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def replace_folder(prepared: Path, target: Path) -> None:
    """Put a prepared folder in the target's place; the old folder, if any, is afterwards where the prepared one was.

    Linux and macOS exchange the two in one step. Elsewhere, and on file systems that cannot, the old folder moves
    aside first; a kill in that instant leaves it whole under the name `.NAME.*.old`, from where the next writer puts it
    back. Windows refuses while a reader has a file open, so that is tried again for a while.

    Raises:
        BusyError: the lock under which `folder_beside` made the prepared folder was taken over meanwhile.
        OSError: the target is a file, or the file system refuses; the old folder is still in its place.
    """
    if prepared.name.endswith(".part") and not holds(target, prepared.name.split(".")[-2]):
        raise BusyError(f"{target}: another process took over its writing, because this one gave no sign of life")
    if not target.exists() or not any(target.iterdir()):
        if os.name == "nt" and target.exists():
            target.rmdir()
        os.rename(prepared, target)
    elif not _exchange(prepared, target):
        aside = beside(target, "old")
        _rename_in_time(target, aside)
        try:
            os.rename(prepared, target)
        except OSError:
            os.rename(aside, target)
            raise
        os.rename(aside, prepared)
    sync_folder(target.parent)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give an error of the file system that names no file, as that of a full disk, the file it is about."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


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


def _rename_in_time(source: Path, target: Path) -> None:
    for _ in range(_RENAMES):
        try:
            os.rename(source, target)
        except PermissionError:
            if os.name != "nt":
                raise
            time.sleep(_RENAME_PAUSE_S)
        else:
            return
    os.rename(source, target)


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
