"""Rate of matrix products on this machine, the denominator of utilization."""

import importlib.util
from collections.abc import Collection, Iterable
from typing import Any, Literal

from stale_edge.benchmarking.rounds import Measurement
from stale_edge.benchmarking.row_plan import Device, RowPlan
from stale_edge.config.runtimes import PRECISIONS, NumberType

SIZE: dict[Device, int] = {"cpu": 1024, "cuda": 8192}
"""Rows and columns of the square matrices: large enough to reach the full rate, small enough to be quick."""

Engine = Literal["torch", "numpy", "onnxruntime", "openvino"]
Kind = tuple[Device, NumberType]
# Engines that multiply in each number type. On a CPU no engine multiplies in fp16; fp16 rows are compared with fp32.
_ENGINES: dict[Kind, tuple[Engine, ...]] = {
    ("cpu", "fp32"): ("torch", "numpy", "onnxruntime", "openvino"),
    ("cpu", "bf16"): ("torch", "openvino"),
    ("cpu", "int8"): ("onnxruntime",),
    ("cuda", "fp32"): ("torch",),
    ("cuda", "fp16"): ("torch",),
}
# A product in ONNX Runtime or OpenVINO needs a graph, and only the onnx package can write one.
_PACKAGES: dict[Engine, tuple[str, ...]] = {
    "torch": ("torch",),
    "numpy": (),
    "onnxruntime": ("onnxruntime", "onnx"),
    "openvino": ("openvino", "onnx"),
}


def plan_products(kinds: Iterable[tuple[Device, str]]) -> list[RowPlan]:
    """List the products that measure the rates of a run's devices and precisions; fp32 is always included."""
    wanted: dict[Kind, None] = {}
    for device, precision in kinds:
        wanted |= {(device, "fp32"): None, (device, PRECISIONS[precision].products): None}
    return [
        RowPlan("matrix-product", device, engine, precision, SIZE[device])
        for device, precision in wanted
        for engine in _ENGINES.get((device, precision), ())
        if all(importlib.util.find_spec(package) for package in _PACKAGES[engine])
    ]


class Rates:
    """Multiply-accumulates per second by device and precision: median of the best engine, or one given peak for all."""

    def __init__(self, products: Collection[Measurement], *, peak_tmacs: float | None) -> None:
        self._peak = None if peak_tmacs is None else peak_tmacs * 1e12
        self._by_kind: dict[tuple[str, str], dict[str, float]] = {}
        for product in products:
            plan, rate = product.plan, product.plan.length**3 / product.median_s
            self._by_kind.setdefault((plan.device, plan.precision), {})[plan.runtime] = rate

    def __call__(self, device: str, precision: str) -> float:
        """Return the rate that a row's utilization is divided by."""
        if self._peak is not None:
            return self._peak
        return max(self._by_kind.get((device, PRECISIONS[precision].products), self._by_kind[device, "fp32"]).values())

    def to_json(self, kinds: Iterable[tuple[str, str]]) -> dict[str, Any]:
        """Describe the origin of the rates of these devices and precisions."""
        if self._peak is not None:
            return {"source": "given as peak_tmacs", "gmacs_per_second": self._peak / 1e9}
        return {
            "source": "measured in the same rounds as the rows: median product of two square matrices, "
            "the second one constant; the fastest engine counts",
            "size": {device: SIZE[device] for device in SIZE if any(key[0] == device for key in self._by_kind)},
            "gmacs_per_second": {
                f"{device} {precision}": {engine: rate / 1e9 for engine, rate in engines.items()}
                for (device, precision), engines in self._by_kind.items()
            },
            "held_against": {
                f"{device} {precision}": {
                    "precision": PRECISIONS[precision].products
                    if (device, PRECISIONS[precision].products) in self._by_kind
                    else "fp32",
                    "gmacs_per_second": self(device, precision) / 1e9,
                }
                for device, precision in dict.fromkeys(kinds)
            },
        }
