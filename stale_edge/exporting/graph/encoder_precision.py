"""int8 of a visual encoder, dynamic or static, with as few products left in float32 as the parity check needs.

CLIP's towers have a few channels with very large activations, so one scale for all channels rounds coarsely. Channels
after a LayerNorm are balanced first (`channel_balance`). The int8 error in the output of each product is measured on
pictures. The worst products stay in float32, as many as the features' directions need.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from stale_edge.exporting.graph.precision import quantize_columns, quantize_weights
from stale_edge.exporting.graph.rewriting import weights
from stale_edge.exporting.graph.static_ranges import PRODUCTS, Range, measure_ranges, quantize_static
from stale_edge.progress import Progress, silent
from stale_edge.runtime.onnx_session import open_session
from stale_edge.segments import FloatArray

_LARGEST_SHARE = 0.5
"""Largest share of products in float32, in [0, 1]; with more, the file would be int8 in name only."""
_PICTURES = 8
"""Number of pictures on which the error of each product is measured; all their activations are in memory together."""


@dataclass(frozen=True)
class QuantizedEncoder:
    """An int8 graph. kept: names of the products left in float32, the worst first."""

    proto: onnx.ModelProto
    kept: tuple[str, ...]


class Quantizer(Protocol):
    """Makes an int8 graph of a float32 graph; the named nodes stay in float32."""

    def __call__(self, proto: onnx.ModelProto, *, keep_nodes: Collection[str] = ()) -> onnx.ModelProto:
        """Quantize a graph, which is not changed."""
        ...


class StaticQuantizer:
    """Quantizes products with weights to static int8; products of two activations stay in float32.

    In a ViT-B/16 the products of attention are 4 % of the arithmetic, and its softmax needs their precision.

    Args:
        proto: float32 graph.
        pixels: (N, 3, height, width) prepared pictures that ranges are measured on.
    """

    def __init__(self, proto: onnx.ModelProto, pixels: FloatArray) -> None:
        self.ranges: dict[str, Range] = measure_ranges(
            proto, ({"pixel_values": pixels[i : i + 1]} for i in range(len(pixels)))
        )

    def __call__(self, proto: onnx.ModelProto, *, keep_nodes: Collection[str] = ()) -> onnx.ModelProto:
        """Quantize a graph that has the operands measured before."""
        weighted = {name for name, _, _ in _products(proto)}
        inner = {node.name for node in proto.graph.node if node.op_type in PRODUCTS} - weighted
        return quantize_static(proto, self.ranges, keep_nodes={*keep_nodes, *inner})


def quantize_encoder(
    proto: onnx.ModelProto,
    pixels: FloatArray,
    wanted: FloatArray,
    *,
    min_cosine: float,
    quantizer: Quantizer | None = None,
    progress: Progress = silent,
) -> QuantizedEncoder:
    """Quantize an encoder's graph; products stay in float32 only where the features' directions need it.

    The number of float32 products doubles from try to try: none, one, two, four ..., up to half of all.

    Args:
        proto: float32 graph; it is not changed.
        pixels, wanted: (N, 3, height, width) prepared pictures to try on, and (N, C) their features in float32.
        min_cosine: smallest cosine allowed on any picture. If no try reaches it, the last one is returned, and the
            parity check refuses it.
        quantizer: None: dynamic int8.
        progress: called with (stage, done, total).
    """
    quantize: Quantizer = quantizer or quantize_weights
    made = quantize(proto)
    if _least_cosine(made, pixels, wanted) >= min_cosine:
        return QuantizedEncoder(made, ())
    by_harm = sorted(product_errors(proto, pixels[:_PICTURES]).items(), key=lambda item: -item[1])
    most, n_kept = int(len(by_harm) * _LARGEST_SHARE), 1
    while True:
        n_kept = min(n_kept, most)
        kept = tuple(name for name, _ in by_harm[:n_kept])
        progress("int8: leave products in float32", n_kept, most)
        made = quantize(proto, keep_nodes=kept)
        if n_kept == most or _least_cosine(made, pixels, wanted) >= min_cosine:
            return QuantizedEncoder(made, kept)
        n_kept *= 2


def product_errors(proto: onnx.ModelProto, pixels: FloatArray) -> dict[str, float]:
    """Measure the int8 error of each product with a weight: norm of the error over norm of the output.

    Args:
        proto: float32 graph.
        pixels: (N, 3, height, width) prepared pictures.

    Returns:
        Relative error >= 0, by node name.
    """
    products = list(_products(proto))
    inputs = list(dict.fromkeys(name for _, name, _ in products))
    watched = onnx.ModelProto()
    watched.CopyFrom(proto)
    given = {value.name for value in watched.graph.output}
    watched.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in inputs if name not in given)
    session = open_session(watched.SerializeToString(), threads=1)
    values = dict(zip(inputs, session.run(inputs, {"pixel_values": pixels}), strict=True))
    errors = {}
    for node, name, weight in products:
        x = values[name].reshape(-1, weight.shape[0])
        rounded, scales = quantize_columns(weight)
        exact = x @ weight
        error = _as_uint8(x) @ (rounded * scales) - exact
        errors[node] = float(np.linalg.norm(error) / max(float(np.linalg.norm(exact)), 1e-30))
    return errors


def has_products(proto: onnx.ModelProto) -> bool:
    """Check whether there is a product that can be quantized."""
    return next(_products(proto), None) is not None


def _products(proto: onnx.ModelProto) -> Iterator[tuple[str, str, NDArray[np.float32]]]:
    """Iterate over the products that can be quantized: node name, input name, and weight (in, out)."""
    for weight in weights(proto.graph):
        node = weight.node
        if node.op_type in ("MatMul", "Gemm") and weight.operand == 1 and len(weight.tensor.dims) == 2:
            matrix = numpy_helper.to_array(weight.tensor)
            transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
            yield node.name, node.input[0], matrix.T if transposed else matrix


def _as_uint8(x: FloatArray) -> FloatArray:
    """Round as ONNX's DynamicQuantizeLinear does, and return the dequantized values."""
    low, high = min(0.0, float(x.min())), max(0.0, float(x.max()))
    scale = (high - low) / 255 or 1.0
    zero = round(-low / scale)
    rounded: FloatArray = ((np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale).astype(np.float32)
    return rounded


def _least_cosine(proto: onnx.ModelProto, pixels: FloatArray, wanted: FloatArray) -> float:
    session = open_session(proto.SerializeToString(), threads=1)
    least = 1.0
    for start in range(0, len(pixels), _PICTURES):
        (got,) = session.run(["image_embeds"], {"pixel_values": pixels[start : start + _PICTURES]})
        expected = wanted[start : start + _PICTURES]
        sizes = np.linalg.norm(got, axis=1) * np.linalg.norm(expected, axis=1)
        least = min(least, float(((got * expected).sum(axis=1) / np.maximum(sizes, 1e-30)).min()))
    return least
