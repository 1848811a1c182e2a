"""The choice of `stale-edge bench --recommend` for a bundle on this machine, kept in the user's cache.

It is not in the bundle: a bundle is sealed, and is copied to other machines. The file's name depends on the bundle (its
manifest), the machine (processor, instruction sets, versions of the runtimes) and the number of threads, so that a
choice made for others is not found.
"""

import functools
import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stale_edge.bundle import MANIFEST_NAME, Bundle
from stale_edge.bundle.files import sha256_of, write_file_atomically
from stale_edge.errors import BundleError, reason
from stale_edge.machine import cpuinfo
from stale_edge.paths import MOST_TEXT_BYTES, read_regular
from stale_edge.version import installed_versions

AUTO = "auto"
"""Name of the runtime that means the recommended one."""
FORMAT = "stale-edge-recommendation/1"
_PACKAGES = ("stale-edge", "onnxruntime", "openvino", "torch")
_PROCESSOR = ("model name", "flags", "Features", "CPU implementer", "CPU part")
"""Lines of /proc/cpuinfo that identify the processor."""


@dataclass(frozen=True)
class Choice:
    """The fastest runtime and precision for videos of about one length, among those that are accurate enough."""

    length: int
    """T in snippets, as measured."""
    runtime: str
    precision: str

    @property
    def pair(self) -> tuple[str, str]:
        """Runtime and precision."""
        return self.runtime, self.precision


@dataclass(frozen=True)
class Recommendation:
    """One choice per measured length, at least one; shortest first."""

    choices: tuple[Choice, ...]

    def choose(self, n_snippets: int) -> tuple[str, str]:
        """Return runtime and precision for a video of `n_snippets` >= 1: those of the nearest length by ratio."""
        return min(self.choices, key=lambda c: max(c.length, n_snippets) / min(c.length, n_snippets)).pair


def recommendation_path(bundle: Bundle, *, threads: int) -> Path:
    """Name the file of the choice for a bundle on this machine, under $XDG_CACHE_HOME or ~/.cache."""
    manifest = sha256_of(bundle.path / MANIFEST_NAME)[:16]
    return recommendations_folder() / f"{manifest}-{machine_fingerprint()}-{threads}.json"


def recommendations_folder() -> Path:
    """Name the folder of all recommendations."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says that a relative path in this variable is ignored.
    cache = Path(home) if Path(home).is_absolute() else Path.home() / ".cache"
    return cache / "stale-edge" / "recommendations"


def write_recommendation(
    bundle: Bundle, recommendation: Recommendation, *, threads: int, reasons: Mapping[str, Any]
) -> Path:
    """Write a choice where `load_bundle(runtime="auto")` finds it; an older one is replaced.

    Args:
        bundle: the bundle that was measured.
        recommendation: the choice.
        threads: CPU threads of the measurement.
        reasons: JSON values with the reasons, for people.

    Returns:
        the file.

    Raises:
        OSError: the cache cannot be written.
    """
    path = recommendation_path(bundle, threads=threads)
    values = {
        "format": FORMAT,
        "bundle": str(bundle.path.resolve()),
        "threads": threads,
        "choices": [vars(choice) for choice in recommendation.choices],
        "reasons": dict(reasons),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file_atomically(path, (json.dumps(values, indent=2, allow_nan=False) + "\n").encode())
    return path


def read_recommendation(bundle: Bundle, *, threads: int) -> Recommendation:
    """Read the choice for a bundle on this machine.

    Raises:
        BundleError: there is no choice for this bundle, machine and number of threads, or the file is damaged.
    """
    path = recommendation_path(bundle, threads=threads)
    again = f"stale-edge bench {bundle.path} --device cpu --threads {threads} --recommend --data DIR"
    try:
        values = json.loads(read_regular(path, most=MOST_TEXT_BYTES))
        if values["format"] != FORMAT:
            raise ValueError(f"its format is {values['format']!r}, not {FORMAT!r}")
        choices = tuple(Choice(int(c["length"]), str(c["runtime"]), str(c["precision"])) for c in values["choices"])
        if not choices or any(choice.length < 1 for choice in choices):
            raise ValueError("it holds no choice for a length >= 1")
    except FileNotFoundError as error:
        raise BundleError(
            f"{bundle.path}: nothing is recommended for this bundle on this machine with {threads} "
            f"thread{'s' if threads > 1 else ''}: run {again}, or name a runtime"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise BundleError(f"{path}: not a readable recommendation: {reason(error)}; make it again: {again}") from error
    return Recommendation(tuple(sorted(choices, key=lambda choice: choice.length)))


@functools.cache
def machine_fingerprint() -> str:
    """Describe what a choice depends on besides the bundle: processor, instruction sets, versions of the runtimes."""
    info, versions = cpuinfo(), installed_versions(_PACKAGES)
    facts = [platform.system(), platform.machine(), platform.processor()]
    facts += [f"{name}: {info[name]}" for name in _PROCESSOR if name in info]
    facts += [f"{package} {versions[package]}" if package in versions else f"no {package}" for package in _PACKAGES]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
