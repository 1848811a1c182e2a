"""Locks: one writer at a time for each folder that is replaced as a whole, and removal of dead writers' leftovers.

An unfinished file or folder is named `.NAME.TOKEN.part`, beside its target; the token contains machine and process. A
writer of a folder holds `.NAME.lock` beside it: this file identifies the writer, which renews its time twice a minute.
A lock is stale, and is taken over, when its process has ended (on the same machine), or when its time was not renewed
for `STALE_AFTER_S`. The clock is that of the file system, the same for all machines that share the disk. A writer that
was suspended for so long checks its token before it replaces anything, finds it gone, and is refused.
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
"""Age of a stale lock, in seconds; a network disk shows readers a file's new time up to 60 s late (NFS)."""
_RENEW_S = 30.0
_POLL_S = 0.02
_FORGOTTEN_S = 86_400.0
"""Age at which leftovers of another machine are removed, in seconds: this machine cannot check if their writer runs."""
_LEFTOVER = re.compile(r"\.(?P<name>.+)\.(?P<token>[0-9a-f]{8}(-\d+-[0-9a-f]{8})?)\.(?P<kind>part|old)")


def beside(target: Path, kind: str = "part", *, token: str = "") -> Path:
    """Name a temporary file or folder on the target's file system: `.NAME.TOKEN.part`."""
    return target.with_name(f".{_short(target.name)}.{token or new_token()}.{kind}")


def lock_path(target: Path) -> Path:
    """Return the path of a target's lock: beside the target, after following links."""
    real = Path(os.path.realpath(target))
    return real.with_name(f".{_short(real.name)}.lock")


def new_token() -> str:
    """Make a token for one write: machine, process, random digits."""
    return f"{_machine()}-{os.getpid()}-{secrets.token_hex(4)}"


@contextlib.contextmanager
def writing(target: Path, *, wait_s: float = 10.0) -> Iterator[str]:
    """Hold the lock of a target; its folder must exist.

    Args:
        target: the file or folder that will be replaced.
        wait_s: longest wait for another writer, in seconds.

    Yields:
        The token that holds the lock.

    Raises:
        BusyError: another writer still holds the lock; the message names it.
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
    sweep(path.parent, path)  # what writers left that were killed while they took or removed this lock
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
    """Check whether this token still holds the lock of a target."""
    return (_holder(lock_path(target)) or {}).get("token") == token


def is_locked(target: Path) -> bool:
    """Check whether a target has a lock, even a stale one."""
    return lock_path(target).exists()


def sweep(folder: Path, target: Path | None = None) -> None:
    """Remove leftovers of dead writers, for one target or for everything in a folder.

    Where two folders cannot be exchanged in one step, a writer may be killed after moving the old folder away and
    before moving the new one in. The old one is then `.NAME.TOKEN.old` and is put back if the target is missing.
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
        except OSError:  # another writer removed it, or we may not; it does no harm there
            continue


def _take(path: Path, token: str) -> bool:
    """Make the lock; False: there is one already. It appears together with its content, on network disks too."""
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
    """Read a lock; None: there is none. An unreadable lock counts as held."""
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
        probe.touch(exist_ok=False)  # gets its time from the file system's clock, not this machine's
        return probe.stat().st_mtime - path.stat().st_mtime > STALE_AFTER_S
    except FileNotFoundError:
        return False
    finally:
        probe.unlink(missing_ok=True)


def _remove(path: Path, stale: dict[str, Any]) -> None:
    """Remove a stale lock; if several processes try, one succeeds, and none removes the next holder's lock."""
    aside = beside(path)
    try:
        os.rename(path, aside)
    except OSError:
        return
    if (_holder(aside) or {}) != stale:
        with contextlib.suppress(OSError):
            os.link(aside, path)  # it was the next holder's: put it back
    aside.unlink(missing_ok=True)


def _said(path: Path, holder: dict[str, Any] | None) -> str:
    holder = holder or {}
    who = f"process {shown(holder.get('pid'))} on {shown(holder.get('host'))} since {shown(holder.get('since'))}"
    return f"{who if holder else 'another process'} is writing it (it holds {path})"


def _lives(token: str, mtime: float) -> bool:
    """Check whether the writer of a leftover may still run."""
    machine, *rest = token.split("-")
    if rest and machine == _machine():
        return _runs(int(rest[0]))
    return time.time() - mtime < _FORGOTTEN_S


def _runs(pid: int) -> bool:
    """Check whether a process with this number runs on this machine."""
    if sys.platform == "win32":
        handle = ctypes.windll.kernel32.OpenProcess(0x1000, False, pid)  # PROCESS_QUERY_LIMITED_INFORMATION
        if handle:
            ctypes.windll.kernel32.CloseHandle(handle)
        return bool(handle)
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it runs, but belongs to another user
        return True
    return True


@functools.cache
def _machine() -> str:
    """Name the scope of process numbers: a machine since its start, and on Linux a container."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def _short(name: str) -> str:
    """Shorten a file's name so that a token can be appended."""
    return name if len(os.fsencode(name)) <= 180 else hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
