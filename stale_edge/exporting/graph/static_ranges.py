"""Static int8: measure ranges of activations once, and quantize products of activations as well as those with weights.

Dynamic int8 multiplies only weights in int8. At long T attention dominates, and both of its operands are activations.
With constant scales a runtime keeps int8 from one product to the next. The graph has QuantizeLinear and
DequantizeLinear around float32 products (QDQ): every runtime reads it, and runtimes with int8 kernels fuse them.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper

from stale_edge.exporting.graph.precision import quantize_columns
from stale_edge.exporting.graph.rewriting import drop_unused

PRODUCTS = ("MatMul", "Gemm")
_LEAST_RANGE = 1e-12
"""Smallest range; keeps the scale of a tensor that is always 0 above 0."""
_SKEWED = 0.25
"""A range is not made symmetric if -low / high is smaller than this (after GELU)."""


@dataclass(frozen=True)
class Range:
    """The smallest and the largest value of a tensor in calibration."""

    low: float
    high: float


def measure_ranges(proto: onnx.ModelProto, feeds: Iterable[Mapping[str, NDArray[np.float32]]]) -> dict[str, Range]:
    """Run a float32 graph on calibration inputs and record the range of every operand of its products.

    Args:
        proto: float32 graph.
        feeds: inputs by name, one mapping per run; at least one.

    Raises:
        ValueError: no feeds, or an operand is not finite.
    """
    constants = {tensor.name for tensor in proto.graph.initializer}
    operands = dict.fromkeys(name for node in proto.graph.node if node.op_type in PRODUCTS for name in node.input[:2])
    names = [name for name in operands if name not in constants]
    inputs = {value.name for value in proto.graph.input}
    inner = [name for name in names if name not in inputs]
    watched = onnx.ModelProto()
    watched.CopyFrom(proto)
    del watched.graph.output[:]
    watched.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in inner)
    session = onnxruntime.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    ranges: dict[str, Range] = {}
    for feed in feeds:
        values = dict(zip(inner, session.run(inner, dict(feed)), strict=True)) | dict(feed)
        for name in names:
            low, high = float(values[name].min()), float(values[name].max())
            if not np.isfinite([low, high]).all():
                raise ValueError(f"operand {name} is not finite on a calibration video, so it cannot be quantized")
            known = ranges.get(name, Range(low, high))
            ranges[name] = Range(min(low, known.low), max(high, known.high))
    if not ranges:
        raise ValueError("static int8 needs at least one video to measure ranges on")
    return ranges


def quantize_static(
    proto: onnx.ModelProto,
    ranges: Mapping[str, Range],
    *,
    weights_only: Collection[str] = (),
    keep_nodes: Collection[str] = (),
) -> onnx.ModelProto:
    """Quantize the operands of products to int8 with constant scales.

    Weights have one scale per output channel. Activations have one scale: symmetric, or from the lowest value where
    they are never or hardly negative (after Softmax, Relu, Sigmoid and GELU), as symmetry would lose a bit there.

    Args:
        proto: float32 graph; it is not changed.
        ranges: range of every operand that is not constant (`measure_ranges`).
        weights_only: names of products whose weights are stored as int8 and multiplied in float32.
        keep_nodes: names of products that stay in float32.
    """
    quantized = onnx.ModelProto()
    quantized.CopyFrom(proto)
    rewriter = _Rewriter(quantized.graph, ranges)
    for node in proto.graph.node:
        rewriter.add(node, keep=node.name in keep_nodes, weights_only=node.name in weights_only)
    del quantized.graph.node[:]
    quantized.graph.node.extend(rewriter.nodes)
    drop_unused(quantized)
    return quantized


class _Rewriter:
    """Copies nodes; quantized nodes get rounded operands."""

    def __init__(self, graph: onnx.GraphProto, ranges: Mapping[str, Range]) -> None:
        self.graph, self.ranges = graph, ranges
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.nodes: list[onnx.NodeProto] = []
        self.made: set[str] = set()

    def add(self, node: onnx.NodeProto, *, keep: bool, weights_only: bool) -> None:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        if node.op_type in PRODUCTS and not keep and node.input[0] not in self.constants:
            first, second = node.input[:2]
            if not weights_only:
                copy.input[0] = self._activation(first)
            if second in self.constants:
                transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
                copy.input[1] = self._weight(second, channels=0 if transposed else 1)
            elif not weights_only:
                copy.input[1] = self._activation(second)
        self.nodes.append(copy)

    def _activation(self, name: str) -> str:
        """Round an activation to int8 and back."""
        if name not in self.made:
            self.made.add(name)
            found = self.ranges[name]
            low, high = min(found.low, 0.0), max(found.high, -found.low, _LEAST_RANGE)
            if -low < _SKEWED * high:
                scale = (high - low) / 255
                zero = np.array(round(-low / scale), np.uint8)
            else:
                scale, zero = high / 127, np.array(0, np.int8)
            parameters = self._store(name, np.array(scale, np.float32), zero)
            self._node("QuantizeLinear", [name, *parameters], f"{name}_int8")
            self._node("DequantizeLinear", [f"{name}_int8", *parameters], f"{name}_rounded")
        return f"{name}_rounded"

    def _weight(self, name: str, *, channels: int) -> str:
        """Store a weight as int8; it is read through a DequantizeLinear."""
        if name not in self.made:
            self.made.add(name)
            matrix = numpy_helper.to_array(self.constants[name])
            values, scales = quantize_columns(matrix if channels == 1 else matrix.T)
            stored = np.ascontiguousarray(values if channels == 1 else values.T)
            self.graph.initializer.append(numpy_helper.from_array(stored, f"{name}_int8"))
            parameters = self._store(name, scales, np.zeros(len(scales), np.int8))
            self._node("DequantizeLinear", [f"{name}_int8", *parameters], f"{name}_rounded", axis=channels)
        return f"{name}_rounded"

    def _store(self, name: str, scale: NDArray[np.float32], zero: NDArray[np.generic]) -> list[str]:
        names = [f"{name}_int8_scale", f"{name}_int8_zero"]
        arrays = zip((scale, zero), names, strict=True)
        self.graph.initializer.extend(numpy_helper.from_array(array, label) for array, label in arrays)
        return names

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: int) -> None:
        self.nodes.append(onnx.helper.make_node(kind, inputs, [output], name=f"{kind}_{output}", **attributes))
