"""Atomic writing of files and folders: a kill at any moment leaves the old one or the new one whole.

`stale_edge.bundle.locks` limits writing to one process and removes leftovers.
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
    """Describe what is wrong with a file whose size and hash are known; None: nothing."""
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
    """Write the parts in order to a file beside the target, flush it to the disk, then rename it to the target.

    Raises:
        OSError: the folder does not exist, is full or not writable; the error names the file, and an old file is
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
    """Make an empty folder on the target's file system, with a name that cannot be confused with the target.

    The target's lock is held until the block ends. Leftovers of killed writers are removed first. At the end of the
    block, anything under the folder's name is removed.

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
    """Put a prepared folder in the target's place; an old folder moves to the prepared one's former place.

    Linux and macOS exchange the two in one step. Other systems, and file systems that cannot exchange, move the old
    folder away first; a kill at that moment leaves it whole as `.NAME.*.old`, and the next writer puts it back.
    Windows refuses while a reader has a file open, so the move is tried again for a while.

    Raises:
        BusyError: another process has taken over the lock that `folder_beside` held for the prepared folder.
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
    """Add the file name to file system errors that have none, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def link_or_copy(source: Path, target: Path) -> None:
    """Make the same bytes available under a second name: a hard link where the file system has them, else a copy."""
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
    """Exchange two names in one step; False if the system or the file system cannot."""
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
