"""Origin of a bundle: package versions, and the machine it was made and checked on."""

import os
import platform
from typing import Any

from stale_edge.machine import instruction_sets, processor
from stale_edge.version import versions_with

_PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "numpy")


def versions() -> dict[str, str]:
    """List the versions of the packages that make and check artifacts."""
    return versions_with(_PACKAGES)


def machine() -> dict[str, Any]:
    """Describe the processor, its relevant instruction sets, its cores, and the operating system; no host name."""
    return {
        "cpu": processor(),
        "architecture": platform.machine(),
        "instruction_sets": instruction_sets() or [],
        "cores": os.cpu_count(),
        "system": platform.system(),
    }
