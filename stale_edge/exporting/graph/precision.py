"""fp16 and int8 made from one float32 graph: only products with constant weights change, decisions stay in float32."""

from collections.abc import Collection, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from stale_edge.exporting.graph.rewriting import MATMUL_LIKE, drop_unused, weights

_LARGE_TABLE = 1 << 15
"""Smallest size of a table to halve, in numbers; smaller ones are not worth a Cast node."""
_LARGEST_HALF = float(np.finfo(np.float16).max)


def halve_weights(proto: onnx.ModelProto, *, keep_nodes: Collection[str] = ()) -> onnx.ModelProto:
    """Store the weights of MatMul and Gemm as float16 and multiply in float16; everything else stays float32.

    In float16, softmax, normalisation, the classifier's cosine and the gate lose far more accuracy than the products
    with weights, and they have no weights worth compressing.

    Args:
        proto: float32 graph; it is not changed.
        keep_nodes: names of nodes that stay in float32.

    Raises:
        ValueError: a weight is too large for float16.
    """
    half = onnx.ModelProto()
    half.CopyFrom(proto)
    graph = half.graph
    chosen = {
        weight.node.name: weight
        for weight in weights(graph)
        if weight.node.op_type in ("MatMul", "Gemm") and weight.operand == 1 and weight.node.name not in keep_nodes
    }
    replaced: dict[str, str] = {}
    cast_of: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.name not in chosen:
            nodes.append(node)
            continue
        tensor = chosen[node.name].tensor
        if tensor.name not in replaced:
            replaced[tensor.name] = f"{tensor.name}_fp16"
            graph.initializer.append(_as_half(tensor))
        operands = [node.input[0], *node.input[2:]]  # a Gemm's bias is cast too
        for name in operands:
            if name not in cast_of:
                cast_of[name] = f"{name}_fp16"
                nodes.append(_cast(name, cast_of[name], TensorProto.FLOAT16))
        output = node.output[0]
        node.input[:] = [cast_of[node.input[0]], replaced[tensor.name], *(cast_of[name] for name in node.input[2:])]
        node.output[:] = [f"{output}_fp16"]
        nodes += [node, _cast(f"{output}_fp16", output, TensorProto.FLOAT)]
    del graph.node[:]
    graph.node.extend(nodes)
    drop_unused(half)
    return half


def quantize_weights(proto: onnx.ModelProto, *, keep_nodes: Collection[str] = ()) -> onnx.ModelProto:
    """Quantize the weights of MatMul and Gemm to int8, and their other operand dynamically to uint8.

    A product becomes DynamicQuantizeLinear, MatMulInteger and a scale per output channel; ONNX Runtime fuses them into
    one kernel. Never Conv: see FORBIDDEN_OPERATORS. onnxruntime's own `quantize_dynamic` writes the same nodes,
    but its weights either saturate on x86 without VNNI or lose a bit (`quantize_columns`).

    Args:
        proto: float32 graph; it is not changed.
        keep_nodes: names of nodes that stay in float32.

    Raises:
        ValueError: a weight is not finite.
    """
    quantized = onnx.ModelProto()
    quantized.CopyFrom(proto)
    graph = quantized.graph
    chosen = {
        weight.node.name: weight
        for weight in weights(graph)
        if _is_plain_product(weight.node) and weight.operand == 1 and weight.node.name not in keep_nodes
    }
    nodes: list[onnx.NodeProto] = []
    stored: set[str] = set()
    for node in graph.node:
        if node.name not in chosen:
            nodes.append(node)
            continue
        name, x = node.input[1], node.input[0]
        if f"{name}_int8" not in stored:
            values, scales = quantize_columns(_matrix(node, chosen[node.name].tensor))
            graph.initializer.append(numpy_helper.from_array(values, f"{name}_int8"))
            graph.initializer.append(numpy_helper.from_array(scales, f"{name}_scale"))
            stored.add(f"{name}_int8")
        if f"{x}_uint8" not in stored:
            outputs = [f"{x}_uint8", f"{x}_scale", f"{x}_zero"]
            nodes.append(onnx.helper.make_node("DynamicQuantizeLinear", [x], outputs, name=f"quantize_{x}"))
            stored.add(f"{x}_uint8")
        nodes += _integer_product(node, x, name)
    del graph.node[:]
    graph.node.extend([*_halve_tables(graph, nodes), *nodes])
    drop_unused(quantized)
    return quantized


