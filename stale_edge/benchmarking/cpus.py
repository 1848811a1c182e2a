"""CPUs of a measured process, the load of the machine, and the process' peak memory."""

import importlib.util
import os
import re
import sys
from collections.abc import Collection
from pathlib import Path

from stale_edge.errors import StaleEdgeError
from stale_edge.machine import SYSTEM_CPUS, allowed_cpus, read_text

BUSY_LOAD = 0.7
"""Load over the last minute above which a run counts as disturbed."""
_NODES = Path("/sys/devices/system/node")


def load_average() -> list[float] | None:
    """Return the load over 1, 5 and 15 minutes; None if the system does not report it."""
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None


def require_idle() -> None:
    """Refuse to begin a run for the record on a machine that other programs use.

    Raises:
        StaleEdgeError: the load over the last minute is above `BUSY_LOAD`.
    """
    load = load_average()
    if load is not None and load[0] > BUSY_LOAD:
        raise StaleEdgeError(
            f"--record: other programs are at work: the load over the last minute is {load[0]:.2f}; it must be at most "
            f"{BUSY_LOAD}: wait until they have ended, or leave --record out"
        )


def choose_cpus(n: int) -> list[int] | None:
    """Choose `n` allowed CPUs, on separate cores where possible, from the last: the first CPUs handle interrupts.

    Returns:
        CPU numbers, or None if the system cannot pin (macOS, Windows) or has fewer than `n`.
    """
    allowed = allowed_cpus()
    if not sys.platform.startswith("linux") or len(allowed) < n:
        return None
    by_core: dict[str, list[int]] = {}
    for cpu in reversed(allowed):
        siblings = read_text(SYSTEM_CPUS / f"cpu{cpu}/topology/thread_siblings_list") or str(cpu)
        by_core.setdefault(siblings, []).append(cpu)
    first = [cpus[0] for cpus in by_core.values()]
    others = [cpu for cpus in by_core.values() for cpu in cpus[1:]]
    return sorted((first + others)[:n])


def cpus_near(cpus: Collection[int]) -> list[int]:
    """Return the allowed CPUs on the memory nodes of `cpus`; code that runs there allocates memory near `cpus`."""
    near: set[int] = set()
    for path in _NODES.glob("node[0-9]*/cpulist"):
        node = _cpu_list(read_text(path) or "")
        if node & set(cpus):
            near |= node
    return sorted((near & set(allowed_cpus())) | set(cpus))


def pin_all_threads(cpus: Collection[int]) -> None:
    """Keep every thread of this process, and those it will start, on some CPUs. Linux only."""
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(thread.name), cpus)


def peak_rss_bytes() -> int | None:
    """Return the peak resident memory of this process, in bytes; None if the system does not report it.

    Linux counts it for each program (`VmHWM`); its `ru_maxrss` includes the parent, which was copied to start it.
    """
    found = re.search(r"^VmHWM:\s+(\d+) kB$", read_text(Path("/proc/self/status")) or "", re.MULTILINE)
    if found:
        return int(found[1]) * 1024
    if importlib.util.find_spec("resource") is None:
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _cpu_list(text: str) -> set[int]:
    """Read the kernel's format of CPU lists, such as `0-3,8`."""
    ends = [part.partition("-") for part in text.split(",") if part]
    return {cpu for first, _, last in ends for cpu in range(int(first), int(last or first) + 1)}
