"""An ONNX file with fewer outputs, and without what only the others needed; without the `onnx` package.

Decoding reads two of a detector's three outputs. A runtime that is handed the file as it is loads the weights of the
third and computes it in every call. Field numbers are those of onnx.proto (ONNX IR).
"""

import io
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from stale_edge.bundle.protobuf import field_head, fields
from stale_edge.errors import BundleError

_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_OUTPUT = 1, 5, 12
_NODE_INPUT, _NODE_OUTPUT, _NODE_ATTRIBUTE = 1, 2, 5
_ATTRIBUTE_GRAPHS = (6, 11)
_TENSOR_NAME, _VALUE_NAME = 8, 1


class _Node(NamedTuple):
    start: int
    """Where it lies in the file; nodes have no name that is theirs alone."""
    reads: frozenset[str]
    writes: frozenset[str]


def with_outputs(path: Path, names: Collection[str]) -> bytes:
    """Read an ONNX file, leaving out all other outputs, nodes and weights that the named outputs do not need.

    Args:
        path: the file.
        names: outputs to keep, in the file's order.

    Returns:
        The bytes of an ONNX model, everything that is kept as it was.

    Raises:
        BundleError: the file is not an ONNX model, is cut short, or has no such output.
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
) -> list[memoryview]:
    """Cut a graph into the pieces that stay."""
    members = list(fields(file, path, start=start, end=end))
    outputs = _output_names(file, path, members)
    missing = sorted(set(names) - outputs)
    if missing:
        raise BundleError(f"{path}: the graph has no output {', '.join(missing)}; it has {', '.join(sorted(outputs))}")
    nodes = [_node(file, path, first, last) for number, first, last in members if number == _GRAPH_NODE]
    needed, kept_nodes = set(names), set()
    for node in reversed(nodes):  # nodes stand in the order in which they can be computed
        if not needed.isdisjoint(node.writes):
            kept_nodes.add(node.start)
            needed |= node.reads
    kept, position = [], start
    for number, first, last in members:
        unused = (
            (number == _GRAPH_NODE and first not in kept_nodes)
            or (number == _GRAPH_INITIALIZER and _text(file, path, first, last, _TENSOR_NAME) not in needed)
            or (number == _GRAPH_OUTPUT and _text(file, path, first, last, _VALUE_NAME) not in names)
        )
        if not unused:
            kept.append(view[position:last])
        position = last
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
