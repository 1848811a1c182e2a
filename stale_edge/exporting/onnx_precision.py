"""fp16 and int8 made from one float32 graph: only products with constant weights change, decisions stay in float32."""

import contextlib
import logging
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from stale_edge.exporting.onnx_graph import drop_unused, weights

_LARGEST_HALF = float(np.finfo(np.float16).max)


def halve_weights(proto: onnx.ModelProto, *, keep_nodes: Collection[str] = ()) -> onnx.ModelProto:
    """Store the weights of MatMul and Gemm as float16 and multiply in float16; everything else stays float32.

    Softmax, normalisation, the classifier's cosine and the gate lose their meaning in half precision long before the
    products with weights do, and hold no weights worth saving.

    Args:
        proto: float32 graph; it is not changed.
        keep_nodes: names of nodes that stay in float32.

    Raises:
        ValueError: a weight is too large for float16.
    """
    half = onnx.ModelProto()
    half.CopyFrom(proto)
    graph = half.graph
    chosen = {
        weight.node.name: weight
        for weight in weights(graph)
        if weight.node.op_type in ("MatMul", "Gemm") and weight.operand == 1 and weight.node.name not in keep_nodes
    }
    replaced: dict[str, str] = {}
    cast_of: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.name not in chosen:
            nodes.append(node)
            continue
        tensor = chosen[node.name].tensor
        if tensor.name not in replaced:
            replaced[tensor.name] = f"{tensor.name}_fp16"
            graph.initializer.append(_as_half(tensor))
        operands = [node.input[0], *node.input[2:]]  # a Gemm's bias is cast too
        for name in operands:
            if name not in cast_of:
                cast_of[name] = f"{name}_fp16"
                nodes.append(_cast(name, cast_of[name], TensorProto.FLOAT16))
        output = node.output[0]
        node.input[:] = [cast_of[node.input[0]], replaced[tensor.name], *(cast_of[name] for name in node.input[2:])]
        node.output[:] = [f"{output}_fp16"]
        nodes += [node, _cast(f"{output}_fp16", output, TensorProto.FLOAT)]
    del graph.node[:]
    graph.node.extend(nodes)
    drop_unused(half)
    return half


def quantize_weights(proto: onnx.ModelProto, *, keep_nodes: Collection[str] = ()) -> onnx.ModelProto:
    """Quantize the weights of MatMul and Gemm to int8 and their other operand dynamically to uint8.

    One scale per output channel. Weights use 7 bits: on x86 without VNNI onnxruntime adds pairs of products in 16 bits,
    which 8 bits could saturate; the same file would answer differently there. Never Conv: see FORBIDDEN_OPERATORS.

    Args:
        proto: float32 graph; it is not changed.
        keep_nodes: names of nodes that stay in float32.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    source = onnx.ModelProto()
    source.CopyFrom(proto)
    with tempfile.TemporaryDirectory(prefix="stale-edge-") as folder, _no_advice():
        path = Path(folder) / "int8.onnx"
        quantize_dynamic(
            source,
            path,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=sorted(keep_nodes),
            use_external_data_format=False,
            extra_options={"MatMulConstBOnly": True},
        )
        quantized = onnx.load(path)
    drop_unused(quantized)
    return quantized


def _as_half(tensor: onnx.TensorProto) -> onnx.TensorProto:
    array = numpy_helper.to_array(tensor)
    largest = float(np.abs(array).max())
    if not largest <= _LARGEST_HALF:
        raise ValueError(f"weight {tensor.name} reaches {largest}; float16 ends at {_LARGEST_HALF}: keep it in float32")
    return numpy_helper.from_array(array.astype(np.float16), f"{tensor.name}_fp16")


def _cast(source: str, target: str, to: int) -> onnx.NodeProto:
    return onnx.helper.make_node("Cast", [source], [target], name=f"cast_{target}", to=to)


@contextlib.contextmanager
def _no_advice() -> Iterator[None]:
    """Drop the advice to run `quant_pre_process`, which crashes on such graphs; other messages pass."""

    def is_other(record: logging.LogRecord) -> bool:
        return "Please consider to run pre-processing before quantization" not in record.getMessage()

    root = logging.getLogger()
    handlers = list(root.handlers)
    root.addFilter(is_other)
    try:
        yield
    finally:
        root.removeFilter(is_other)
        for handler in set(root.handlers) - set(handlers):  # logging.warning() installs one when there is none
            root.removeHandler(handler)
