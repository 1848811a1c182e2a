"""What this machine is: its processor, memory and system, and the packages on it."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from stale_edge.version import installed_versions

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
SYSTEM_CPUS = Path("/sys/devices/system/cpu")


def machine_card() -> dict[str, Any]:
    """Describe processor, memory, system and package versions; what cannot be read is null, never guessed."""
    info = cpuinfo()
    return {
        "cpu": processor(),
        "architecture": platform.machine(),
        "cores": _physical_cores(),
        "logical_cpus": os.cpu_count(),
        "allowed_cpus": allowed_cpus(),
        "instruction_sets": instruction_sets(),
        "virtual": "hypervisor" in info.get("flags", "").split() if info else None,
        "caches_bytes": _caches(),
        "memory_bytes": memory_bytes(),
        "governor": read_text(SYSTEM_CPUS / "cpu0/cpufreq/scaling_governor"),
        "max_mhz": _max_mhz(),
        "os": platform.platform(),
        "python": platform.python_version(),
        "packages": installed_versions(PACKAGES),
    }


def processor() -> str:
    """Name the processor's model; where the system does not say it, its architecture."""
    return cpuinfo().get("model name") or _mac_brand() or platform.processor() or platform.machine()


def instruction_sets() -> list[str] | None:
    """Name the processor's instruction sets that decide how fast networks run; None where the system does not say."""
    info = cpuinfo()
    flags = info.get("flags") or info.get("Features")
    if flags is None:
        return None
    present = set(flags.split())
    return [name for flag, name in INSTRUCTION_SETS.items() if flag in present]


def cpuinfo() -> dict[str, str]:
    """Read the first processor of /proc/cpuinfo; empty where there is no such file, as on macOS and Windows."""
    text = read_text(Path("/proc/cpuinfo")) or ""
    fields = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in fields}


def allowed_cpus() -> list[int]:
    """Return the logical CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def memory_bytes() -> int | None:
    """Return the machine's memory in bytes, or None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _physical_cores() -> int | None:
    cores = {read_text(path) for path in SYSTEM_CPUS.glob("cpu[0-9]*/topology/thread_siblings_list")} - {None}
    return len(cores) or None


def _caches() -> dict[str, int]:
    caches = {}
    for index in sorted((SYSTEM_CPUS / "cpu0/cache").glob("index*")):
        level, kind, size = (read_text(index / name) for name in ("level", "type", "size"))
        if level and kind and size and size.endswith("K"):
            suffix = {"Data": "d", "Instruction": "i"}.get(kind, "")
            caches[f"L{level}{suffix}"] = int(size[:-1]) * 1024
    return caches


def _max_mhz() -> float | None:
    text = read_text(SYSTEM_CPUS / "cpu0/cpufreq/cpuinfo_max_freq")
    return int(text) / 1000 if text else None


def _mac_brand() -> str | None:
    if platform.system() != "Darwin":
        return None
    command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None


def read_text(path: Path) -> str | None:
    """Read a file of the system without the spaces at its ends; None where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
