"""The machine card: what a measured time depends on, besides the code."""

import importlib.metadata
import importlib.util
import os
import platform
import re
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

PACKAGES = ("stale-edge", "numpy", "onnxruntime", "torch", "transformers", "fvcore", "onnx", "openvino")
# Names of /proc/cpuinfo (x86 and Arm) to the names people use.
INSTRUCTION_SETS = {
    "avx2": "avx2",
    "fma": "fma",
    "avx512f": "avx512f",
    "avx512_vnni": "avx512_vnni",
    "avx_vnni": "avx_vnni",
    "avx512_bf16": "avx512_bf16",
    "avx512_fp16": "avx512_fp16",
    "amx_tile": "amx_tile",
    "amx_int8": "amx_int8",
    "amx_bf16": "amx_bf16",
    "asimd": "neon",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
    "bf16": "bf16",
    "sve": "sve",
}
_SYSTEM = Path("/sys/devices/system/cpu")
_NODES = Path("/sys/devices/system/node")


def machine_card() -> dict[str, Any]:
    """Describe processor, memory, system and package versions; what cannot be read is null, never guessed."""
    info = _cpuinfo()
    return {
        "cpu": info.get("model name") or _mac_brand() or platform.processor() or platform.machine(),
        "architecture": platform.machine(),
        "cores": _physical_cores(),
        "logical_cpus": os.cpu_count(),
        "allowed_cpus": allowed_cpus(),
        "instruction_sets": _instruction_sets(info),
        "virtual": "hypervisor" in info.get("flags", "").split() if info else None,
        "caches_bytes": _caches(),
        "memory_bytes": memory_bytes(),
        "governor": _read(_SYSTEM / "cpu0/cpufreq/scaling_governor"),
        "max_mhz": _max_mhz(),
        "os": platform.platform(),
        "python": platform.python_version(),
        "packages": package_versions(),
    }


def package_versions() -> dict[str, str]:
    """Return the installed versions of the packages that do the work; absent ones are left out."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def load_average() -> list[float] | None:
    """Return the load over 1, 5 and 15 minutes; None where the system does not tell."""
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None


def allowed_cpus() -> list[int]:
    """Return the logical CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def choose_cpus(n: int) -> list[int] | None:
    """Choose `n` allowed CPUs, on cores of their own where possible, the last ones first: the first serve interrupts.

    Returns:
        CPU numbers, or None where the system cannot pin (macOS, Windows) or has fewer than `n`.
    """
    allowed = allowed_cpus()
    if not sys.platform.startswith("linux") or len(allowed) < n:
        return None
    by_core: dict[str, list[int]] = {}
    for cpu in reversed(allowed):
        by_core.setdefault(_read(_SYSTEM / f"cpu{cpu}/topology/thread_siblings_list") or str(cpu), []).append(cpu)
    first = [cpus[0] for cpus in by_core.values()]
    others = [cpu for cpus in by_core.values() for cpu in cpus[1:]]
    return sorted((first + others)[:n])


def cpus_near(cpus: Collection[int]) -> list[int]:
    """Return the allowed CPUs on the memory nodes of `cpus`: what runs there allocates memory that is near them."""
    near: set[int] = set()
    for path in _NODES.glob("node[0-9]*/cpulist"):
        node = _cpu_list(_read(path) or "")
        if node & set(cpus):
            near |= node
    return sorted((near & set(allowed_cpus())) | set(cpus))


def pin_all_threads(cpus: Collection[int]) -> None:
    """Keep every thread of this process, and those it will start, on some CPUs. Linux alone."""
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(thread.name), cpus)


def memory_bytes() -> int | None:
    """Return the machine's memory in bytes, or None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def peak_rss_bytes() -> int | None:
    """Return the most memory this process ever held resident, in bytes; None where the system does not tell.

    Linux keeps it for each program (`VmHWM`); its `ru_maxrss` also counts the parent that was copied to start it.
    """
    found = re.search(r"^VmHWM:\s+(\d+) kB$", _read(Path("/proc/self/status")) or "", re.MULTILINE)
    if found:
        return int(found[1]) * 1024
    if importlib.util.find_spec("resource") is None:
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _cpu_list(text: str) -> set[int]:
    """Read the kernel's way to write CPUs, such as `0-3,8`."""
    ends = [part.partition("-") for part in text.split(",") if part]
    return {cpu for first, _, last in ends for cpu in range(int(first), int(last or first) + 1)}


def _cpuinfo() -> dict[str, str]:
    text = _read(Path("/proc/cpuinfo")) or ""
    fields = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in fields}


def _instruction_sets(info: Mapping[str, str]) -> list[str] | None:
    flags = info.get("flags") or info.get("Features")
    if flags is None:
        return None
    present = set(flags.split())
    return [name for flag, name in INSTRUCTION_SETS.items() if flag in present]


def _physical_cores() -> int | None:
    cores = {_read(path) for path in _SYSTEM.glob("cpu[0-9]*/topology/thread_siblings_list")} - {None}
    return len(cores) or None


def _caches() -> dict[str, int]:
    caches = {}
    for index in sorted((_SYSTEM / "cpu0/cache").glob("index*")):
        level, kind, size = (_read(index / name) for name in ("level", "type", "size"))
        if level and kind and size and size.endswith("K"):
            suffix = {"Data": "d", "Instruction": "i"}.get(kind, "")
            caches[f"L{level}{suffix}"] = int(size[:-1]) * 1024
    return caches


def _max_mhz() -> float | None:
    text = _read(_SYSTEM / "cpu0/cpufreq/cpuinfo_max_freq")
    return int(text) / 1000 if text else None


def _mac_brand() -> str | None:
    if platform.system() != "Darwin":
        return None
    command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
