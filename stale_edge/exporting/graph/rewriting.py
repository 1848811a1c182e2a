"""Rewriting an ONNX graph: fold constants, drop unused nodes, find and count weights."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper

MATMUL_LIKE = ("MatMul", "Gemm", "MatMulInteger", "Conv", "ConvTranspose", "Einsum", "QLinearMatMul", "QLinearConv")
"""Operators whose constant operands are weights."""


@dataclass(frozen=True)
class WeightCount:
    """Count of a file's weights in low precision: tensors, numbers in them, and bytes as stored."""

    tensors: int
    tensors_low: int
    numbers: int
    numbers_low: int
    stored_bytes: int

    def text(self, precision: str) -> str:
        """Describe the count in words."""
        verb = "in float16" if precision == "fp16" else "quantized"
        return f"{self.tensors_low} of {self.tensors} weights {verb} ({self.numbers_low} of {self.numbers} numbers)"


@dataclass(frozen=True)
class Weight:
    """A constant operand of a matrix product."""

    node: onnx.NodeProto
    operand: int
    tensor: onnx.TensorProto


def weights(graph: onnx.GraphProto) -> Iterator[Weight]:
    """Find every constant of two or more axes that a matrix product reads, directly or dequantized."""
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    initializers |= {
        node.output[0]: initializers[node.input[0]]
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in initializers
    }
    for node in graph.node:
        if node.op_type not in MATMUL_LIKE:
            continue
        for operand, name in enumerate(node.input):
            tensor = initializers.get(name)
            if tensor is not None and len(tensor.dims) >= 2:
                yield Weight(node, operand, tensor)


def count_weights(graph: onnx.GraphProto, low: int) -> WeightCount:
    """Count the weights of a graph, and those stored as the ONNX element type `low`; shared weights count once."""
    found = {weight.tensor.name: weight.tensor for weight in weights(graph)}.values()
    sizes = [(int(np.prod(tensor.dims)), tensor.data_type == low, _stored_bytes(tensor)) for tensor in found]
    return WeightCount(
        tensors=len(sizes),
        tensors_low=sum(is_low for _, is_low, _ in sizes),
        numbers=sum(size for size, _, _ in sizes),
        numbers_low=sum(size for size, is_low, _ in sizes if is_low),
        stored_bytes=sum(stored for _, _, stored in sizes),
    )


def nodes_with_weights(graph: onnx.GraphProto, arrays: Sequence[NDArray[np.float32]]) -> set[str]:
    """Name the nodes that multiply by one of these linear weights (out, in), found by value.

    Raises:
        RuntimeError: no node has one of the weights; the graph and the weights come from different modules.
    """
    names: set[str] = set()
    for array in arrays:
        transposed = np.ascontiguousarray(array.T)
        users = {
            weight.node.name
            for weight in weights(graph)
            if tuple(weight.tensor.dims) == transposed.shape
            and np.array_equal(numpy_helper.to_array(weight.tensor), transposed)
        }
        if not users:
            raise RuntimeError(f"no product uses the weight of shape {array.shape} that is to stay in float32")
        names |= users
    return names


def fold_constants(proto: onnx.ModelProto) -> None:
    """Compute every node that depends on no input, and store the results in place of the nodes."""
    graph = proto.graph
    known = {tensor.name for tensor in graph.initializer}
    constant = []
    for node in graph.node:  # nodes stand in topological order
        if node.op_type != "Constant" and all(name in known or not name for name in node.input) and node.input:
            constant.append(node)
            known.update(node.output)
    if not constant:
        return
    kept = [node for node in graph.node if node not in constant]
    made = {name for node in constant for name in node.output}
    wanted = sorted(made & ({name for node in kept for name in node.input} | {value.name for value in graph.output}))
    part = onnx.helper.make_graph(
        constant, "constants", [], [onnx.helper.make_empty_tensor_value_info(name) for name in wanted]
    )
    read = {name for node in constant for name in node.input}
    part.initializer.extend(tensor for tensor in graph.initializer if tensor.name in read)
    model = onnx.helper.make_model(part, opset_imports=proto.opset_import, ir_version=proto.ir_version)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), _plain_options(), providers=["CPUExecutionProvider"]
    )
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(array), name)
        for name, array in zip(wanted, session.run(wanted, {}), strict=True)
    )
    del graph.node[:]
    graph.node.extend(kept)


def drop_unused(proto: onnx.ModelProto) -> None:
    """Remove nodes and constants that no output needs."""
    graph = proto.graph
    needed = {value.name for value in graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(name for name in node.input if name)
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    needed.update(name for inner in attribute.g.node for name in inner.input)
    tensors = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(tensors)


def _plain_options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def _stored_bytes(tensor: onnx.TensorProto) -> int:
    return int(np.prod(tensor.dims)) * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
