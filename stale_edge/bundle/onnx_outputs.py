"""Reducing an ONNX file to the parts that a caller needs, without the `onnx` package.

Decoding reads two of a detector's three outputs, and only few rows of one of them, `masks`. Values that depend only on
the classes are the same for every video. With the full file, a runtime computes everything in every call.
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
"""Values inside a graph of the paper's network, float32; `masks` is computed from them (`mask_rows` in the core). Row i
of the first, (B, T, n), has the weights of snippet i's tiny network (eq. 8); all networks read the second,
(B, width + 2, T)."""

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
    """Remove all inputs, outputs, nodes and weights from an ONNX file that the named outputs do not need.

    Args:
        graph: the file's graph.
        names: outputs to keep; they come first, in the file's order. Values inside the graph may be named too, and
            become outputs.
        constants: values inside the graph to store as constants; the nodes that computed them are removed.

    Returns:
        The bytes of an ONNX model; the kept parts are unchanged.

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
    """List the pieces of a graph that are kept."""
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
        BundleError: the array's number type is not supported here.
    """
    if array.dtype.name not in _TYPES:
        raise BundleError(f"{name} is {array.dtype}; constants of a graph are {', '.join(_TYPES)}")
    dims = b"".join(number_field(_TENSOR_DIMS, size) for size in array.shape)
    data = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()
    kind = number_field(_TENSOR_TYPE, _TYPES[array.dtype.name])
    return dims + kind + field(TENSOR_NAME, name.encode()) + field(_TENSOR_BYTES, data)
