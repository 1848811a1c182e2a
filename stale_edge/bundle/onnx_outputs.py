"""An ONNX file with other outputs, and without what only the dropped ones needed; without the `onnx` package.

Decoding reads two of a detector's three outputs, and of one of them, `masks`, few rows. A runtime that is handed the
file as it is loads the weights of the third and computes everything in every call. Field numbers are those of
onnx.proto (ONNX IR).
"""

import io
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from stale_edge.bundle.protobuf import field, field_head, fields
from stale_edge.errors import BundleError

MASK_NETWORKS, MASK_FEATURES = "mask_networks", "mask_features"
"""Values inside a graph of the paper's network, float32, that `masks` is computed from: row i of (B, T, n) holds the
weights of the tiny network of snippet i (eq. 8), and all networks read (B, width + 2, T): `mask_rows` in the core."""

_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_OUTPUT = 1, 5, 12
_NODE_INPUT, _NODE_OUTPUT, _NODE_ATTRIBUTE = 1, 2, 5
_ATTRIBUTE_GRAPHS = (6, 11)
_TENSOR_NAME, _VALUE_NAME, _VALUE_TYPE = 8, 1, 2
_FLOAT_TENSOR = bytes([0x0A, 2, 0x08, 1])
"""TypeProto of a float32 tensor of any shape: field 1, tensor_type, whose field 1, elem_type, is 1."""


class _Node(NamedTuple):
    start: int
    """Where it lies in the file; nodes have no name that is theirs alone."""
    reads: frozenset[str]
    writes: frozenset[str]


def inner_values(path: Path) -> frozenset[str]:
    """Name what the nodes of an ONNX file's graph compute.

    Raises:
        BundleError: the file is not an ONNX model, or is cut short.
    """
    content = path.read_bytes()
    file = io.BytesIO(content)
    names: set[str] = set()
    for number, start, end in list(fields(file, path, start=0, end=len(content))):
        if number == _MODEL_GRAPH:
            for part, first, last in list(fields(file, path, start=start, end=end)):
                if part == _GRAPH_NODE:
                    names |= _node(file, path, first, last).writes
    return frozenset(names)


def with_outputs(path: Path, names: Collection[str]) -> bytes:
    """Read an ONNX file, leaving out all other outputs, nodes and weights that the named outputs do not need.

    Args:
        path: the file.
        names: outputs to keep, which stand first and in the file's order; float32 values inside the graph may be named
            too, and become outputs.

    Returns:
        The bytes of an ONNX model, everything that is kept as it was.

    Raises:
        BundleError: the file is not an ONNX model, is cut short, or has no such output and no such value.
    """
    content = path.read_bytes()
    file = io.BytesIO(content)
    parts: list[bytes | memoryview] = []
    view, position, found = memoryview(content), 0, False
    for number, start, end in fields(file, path, start=0, end=len(content)):
        if number == _MODEL_GRAPH:
            found = True
            graph = _pruned_graph(file, view, path, start, end, names)
            parts += [field_head(_MODEL_GRAPH, sum(map(len, graph))), *graph]
        else:
            parts.append(view[position:end])
        position = end
    if not found:
        raise BundleError(f"{path}: not an ONNX model: it holds no graph")
    return b"".join(parts)


def _pruned_graph(
    file: BinaryIO, view: memoryview, path: Path, start: int, end: int, names: Collection[str]
) -> list[bytes | memoryview]:
    """Cut a graph into the pieces that stay."""
    members = list(fields(file, path, start=start, end=end))
    nodes = [_node(file, path, first, last) for number, first, last in members if number == _GRAPH_NODE]
    outputs = _output_names(file, path, members)
    inner = [name for name in names if name not in outputs]
    missing = sorted(set(inner).difference(*(node.writes for node in nodes)))
    if missing:
        raise BundleError(f"{path}: the graph has no output {', '.join(missing)}; it has {', '.join(sorted(outputs))}")
    needed, kept_nodes = set(names), set()
    for node in reversed(nodes):  # nodes stand in the order in which they can be computed
        if not needed.isdisjoint(node.writes):
            kept_nodes.add(node.start)
            needed |= node.reads
    kept: list[bytes | memoryview] = []
    position = start
    for number, first, last in members:
        unused = (
            (number == _GRAPH_NODE and first not in kept_nodes)
            or (number == _GRAPH_INITIALIZER and _text(file, path, first, last, _TENSOR_NAME) not in needed)
            or (number == _GRAPH_OUTPUT and _text(file, path, first, last, _VALUE_NAME) not in names)
        )
        if not unused:
            kept.append(view[position:last])
        position = last
    for name in inner:
        value = field(_VALUE_NAME, name.encode()) + field(_VALUE_TYPE, _FLOAT_TENSOR)
        kept.append(field(_GRAPH_OUTPUT, value))
    return kept


def _node(file: BinaryIO, path: Path, start: int, end: int) -> _Node:
    """Read what a node reads, the bodies of control flow included, and writes."""
    reads: set[str] = set()
    writes: set[str] = set()
    for number, first, last in list(fields(file, path, start=start, end=end)):
        if number in (_NODE_INPUT, _NODE_OUTPUT):
            file.seek(first)
            (reads if number == _NODE_INPUT else writes).add(file.read(last - first).decode())
        elif number == _NODE_ATTRIBUTE:
            for body_start, body_end in _bodies(file, path, first, last):
                members = list(fields(file, path, start=body_start, end=body_end))
                reads |= _output_names(file, path, members)
                for part, inner_start, inner_end in members:
                    if part == _GRAPH_NODE:
                        reads |= _node(file, path, inner_start, inner_end).reads
    return _Node(start, frozenset(reads), frozenset(writes))


def _bodies(file: BinaryIO, path: Path, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Find the graphs inside an attribute."""
    for number, first, last in list(fields(file, path, start=start, end=end)):
        if number in _ATTRIBUTE_GRAPHS:
            yield first, last


def _output_names(file: BinaryIO, path: Path, members: Sequence[tuple[int, int, int]]) -> set[str]:
    """Name the outputs among the fields of a graph."""
    return {_text(file, path, first, last, _VALUE_NAME) for number, first, last in members if number == _GRAPH_OUTPUT}


def _text(file: BinaryIO, path: Path, start: int, end: int, wanted: int) -> str:
    """Read a field of text of a message; "" if it has none."""
    for number, first, last in fields(file, path, start=start, end=end):
        if number == wanted:
            file.seek(first)
            return file.read(last - first).decode()
    return ""
