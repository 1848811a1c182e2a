"""The rows that a run measures, and their order."""

import importlib.util
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from stale_edge.config import BenchConfig, BenchRuntime, BenchVariant, Precision
from stale_edge.config.runtimes import RUNTIMES
from stale_edge.errors import ConfigError

Device = Literal["cpu", "cuda"]
Combination = tuple[str, Precision]

PYTORCH: dict[Device, tuple[Precision, ...]] = {"cpu": ("fp32",), "cuda": ("fp32", "fp16")}
"""Device -> precisions in which the network itself is measured in PyTorch."""
SUPPORTED: dict[Device, tuple[Combination, ...]] = {
    device: (
        *(("pytorch", precision) for precision in PYTORCH[device]),
        *(
            (name, precision)
            for name, runtime in RUNTIMES.items()
            if name in get_args(BenchRuntime) and (device == "cpu" or runtime.format == "torchscript")
            for precision in (runtime.precisions if device == "cpu" else runtime.on_cuda)
        ),
    )
    for device in get_args(Device)
}
"""The rows that exist on each device; a request with none of them is an error."""
ON_REQUEST: dict[Device, tuple[Combination, ...]] = {
    "cpu": (("onnxruntime", "fp16"), ("onnxruntime", "int8-static"), ("torchscript", "fp16"), ("torchscript", "int8")),
    "cuda": (("pytorch", "fp16"),),
}
"""Rows that are left out by default. fp16 saves size and is for GPUs: on a CPU it is slower than fp32."""
AS_TRAINED: dict[Device, tuple[str, ...]] = {"cpu": ("pytorch", "onnxruntime"), "cuda": ("pytorch",)}
"""How a network is run as it was trained: eager, and as PyTorch's exporter writes it."""
LOCALIZER_RUNTIMES = tuple(runtime for runtime in get_args(BenchRuntime) if runtime in RUNTIMES)
"""Runtimes with rows from features to detections, on the CPU. By default only the first one is measured."""


Variant = Literal[BenchVariant, "matrix-product", "compile", "throughput"]
"""`matrix-product` gives the machine's rate; `compile` writes a file that a `detector` runs in another process;
`throughput` runs batches. These three make no rows of their own."""


@dataclass(frozen=True)
class RowPlan:
    """One row before it is measured."""

    variant: Variant
    device: Device
    runtime: str
    """`pytorch`, `onnxruntime`, `openvino`, `torchscript`, or `core` for the C++ post-processing; for a matrix product,
    the engine that multiplies."""
    precision: Precision
    length: int
    """T, in snippets; for a matrix product, the rows and columns of its square matrices."""

    @property
    def name(self) -> str:
        """Name of the row in messages."""
        return f"{self.variant} ({self.runtime} {self.precision}, {self.device}, T = {self.length})"


@dataclass(frozen=True)
class Setup:
    """Distribution of videos: `sessions` processes with `threads` threads each and `batch` videos per call."""

    sessions: int
    threads: int
    batch: int

    @property
    def cores(self) -> int:
        """Number of threads in all sessions."""
        return self.sessions * self.threads


def plan_rows(
    config: BenchConfig, device: Device, length: int, *, available: Collection[Combination] | None = None
) -> list[RowPlan]:
    """List the rows of one device and one length.

    `config.runtimes` and `config.precisions` select detector and localizer rows; the reference, the network as
    trained, the text tower and post-processing have one form each and stay, since comparisons need them.

    Args:
        config: variants, runtimes and precisions wanted.
        device: `cpu` or `cuda`.
        length: T, in snippets.
        available: runtime and precision of the existing artifacts; None: all can be made.

    Raises:
        ConfigError: no supported and available combination is left for the detector.
    """
    runnable = [
        pair for pair in SUPPORTED[device] if is_installed(pair[0]) and (available is None or pair in available)
    ]
    chosen = [
        (runtime, precision)
        for runtime, precision in runnable
        if (not config.runtimes or runtime in config.runtimes)
        and (not config.precisions or precision in config.precisions)
        and (config.runtimes or config.precisions or _measured_unasked(device, (runtime, precision), config))
    ]
    if not chosen and {"detector", "localizer"} & set(config.variants):
        raise ConfigError(
            f"no detector to measure on {device} with --runtimes {','.join(config.runtimes) or 'any'} and "
            f"--precisions {','.join(config.precisions) or 'any'}; "
            f"there is {', '.join(f'{runtime} {precision}' for runtime, precision in runnable) or 'none'}"
        )
    rows = []
    for variant in get_args(BenchVariant):
        if variant not in config.variants:
            continue
        if variant in ("reference", "text"):
            rows.append(RowPlan(variant, device, "pytorch", "fp32", length))
        elif variant == "as-trained":
            rows += [RowPlan(variant, device, runtime, "fp32", length) for runtime in AS_TRAINED[device]]
        elif variant == "postprocess":
            # Decoding runs on the host, for every device of the network.
            rows += [RowPlan(variant, device, "core", "fp32", length)] if device == "cpu" else []
        elif variant == "detector" or device == "cpu":
            rows += [
                RowPlan(variant, device, runtime, precision, length)
                for runtime, precision in chosen
                if variant == "detector"
                or (runtime in LOCALIZER_RUNTIMES if config.runtimes else runtime == LOCALIZER_RUNTIMES[0])
            ]
    return rows


def is_installed(runtime: str) -> bool:
    """Check whether the optional package of a runtime is installed; torch is checked where it is needed."""
    return runtime != "openvino" or importlib.util.find_spec("openvino") is not None


def _measured_unasked(device: Device, pair: Combination, config: BenchConfig) -> bool:
    """Check whether a pair is measured when neither runtimes nor precisions are chosen."""
    if config.recommend:
        return pair[1] != "fp16" or device == "cuda"
    return pair not in ON_REQUEST[device]


def turns(n_rows: int, rounds: int, *, seed: int) -> list[list[int]]:
    """Order the trials: every round has every row once, in a new random order, so drift affects all rows equally.

    Returns:
        One list per round, each a permutation of 0 .. n_rows - 1.
    """
    generator = random.Random(seed)
    return [generator.sample(range(n_rows), n_rows) for _ in range(rounds)]


def without(rows: Sequence[RowPlan], *variants: BenchVariant) -> list[RowPlan]:
    """Return the rows of all other variants."""
    return [row for row in rows if row.variant not in variants]