def quantize_columns(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round a weight (in, out) to int8 with one scale per column, so that no CPU can saturate on it.

    On x86 without VNNI, onnxruntime adds the products of rows 2i and 2i + 1 in 16 bits; an overflow would change the
    result there. uint8 times weights of 7 bits always fits; so does every pair of weights of one sign whose sum stays
    within 128, which costs about half as much precision.

    Returns:
        (in, out) int8 in [-127, 127], and (out,) float32 > 0: weight = int8 * scale, to half a scale.

    Raises:
        ValueError: a weight is not finite.
    """
    if not np.isfinite(weight).all():
        raise ValueError(f"a weight of shape {weight.shape} is not finite, so it cannot be quantized")
    even = np.concatenate([weight, np.zeros((len(weight) % 2, weight.shape[1]), np.float32)])
    pairs = even.reshape(-1, 2, weight.shape[1]).astype(np.float64)  # (in / 2, 2, out)
    sums = np.maximum(np.maximum(pairs, 0).sum(axis=1), -np.minimum(pairs, 0).sum(axis=1))
    # 127, not 128: each weight of a pair may be rounded up by a half.
    scales = np.maximum(np.abs(weight).max(axis=0), sums.max(axis=0)) / 127
    scales = np.where(scales > 0, scales, 1.0).astype(np.float32)
    return np.rint(weight / scales).astype(np.int8), scales


def _is_plain_product(node: onnx.NodeProto) -> bool:
    """Check that MatMulInteger can replace a product: no factors, first operand not transposed."""
    factors = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    plain = (factors.get("alpha", 1.0), factors.get("beta", 1.0), factors.get("transA", 0)) == (1.0, 1.0, 0)
    return node.op_type == "MatMul" or (node.op_type == "Gemm" and plain)


def _matrix(node: onnx.NodeProto, tensor: onnx.TensorProto) -> NDArray[np.float32]:
    """Read a product's weight as (in, out)."""
    array = numpy_helper.to_array(tensor)
    if tensor.data_type != TensorProto.FLOAT or array.ndim != 2:
        raise ValueError(f"weight {tensor.name} must be a float32 matrix; got {array.dtype} {array.shape}")
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    matrix: NDArray[np.float32] = array.T if transposed else array
    return matrix


def _integer_product(node: onnx.NodeProto, x: str, weight: str) -> list[onnx.NodeProto]:
    """Write x @ weight (+ bias, for a Gemm) with int8 operands."""
    y = node.output[0]
    make = onnx.helper.make_node
    scaled = f"{y}_product" if len(node.input) > 2 else y
    nodes = [
        make("MatMulInteger", [f"{x}_uint8", f"{weight}_int8", f"{x}_zero"], [f"{y}_int32"], name=node.name),
        make("Cast", [f"{y}_int32"], [f"{y}_unscaled"], name=f"cast_{y}", to=TensorProto.FLOAT),
        make("Mul", [f"{x}_scale", f"{weight}_scale"], [f"{y}_scales"], name=f"scales_{y}"),
        make("Mul", [f"{y}_unscaled", f"{y}_scales"], [scaled], name=f"scale_{y}"),
    ]
    if len(node.input) > 2:
        nodes.append(make("Add", [scaled, node.input[2]], [y], name=f"bias_{y}"))
    return nodes


def _halve_tables(graph: onnx.GraphProto, users: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Store large tables that are only added as float16; returns the nodes that cast them back.

    The only one is the position embedding in the public network's masking, which decoding does not read: 2 % of an
    int8 file.
    """
    nodes = []
    for tensor in [t for t in graph.initializer if t.data_type == TensorProto.FLOAT]:
        multiplies = any(
            tensor.name in node.input for node in users if node.op_type in (*MATMUL_LIKE, "DequantizeLinear")
        )
        if len(tensor.dims) >= 2 and np.prod(tensor.dims) >= _LARGE_TABLE and not multiplies:
            half = _as_half(tensor)
            nodes.append(_cast(half.name, tensor.name, TensorProto.FLOAT))
            graph.initializer.remove(tensor)
            graph.initializer.append(half)
    return nodes


def _as_half(tensor: onnx.TensorProto) -> onnx.TensorProto:
    array = numpy_helper.to_array(tensor)
    largest = float(np.abs(array).max())
    if not largest <= _LARGEST_HALF:
        raise ValueError(f"weight {tensor.name} reaches {largest}; float16 ends at {_LARGEST_HALF}: keep it in float32")
    return numpy_helper.from_array(array.astype(np.float16), f"{tensor.name}_fp16")


def _cast(source: str, target: str, to: int) -> onnx.NodeProto:
    return onnx.helper.make_node("Cast", [source], [target], name=f"cast_{target}", to=to)
