"""PyTorch detector -> TorchScript, in float32, with half-precision weights, or dynamically quantized to int8."""

import copy
import json
import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stale_edge.config.runtimes import Precision
from stale_edge.exporting.graph.detector_graph import (
    DetectorGraph,
    example_inputs,
    expect_warnings,
    in_eval_mode,
    model_config,
)
from stale_edge.exporting.graph.rewriting import WeightCount

METADATA_FILE = "stale_edge.json"
"""Extra file in the archive: the same keys and values as the `metadata_props` of an ONNX file."""

EXPECTED_WARNINGS: tuple[tuple[str, type[Warning]], ...] = (
    (r".*torch\.jit\..*", DeprecationWarning),
    (r".*torch\.ao\.quantization is deprecated.*", DeprecationWarning),
    (r".*quantized tensor creation functions.*", UserWarning),
)
"""Warnings that TorchScript and eager quantization are deprecated; this kit still exports both."""

_PRODUCTS = (
    "aten::linear",
    "aten::matmul",
    "aten::bmm",
    "aten::addmm",
    "aten::mm",
    "aten::_convolution",
    "aten::einsum",
)
_QUANTIZED = "quantized::linear_dynamic"


class HalfLinear(nn.Module):
    """A linear layer that multiplies in float16, between float32 activations."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = nn.Parameter(linear.weight.detach().half(), requires_grad=False)
        bias = None if linear.bias is None else nn.Parameter(linear.bias.detach().half(), requires_grad=False)
        self.bias: nn.Parameter | None
        self.register_parameter("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.half(), self.weight, self.bias).float()


def trace_torchscript(model: nn.Module, *, precision: Precision, keep: Collection[str] = ()) -> torch.jit.ScriptModule:
    """Record a detector as TorchScript; the model itself is not changed.

    Args:
        model: detector of this package, on the CPU, float32.
        precision: `fp32`, `fp16` or `int8`.
        keep: names of linear layers that stay in float32.

    Raises:
        ValueError: the model cannot be deployed.
    """
    config = model_config(model)
    graph = DetectorGraph(model)
    with in_eval_mode(graph), expect_warnings(*EXPECTED_WARNINGS):
        if precision == "fp16":
            graph = DetectorGraph(_with_half_linears(model, keep))
        elif precision == "int8":
            graph = DetectorGraph(_quantized(model, keep))
        graph.eval()
        # The parity check uses other sizes than the traced ones; the check of torch.jit.trace does not.
        return torch.jit.trace(graph, example_inputs(config), check_trace=False)  # type: ignore[no-untyped-call, no-any-return]


def save_torchscript(traced: torch.jit.ScriptModule, path: Path, *, metadata: Mapping[str, str]) -> None:
    """Write one file that holds the graph and the metadata."""
    with expect_warnings(*EXPECTED_WARNINGS):
        torch.jit.save(traced, str(path), _extra_files={METADATA_FILE: json.dumps(dict(metadata), ensure_ascii=False)})


def load_torchscript(path: Path) -> torch.jit.ScriptModule:
    """Load a file of `save_torchscript` on the CPU."""
    with expect_warnings(*EXPECTED_WARNINGS):
        return torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call, no-any-return]


def count_script_weights(traced: torch.jit.ScriptModule, precision: Precision) -> WeightCount:
    """Count the weights that the recorded graph multiplies by, and those in low precision; shared ones count once."""
    found: dict[str, tuple[int, bool, int]] = {}
    for path, weight in _operands(traced):
        low = weight.dtype == torch.qint8 if precision == "int8" else weight.dtype == torch.float16
        found[path] = (math.prod(weight.shape), low, math.prod(weight.shape) * weight.element_size())
    sizes = found.values()
    return WeightCount(
        tensors=len(sizes),
        tensors_low=sum(low for _, low, _ in sizes),
        numbers=sum(size for size, _, _ in sizes),
        numbers_low=sum(size for size, low, _ in sizes if low),
        stored_bytes=sum(stored for _, _, stored in sizes),
    )


def _operands(traced: torch.jit.ScriptModule) -> Iterator[tuple[str, Tensor]]:
    """Find the constants of two or more axes that products read, each with its path in the module."""
    graph: Any = traced.inlined_graph
    for kind in (*_PRODUCTS, _QUANTIZED):
        for node in graph.findAllNodes(kind):
            for value in node.inputs():
                path = _attribute_path(value.node())
                held = None if path is None else _resolve(traced, path)
                if kind == _QUANTIZED and held is not None:
                    held = held.unpack()[0]
                if path is not None and isinstance(held, Tensor) and held.ndim >= 2:
                    yield path, held


def _attribute_path(node: Any) -> str | None:
    """Return the path that a value is read from, such as `model.layer.weight`; None if it is computed."""
    names: list[str] = []
    while node.kind() == "prim::GetAttr":
        names.append(node.s("name"))
        node = node.input().node()
    return ".".join(reversed(names)) if names and node.kind() == "prim::Param" else None


def _resolve(module: Any, path: str) -> Any:
    for name in path.split("."):
        module = getattr(module, name)
    return module


def _with_half_linears(model: nn.Module, keep: Collection[str]) -> nn.Module:
    halved = copy.deepcopy(model)
    for name, module in list(halved.named_modules()):
        if isinstance(module, nn.Linear) and name not in keep:
            parent, _, attribute = name.rpartition(".")
            setattr(halved.get_submodule(parent), attribute, HalfLinear(module))
    return halved


def _quantized(model: nn.Module, keep: Collection[str]) -> nn.Module:
    """Quantize every linear layer except those in `keep`, with one scale per output channel."""
    from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic

    layers = {
        name: per_channel_dynamic_qconfig
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name not in keep
    }
    return quantize_dynamic(model, layers, dtype=torch.qint8)  # type: ignore[no-untyped-call, no-any-return]
