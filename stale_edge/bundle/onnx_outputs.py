"""An ONNX file cut to what a caller needs of it, without the `onnx` package.

Decoding reads two of a detector's three outputs, and of one of them, `masks`, few rows; and what depends on the classes
alone is the same for every video. A runtime that is handed the file as it is computes everything in every call.
"""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stale_edge.bundle.onnx_graph import (
    GRAPH_INITIALIZER,
    GRAPH_INPUT,
    GRAPH_NODE,
    GRAPH_OUTPUT,
    MODEL_GRAPH,
    TENSOR_NAME,
    VALUE_NAME,
    Graph,
)
from stale_edge.bundle.protobuf import field, field_head, number_field
from stale_edge.errors import BundleError

MASK_NETWORKS, MASK_FEATURES = "mask_networks", "mask_features"
"""Values inside a graph of the paper's network, float32, that `masks` is computed from: row i of (B, T, n) holds the
weights of the tiny network of snippet i (eq. 8), and all networks read (B, width + 2, T): `mask_rows` in the core."""

_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_BYTES = 1, 2, 9
_TYPES = {
    "float32": 1,
    "uint8": 2,
    "int8": 3,
    "int32": 6,
    "int64": 7,
    "bool": 9,
    "float16": 10,
    "float64": 11,
}


def with_outputs(graph: Graph, names: Collection[str], *, constants: Mapping[str, NDArray[Any]] | None = None) -> bytes:
    """Give an ONNX file without all inputs, outputs, nodes and weights that the named outputs do not need.

    Args:
        graph: of the file.
        names: outputs to keep, which stand first and in the file's order; values inside the graph may be named too, and
            become outputs.
        constants: values inside the graph that are stored in it in place of what computed them.

    Returns:
        The bytes of an ONNX model, everything that is kept as it was.

    Raises:
        BundleError: the graph has no such output and no such value.
    """
    view = memoryview(graph.content)
    parts: list[bytes | memoryview] = []
    position = 0
    for number, start, end in graph.model_members():
        if number == MODEL_GRAPH and start == graph.start:
            pieces = _pieces(graph, view, names, constants or {})
            parts += [field_head(MODEL_GRAPH, sum(map(len, pieces))), *pieces]
        else:
            parts.append(view[position:end])
        position = end
    return b"".join(parts)


def _pieces(
    graph: Graph, view: memoryview, names: Collection[str], constants: Mapping[str, NDArray[Any]]
) -> list[bytes | memoryview]:
    """Cut a graph into the pieces that stay."""
    inner = [name for name in names if name not in graph.outputs]
    missing = sorted({*inner, *constants} - graph.computed)
    if missing:
        raise BundleError(
            f"{graph.path}: the graph has no output {', '.join(missing)}; it has {', '.join(sorted(graph.outputs))}"
        )
    needed, kept_nodes = set(names) - set(constants), set()
    for node in reversed(graph.nodes):
        if not needed.isdisjoint(node.writes):
            kept_nodes.add(node.start)
            needed |= set(node.reads) - set(constants)
    kept: list[bytes | memoryview] = []
    position = graph.start
    for number, first, last in graph.members:
        unused = (
            (number == GRAPH_NODE and first not in kept_nodes)
            or (number == GRAPH_INITIALIZER and graph.text(first, last, TENSOR_NAME) not in needed)
            or (number == GRAPH_INPUT and graph.text(first, last, VALUE_NAME) not in needed)
            or (number == GRAPH_OUTPUT and graph.text(first, last, VALUE_NAME) not in names)
        )
        if not unused:
            kept.append(view[position:last])
        position = last
    kept += [field(GRAPH_INITIALIZER, _tensor(name, array)) for name, array in constants.items()]
    return kept + [field(GRAPH_OUTPUT, field(VALUE_NAME, name.encode())) for name in inner]


def _tensor(name: str, array: NDArray[Any]) -> bytes:
    """Encode an array as a TensorProto.

    Raises:
        BundleError: ONNX files written here have no such numbers.
    """
    if array.dtype.name not in _TYPES:
        raise BundleError(f"{name} is {array.dtype}; constants of a graph are {', '.join(_TYPES)}")
    dims = b"".join(number_field(_TENSOR_DIMS, size) for size in array.shape)
    data = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()
    kind = number_field(_TENSOR_TYPE, _TYPES[array.dtype.name])
    return dims + kind + field(TENSOR_NAME, name.encode()) + field(_TENSOR_BYTES, data)
