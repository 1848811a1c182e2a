"""Values in an ONNX detector that depend only on its classes: constant for all videos with one vocabulary."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from stale_edge.bundle.onnx_graph import GRAPH_INITIALIZER, TENSOR_NAME, Graph, Node

CLASSES = "class_embeddings"
_PRODUCTS = ("MatMul", "Gemm", "MatMulInteger")
_ROUNDING = ("QuantizeLinear", "DequantizeLinear")


class ClassAttention(NamedTuple):
    """Attention among classes, as names of values in a graph: attended = softmax(queries keys) values.

    Their shapes are (..., K, d), keys (..., d, K). Each row of `attended` depends on one row of `queries` alone.
    """

    queries: str
    keys: str
    values: str
    attended: str


def class_values(graph: Graph, outputs: Collection[str]) -> tuple[str, ...]:
    """Name the values that depend only on `class_embeddings` and that the rest of the graph reads.

    When they are stored as constants (`with_outputs`), the graph is for one vocabulary. If a value is rounded to eight
    bits before it is read, the value before the rounding is named: runtimes recognise a constant operand of an
    eight-bit product by the rounding after it.

    Args:
        graph: graph of an ONNX detector.
        outputs: outputs that are needed, or values inside the graph.

    Returns:
        Names, in the order of the graph; empty if no matrix product is saved.
    """
    maker = {name: node for node in graph.nodes for name in node.writes}
    fixed = {""} | {
        graph.text(first, last, TENSOR_NAME) for number, first, last in graph.members if number == GRAPH_INITIALIZER
    }
    of_classes = {CLASSES}
    own: set[int] = set()
    for node in graph.nodes:
        reads = set(node.reads)
        if reads <= fixed:
            fixed.update(node.writes)
        elif reads <= fixed | of_classes:
            of_classes.update(node.writes)
            own.add(node.start)
    needed, read = set(outputs), dict[str, None]()
    for node in reversed(graph.nodes):
        if needed.isdisjoint(node.writes) or node.start in own:
            continue
        needed |= set(node.reads)
        read |= {name: None for name in node.reads if name in of_classes}
    sources = {_before_rounding(name, maker) for name in read} - {CLASSES}
    saved = _ancestors(sources, maker)
    if not any(node.operator in _PRODUCTS for node in saved):
        return ()
    return tuple(name for node in graph.nodes for name in node.writes if name in sources)


def class_attentions(graph: Graph, values: Collection[str]) -> tuple[ClassAttention, ...]:
    """Find the attention among classes that `class_values` need, in the order of the graph; K x K numbers a head."""
    maker = {name: node for node in graph.nodes for name in node.writes}
    saved = sorted(_ancestors(values, maker), key=lambda node: node.start)
    reader = {name: node for node in saved for name in node.reads}
    found = []
    for node in saved:
        if node.operator != "Softmax":
            continue
        logits = maker.get(_before_rounding(node.reads[0], maker))
        weights = node.writes[0]
        while weights in reader and reader[weights].operator in _ROUNDING:
            weights = reader[weights].writes[0]
        product = reader.get(weights)
        if logits is not None and product is not None and {logits.operator, product.operator} == {"MatMul"}:
            found.append(ClassAttention(logits.reads[0], logits.reads[1], product.reads[1], product.writes[0]))
    return tuple(found)


def _before_rounding(name: str, maker: Mapping[str, Node]) -> str:
    while name in maker and maker[name].operator in _ROUNDING:
        name = maker[name].reads[0]
    return name


def _ancestors(names: Collection[str], maker: Mapping[str, Node]) -> list[Node]:
    """List the nodes that compute some values, directly or indirectly."""
    found: dict[int, Node] = {}
    waiting = [maker[name] for name in names]
    while waiting:
        node = waiting.pop()
        if node.start not in found:
            found[node.start] = node
            waiting += [maker[name] for name in node.reads if name in maker]
    return list(found.values())
