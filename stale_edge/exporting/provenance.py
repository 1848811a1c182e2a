"""Where a bundle comes from: versions of what made it, and the machine it was made and judged on."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import stale_edge

_PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "numpy")
_INSTRUCTION_SETS = (
    "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16",
    "asimd", "asimddp", "i8mm", "bf16", "sve",
)  # fmt: skip
"""Those that decide how fast int8 and half precision are."""


def versions() -> dict[str, str]:
    """Versions of the packages that make and judge artifacts."""
    packages = {name: version(name) for name in _PACKAGES}
    return {"stale_edge": stale_edge.__version__, "python": platform.python_version(), **packages}


def machine() -> dict[str, Any]:
    """Name the processor, its instruction sets that matter, its cores, and the operating system; no host name."""
    described = _cpuinfo()
    flags = set(described.get("flags", described.get("Features", "")).split())
    return {
        "cpu": described.get("model name") or platform.processor() or platform.machine(),
        "architecture": platform.machine(),
        "instruction_sets": [name for name in _INSTRUCTION_SETS if name in flags],
        "cores": os.cpu_count(),
        "system": platform.system(),
    }


def _cpuinfo() -> dict[str, str]:
    """Read the first processor of /proc/cpuinfo; empty where there is no such file, as on macOS and Windows."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return {}
    first = path.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
