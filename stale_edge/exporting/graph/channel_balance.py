"""Make channels of activations equally large before int8, by moving factors from a LayerNorm into the next products.

Towers such as CLIP's have a few channels whose activations are a hundred times larger than all others, and one scale
for all channels rounds the others to nothing. A factor by channel, divided out of the LayerNorm's gain and shift and
multiplied into the rows of every weight that reads it, changes nothing in exact arithmetic (SmoothQuant, Xiao et al.,
arXiv:2211.10438, section 4, with half of the difficulty moved).
"""

from collections.abc import Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from stale_edge.runtime.onnx_session import open_session
from stale_edge.segments import FloatArray

_LEAST = 1e-5
"""Smallest size of a channel; keeps the factor of one that is always 0 finite."""


def balance_channels(proto: onnx.ModelProto, pixels: FloatArray) -> onnx.ModelProto:
    """Give an equivalent graph whose products read channels of similar size.

    Args:
        proto: float32 graph of a visual encoder; it is not changed.
        pixels: (N, 3, height, width) prepared pictures, on which channels are measured.
    """
    balanced = onnx.ModelProto()
    balanced.CopyFrom(proto)
    graph = balanced.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    norms = list(_norms_before_products(graph, tensors))
    sizes = _channel_sizes(balanced, [norm.output[0] for norm, _ in norms], pixels)
    for norm, products in norms:
        weights = [numpy_helper.to_array(tensors[product.input[1]]) for product in products]
        rows = [1 if _transposed(product) else 0 for product in products]
        largest = np.max([np.abs(w).max(axis=1 - axis) for w, axis in zip(weights, rows, strict=True)], axis=0)
        factor = np.sqrt(np.maximum(sizes[norm.output[0]], _LEAST) / np.maximum(largest, _LEAST))
        factor = (factor / np.exp(np.log(factor).mean())).astype(np.float32)  # only ratios matter
        for place in range(1, len(norm.input)):  # gain, and shift where there is one
            values = numpy_helper.to_array(tensors[norm.input[place]]) / factor
            norm.input[place] = _store(graph, values, f"{norm.output[0]}_balanced_{place}")
        for product, weight, axis in zip(products, weights, rows, strict=True):
            scaled = weight * (factor if axis else factor[:, None])
            product.input[1] = _store(graph, scaled, f"{product.output[0]}_balanced")
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return balanced


def _norms_before_products(
    graph: onnx.GraphProto, tensors: dict[str, onnx.TensorProto]
) -> Iterator[tuple[onnx.NodeProto, list[onnx.NodeProto]]]:
    """Iterate over the LayerNorms that nothing but products with constant matrices reads, with these products."""
    results = {value.name for value in graph.output}
    for norm in graph.node:
        if norm.op_type != "LayerNormalization" or norm.output[0] in results:
            continue
        readers = [node for node in graph.node if norm.output[0] in node.input]
        if readers and all(_is_product(node, norm.output[0], tensors) for node in readers):
            yield norm, readers


def _is_product(node: onnx.NodeProto, x: str, tensors: dict[str, onnx.TensorProto]) -> bool:
    matrix = tensors.get(node.input[1]) if len(node.input) > 1 else None
    return node.op_type in ("MatMul", "Gemm") and node.input[0] == x and matrix is not None and len(matrix.dims) == 2


def _transposed(node: onnx.NodeProto) -> bool:
    return any(attribute.name == "transB" and attribute.i for attribute in node.attribute)


def _channel_sizes(proto: onnx.ModelProto, names: list[str], pixels: FloatArray) -> dict[str, NDArray[np.float32]]:
    """Measure the largest absolute value of each channel, by the name of the activation."""
    if not names:
        return {}
    watched = onnx.ModelProto()
    watched.CopyFrom(proto)
    del watched.graph.output[:]
    watched.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    session = open_session(watched.SerializeToString(), threads=1)
    values = session.run(names, {"pixel_values": pixels})
    return {
        name: np.abs(value).reshape(-1, value.shape[-1]).max(axis=0) for name, value in zip(names, values, strict=True)
    }


def _store(graph: onnx.GraphProto, values: NDArray[np.float32], name: str) -> str:
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name))
    return name
