"""Reading the nodes of an ONNX file's graph, with their inputs and outputs, without the `onnx` package.

Field numbers are those of onnx.proto (ONNX IR).
"""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from stale_edge.bundle.protobuf import fields
from stale_edge.errors import BundleError

MODEL_GRAPH = 7
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_OUTPUT = 1, 5, 11, 12
TENSOR_NAME, VALUE_NAME = 8, 1
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR, _NODE_ATTRIBUTE = 1, 2, 4, 5
_ATTRIBUTE_GRAPHS = (6, 11)
_DEEPEST = 32
"""Largest nesting depth of graphs in bodies of control flow; real files have two."""


class Node(NamedTuple):
    """A node of the graph.

    start: its offset in the file, which identifies it, as names of nodes are not unique.
    operator: its type, such as `MatMul`.
    reads, writes: names of values; `reads` includes those read in its bodies of control flow.
    """

    start: int
    operator: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]


class Graph:
    """The graph of an ONNX file.

    content: all bytes of the file.
    start, end: offsets of its graph.
    members: (field number, start, end) of each field of the graph, in the file's order.
    nodes: in topological order.
    outputs: names of the graph's outputs.
    computed: names of all values that nodes write.

    Raises:
        BundleError: the file is not an ONNX model, or is cut short.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content = path.read_bytes()
        self._file = io.BytesIO(self.content)
        graphs = [part for part in self.model_members() if part[0] == MODEL_GRAPH]
        if not graphs:
            raise BundleError(f"{path}: not an ONNX model: it holds no graph")
        _, self.start, self.end = graphs[-1]
        self.members = list(fields(self._file, path, start=self.start, end=self.end))
        self.nodes = [
            _node(self._file, path, first, last) for number, first, last in self.members if number == GRAPH_NODE
        ]
        self.outputs = _output_names(self._file, path, self.members)
        self.computed = frozenset(name for node in self.nodes for name in node.writes)

    def model_members(self) -> list[tuple[int, int, int]]:
        """List (field number, start, end) of each field of the file, including the graph."""
        return list(fields(self._file, self.path, start=0, end=len(self.content)))

    def text(self, start: int, end: int, wanted: int) -> str:
        """Read a text field of the message in [start, end); "" if there is none."""
        return _text(self._file, self.path, start, end, wanted)


def _node(file: BinaryIO, path: Path, start: int, end: int, depth: int = 0) -> Node:
    if depth > _DEEPEST:
        raise BundleError(f"{path}: control flow is nested more than {_DEEPEST} times")
    reads: dict[str, None] = {}
    writes: dict[str, None] = {}
    operator = ""
    for number, first, last in list(fields(file, path, start=start, end=end)):
        if number in (_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR):
            text = _decoded(file, path, first, last)
            if number == _NODE_OPERATOR:
                operator = text
            else:
                (reads if number == _NODE_INPUT else writes)[text] = None
        elif number == _NODE_ATTRIBUTE:
            for body_start, body_end in _bodies(file, path, first, last):
                members = list(fields(file, path, start=body_start, end=body_end))
                reads |= dict.fromkeys(_output_names(file, path, members))
                for part, inner_start, inner_end in members:
                    if part == GRAPH_NODE:
                        reads |= dict.fromkeys(_node(file, path, inner_start, inner_end, depth + 1).reads)
    return Node(start, operator, tuple(reads), tuple(writes))


def _bodies(file: BinaryIO, path: Path, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Find the graphs inside an attribute."""
    for number, first, last in list(fields(file, path, start=start, end=end)):
        if number in _ATTRIBUTE_GRAPHS:
            yield first, last


def _output_names(file: BinaryIO, path: Path, members: Sequence[tuple[int, int, int]]) -> frozenset[str]:
    """Name the outputs among the fields of a graph."""
    return frozenset(
        _text(file, path, first, last, VALUE_NAME) for number, first, last in members if number == GRAPH_OUTPUT
    )


def _text(file: BinaryIO, path: Path, start: int, end: int, wanted: int) -> str:
    for number, first, last in fields(file, path, start=start, end=end):
        if number == wanted:
            return _decoded(file, path, first, last)
    return ""


def _decoded(file: BinaryIO, path: Path, start: int, end: int) -> str:
    file.seek(start)
    try:
        return file.read(end - start).decode()
    except UnicodeDecodeError as error:
        raise BundleError(f"{path}: not an ONNX model: the name at byte {start} is not UTF-8") from error
