"""Listing all nodes and tensors of an ONNX model, in graphs, bodies of control flow and functions.

Nothing is computed, and no tensor's numbers are read. Field numbers are those of onnx.proto (ONNX IR).
"""

from collections.abc import Iterator
from pathlib import Path

from stale_edge.bundle.onnx_graph import MODEL_GRAPH
from stale_edge.bundle.protobuf import fields, read_varint
from stale_edge.errors import BundleError, cut, shown

DEEPEST = 32
"""Largest nesting depth of graphs; real files have two."""

DOMAINS = ("", "ai.onnx")
"""Domains of ONNX's own operators; those of another domain need a library that a bundle cannot check."""

_FUNCTIONS = 25
_NODE, _INITIALIZER, _SPARSE_INITIALIZER = 1, 5, 15
_OPERATOR, _ATTRIBUTE, _DOMAIN = 4, 5, 7
_TENSORS, _GRAPHS, _SPARSE_TENSORS = (5, 10), (6, 11), (22, 23)
_TENSOR_NAME, _EXTERNAL_DATA, _DATA_LOCATION = 8, 13, 14
_FUNCTION_NODE = 7


def foreign_parts(path: Path) -> list[str]:
    """Describe what a model needs beyond its own file; nothing of it may reach an engine.

    Returns:
        One text for each tensor that is stored in another file, at most five, and one for all operators that are not
        ONNX's own.

    Raises:
        BundleError: as `parts`.
    """
    outside: dict[str, None] = {}
    operators: dict[str, None] = {}
    for kind, name in parts(path):
        if kind == "external":
            outside[name] = None
        elif kind == "node" and name.rpartition(".")[0] not in DOMAINS:
            operators[name] = None
    problems = [f"the numbers of {shown(name)} lie in another file, which no hash covers" for name in [*outside][:5]]
    if operators:
        problems.append(f"operators that are not ONNX's own: {cut(', '.join(operators), 200)}")
    return problems


def graph_problems(folder: Path, name: str) -> list[str]:
    """Describe what keeps a file of a folder from an engine; nothing for files that are not ONNX graphs."""
    if Path(name).suffix != ".onnx":
        return []
    try:
        return [f"{name}: {problem}" for problem in foreign_parts(folder / name)]
    except BundleError as error:
        return [str(error)]


def parts(path: Path) -> Iterator[tuple[str, str]]:
    """Iterate over a model: ("node", domain and operator), ("tensor", name), ("external", name of a tensor elsewhere).

    Raises:
        BundleError: it is not an ONNX model, or its graphs are nested too deep.
    """
    with path.open("rb") as file:

        def members(span: tuple[int, int]) -> list[tuple[int, int, int]]:
            return list(fields(file, path, start=span[0], end=span[1]))

        def text(start: int, end: int) -> str:
            file.seek(start)
            return file.read(end - start).decode(errors="backslashreplace")

        def tensor(span: tuple[int, int]) -> Iterator[tuple[str, str]]:
            name, outside = "", False
            for number, start, end in members(span):
                if number == _TENSOR_NAME:
                    name = text(start, end)
                elif number == _DATA_LOCATION:
                    file.seek(start)
                    outside = outside or read_varint(file, path) != 0
                outside = outside or number == _EXTERNAL_DATA
            yield "external" if outside else "tensor", name

        def sparse(span: tuple[int, int]) -> Iterator[tuple[str, str]]:
            for number, start, end in members(span):
                if number in (1, 2):
                    yield from tensor((start, end))

        def node(span: tuple[int, int], depth: int) -> Iterator[tuple[str, str]]:
            operator = domain = ""
            for number, start, end in members(span):
                if number == _OPERATOR:
                    operator = text(start, end)
                elif number == _DOMAIN:
                    domain = text(start, end)
                elif number == _ATTRIBUTE:
                    for part, first, last in members((start, end)):
                        if part in _TENSORS:
                            yield from tensor((first, last))
                        elif part in _SPARSE_TENSORS:
                            yield from sparse((first, last))
                        elif part in _GRAPHS:
                            yield from graph((first, last), depth + 1)
            yield "node", f"{domain}.{operator}"

        def graph(span: tuple[int, int], depth: int) -> Iterator[tuple[str, str]]:
            if depth > DEEPEST:
                raise BundleError(f"{path}: graphs are nested more than {DEEPEST} times")
            for number, start, end in members(span):
                if number == _NODE:
                    yield from node((start, end), depth)
                elif number == _INITIALIZER:
                    yield from tensor((start, end))
                elif number == _SPARSE_INITIALIZER:
                    yield from sparse((start, end))

        for number, start, end in members((0, path.stat().st_size)):
            if number == MODEL_GRAPH:
                yield from graph((start, end), 0)
            elif number == _FUNCTIONS:
                for part, first, last in members((start, end)):
                    if part == _FUNCTION_NODE:
                        yield from node((first, last), 0)
