"""The products in a detector's graph that decoding needs, with the modules that they come from."""

from collections.abc import Collection
from dataclasses import dataclass

import onnx

from stale_edge.exporting.graph.rewriting import drop_unused
from stale_edge.exporting.graph.static_ranges import PRODUCTS


@dataclass(frozen=True)
class Product:
    """A product that decoding needs.

    node: its name in the graph.
    module: the module that it comes from, named as in `named_modules()` of the detector.
    weight: shape of its constant operand; None for a product of activations.
    """

    node: str
    module: str
    weight: tuple[int, ...] | None

    @property
    def name(self) -> str:
        """Name in reports; includes the node where needed, as a module has several products of activations."""
        return self.module if self.weight is not None and self.module else f"{self.module} {self.node}".strip()


def decoding_products(proto: onnx.ModelProto, decoded: Collection[str]) -> tuple[Product, ...]:
    """Find the products that the decoded outputs need, in the order of the graph."""
    needed = onnx.ModelProto()
    needed.CopyFrom(proto)
    outputs = [value for value in needed.graph.output if value.name in decoded]
    del needed.graph.output[:]
    needed.graph.output.extend(outputs)
    drop_unused(needed)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    return tuple(
        Product(node.name, module_of(node), shapes.get(node.input[1]))
        for node in needed.graph.node
        if node.op_type in PRODUCTS and node.input[0] not in shapes
    )


def module_of(node: onnx.NodeProto) -> str:
    """Name the module that a node was recorded in; the exporter stores its scopes, the last of which is an operator."""
    scopes = {entry.key: entry.value for entry in node.metadata_props}.get("pkg.torch.onnx.name_scopes", "")
    path = [part.strip(" '\"") for part in scopes.strip("[]").split(",")]
    return path[-2].removeprefix("model").removeprefix(".") if len(path) >= 2 else ""
