"""Names inside a graph of the paper's network for the two inputs of its masks, so a runtime can compute few mask rows.

The output `masks` does not depend on these names. Decoding reads few rows of it, so a runtime may cut the graph at
these two values and compute only those rows itself (csrc/mask_rows.cpp).
"""

import onnx

from stale_edge.bundle.onnx_outputs import MASK_FEATURES, MASK_NETWORKS
from stale_edge.exporting.graph.products import module_of


def name_mask_networks(proto: onnx.ModelProto) -> None:
    """Rename the recorded outputs of `FoldedMaskHead.dynamic` and the inputs of its tiny networks.

    mask_networks: (B, T, n) float32, row i the weights of the network of snippet i.
    mask_features: (B, width + 2, T) float32: channels, positions and ones.

    Raises:
        RuntimeError: the graph was not recorded from a folded mask head.
    """
    networks = [node.output[0] for node in proto.graph.node if module_of(node) == "localizer.dynamic"]
    products = [node for node in proto.graph.node if node.op_type == "MatMul" and module_of(node) == "localizer"]
    if not networks or not products:
        raise RuntimeError("the graph has no dynamic networks to name; was it recorded from FoldedMaskHead?")
    renamed = {networks[-1]: MASK_NETWORKS, products[0].input[1]: MASK_FEATURES}
    for node in proto.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
