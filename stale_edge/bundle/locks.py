"""Who is writing: one writer at a time for what is replaced as a whole, and what dead writers left behind.

What is being made stands beside its target as `.NAME.TOKEN.part`; a token says machine and process. A writer of a
folder holds `.NAME.lock` beside it, a file that says who it is and whose time it renews twice a minute. A lock is
stale, and is taken over, when its process is gone (on the same machine), or when its time was not renewed for
`STALE_AFTER_S` by the clock of the file system, which is the same for all machines that share the disk. A writer that
slept for so long finds its token gone before it replaces anything, and is refused.
"""

import contextlib
import ctypes
import functools
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stale_edge.errors import BusyError, shown

STALE_AFTER_S = 300.0
"""Longer than a network disk keeps the time of a file from its readers (up to 60 s with NFS)."""
_RENEW_S = 30.0
_POLL_S = 0.02
_FORGOTTEN_S = 86_400.0
"""Leftovers of another machine are removed after a day: whether their writer lives cannot be seen from here."""
_LEFTOVER = re.compile(r"\.(?P<name>.+)\.(?P<token>[0-9a-f]{8}(-\d+-[0-9a-f]{8})?)\.(?P<kind>part|old)")


def beside(target: Path, kind: str = "part", *, token: str = "") -> Path:
    """Name a file or folder on the target's file system that nobody takes for the target: `.NAME.TOKEN.part`."""
    return target.with_name(f".{_short(target.name)}.{token or new_token()}.{kind}")


def lock_path(target: Path) -> Path:
    """Say where the lock of a target lies: beside it, once links are followed."""
    real = Path(os.path.realpath(target))
    return real.with_name(f".{_short(real.name)}.lock")


def new_token() -> str:
    """Make a name for one act of writing: machine, process, chance."""
    return f"{_machine()}-{os.getpid()}-{secrets.token_hex(4)}"


@contextlib.contextmanager
def writing(target: Path, *, wait_s: float = 10.0) -> Iterator[str]:
    """Hold the lock of a target; its folder must exist.

    Args:
        target: the file or folder that is going to be replaced.
        wait_s: how long to wait for another writer.

    Yields:
        The token under which it is held.

    Raises:
        BusyError: another writer holds it still; it is named.
        OSError: the lock cannot be written.
    """
    path, token = lock_path(target), new_token()
    patience = time.monotonic() + wait_s
    while not _take(path, token):
        holder = _holder(path)
        if holder is not None and _is_stale(path, holder):
            _remove(path, holder)
        elif time.monotonic() >= patience:
            raise BusyError(f"{target}: {_said(path, holder)}; wait until it ends, then start again")
        else:
            time.sleep(_POLL_S)
    done = threading.Event()
    renewing = threading.Thread(target=_renew, args=(path, done), daemon=True)
    renewing.start()
    try:
        yield token
    finally:
        done.set()
        renewing.join()
        if holds(target, token):
            path.unlink(missing_ok=True)


def holds(target: Path, token: str) -> bool:
    """Say whether the lock of a target is still the one that was taken under this token."""
    return (_holder(lock_path(target)) or {}).get("token") == token


def is_locked(target: Path) -> bool:
    """Say whether somebody holds the lock of a target, alive or not."""
    return lock_path(target).exists()


def sweep(folder: Path, target: Path | None = None) -> None:
    """Remove what writers left behind that live no more; of one target, or of everything in a folder.

    A writer that was killed between moving the old folder away and moving the new one in (only where the two cannot be
    exchanged in one step) left the old one as `.NAME.TOKEN.old`; it is put back where the target is missing.
    """
    for entry in list(os.scandir(folder)) if folder.is_dir() else []:
        match = _LEFTOVER.fullmatch(entry.name)
        if match is None or (target is not None and match["name"] != _short(target.name)):
            continue
        path = Path(entry.path)
        try:
            if _lives(match["token"], path.lstat().st_mtime):
                continue
            if target is not None and match["kind"] == "old" and not target.exists():
                os.rename(path, target)
            elif entry.is_dir(follow_symlinks=False):
                shutil.rmtree(path)
            else:
                path.unlink()
        except OSError:  # another writer swept it, or it is not ours to remove: it harms nobody where it is
            continue


def _take(path: Path, token: str) -> bool:
    """Make the lock; False: there is one. It appears with its content, on network disks too."""
    said = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    content = json.dumps({**said, "machine": _machine(), "token": token}).encode()
    if path.exists():
        return False
    made = beside(path, token=token)
    made.write_bytes(content)
    try:
        os.link(made, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        try:
            with path.open("xb") as file:
                file.write(content)
        except FileExistsError:
            return False
    finally:
        made.unlink(missing_ok=True)
    return True


def _renew(path: Path, done: threading.Event) -> None:
    while not done.wait(_RENEW_S):
        with contextlib.suppress(OSError):
            os.utime(path)


def _holder(path: Path) -> dict[str, Any] | None:
    """Read a lock; None: there is none. One that cannot be read is somebody's."""
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _is_stale(path: Path, holder: dict[str, Any]) -> bool:
    if holder.get("machine") == _machine() and type(holder.get("pid")) is int and not _runs(holder["pid"]):
        return True
    probe = beside(path)
    try:
        probe.touch(exist_ok=False)  # its time is the file system's, not this machine's
        return probe.stat().st_mtime - path.stat().st_mtime > STALE_AFTER_S
    except FileNotFoundError:
        return False
    finally:
        probe.unlink(missing_ok=True)


def _remove(path: Path, stale: dict[str, Any]) -> None:
    """Take a stale lock away; of several that try, one succeeds, and none takes the lock of its successor."""
    aside = beside(path)
    try:
        os.rename(path, aside)
    except OSError:
        return
    if (_holder(aside) or {}) != stale:
        with contextlib.suppress(OSError):
            os.link(aside, path)  # it was the successor's: back to its place
    aside.unlink(missing_ok=True)


def _said(path: Path, holder: dict[str, Any] | None) -> str:
    holder = holder or {}
    who = f"process {shown(holder.get('pid'))} on {shown(holder.get('host'))} since {shown(holder.get('since'))}"
    return f"{who if holder else 'another process'} is writing it (it holds {path})"


def _lives(token: str, mtime: float) -> bool:
    """Say whether the writer of a leftover may still be at work."""
    machine, *rest = token.split("-")
    if rest and machine == _machine():
        return _runs(int(rest[0]))
    return time.time() - mtime < _FORGOTTEN_S


def _runs(pid: int) -> bool:
    """Say whether there is a process of this number here."""
    if sys.platform == "win32":
        handle = ctypes.windll.kernel32.OpenProcess(0x1000, False, pid)  # PROCESS_QUERY_LIMITED_INFORMATION
        if handle:
            ctypes.windll.kernel32.CloseHandle(handle)
        return bool(handle)
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it runs, and is somebody else's
        return True
    return True


@functools.cache
def _machine() -> str:
    """Name what process numbers are counted in: a machine since it started, and on Linux a container."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def _short(name: str) -> str:
    """Keep a file's name short enough to put a token behind it."""
    return name if len(os.fsencode(name)) <= 180 else hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
