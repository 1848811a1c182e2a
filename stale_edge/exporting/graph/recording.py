"""PyTorch detector -> one ONNX file of standard operators, with the dynamic axes of its contract."""

import contextlib
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from stale_edge.bundle.manifest import TensorSpec
from stale_edge.errors import ParityError
from stale_edge.exporting.graph.detector_graph import (
    DetectorGraph,
    dynamic_axes,
    example_inputs,
    expect_warnings,
    graph_inputs,
    in_eval_mode,
    model_config,
    output_specs,
)
from stale_edge.exporting.graph.mask_networks import name_mask_networks
from stale_edge.exporting.graph.rewriting import drop_unused, fold_constants
from stale_edge.model.stale.folded_paper import FoldedMaskHead
from stale_edge.version import __version__

OPSET = 18
"""Every runtime of the last three years reads it; no older opset has all the operators in the form used here."""

IR_VERSION = 8
"""File format version of opset 18; nothing newer is used after per-node metadata is removed."""

STANDARD_DOMAINS = ("", "ai.onnx")
FORBIDDEN_OPERATORS = ("ConvInteger",)
"""Operators missing in many runtimes: microsoft/onnxruntime issues 3130, 6430, 15888."""

_CHATTER = ("torch.onnx._internal.exporter._registration", "onnxscript.optimizer._constant_folding")


def trace_onnx(model: nn.Module) -> onnx.ModelProto:
    """Record a detector as an ONNX graph in float32, fold constants, and check it against a bundle's contract.

    Args:
        model: detector of this package, on the CPU, float32.

    Raises:
        ValueError: the model cannot be deployed.
        ParityError: an axis became static, a name or type differs, or an operator is not a standard one.
    """
    config = model_config(model)
    proto = record_onnx(
        DetectorGraph(model),
        example_inputs(config),
        inputs=graph_inputs(config),
        outputs=output_specs(model),
        dynamic_shapes=dynamic_axes(config),
    )
    if isinstance(getattr(model, "localizer", None), FoldedMaskHead):
        name_mask_networks(proto)
    return proto


def record_onnx(
    graph: nn.Module,
    example: tuple[Tensor, ...],
    *,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    dynamic_shapes: tuple[dict[int, Any], ...],
) -> onnx.ModelProto:
    """Record a module as an ONNX graph, fold constants, and check it against its inputs and outputs.

    Args:
        graph: its `forward` takes and returns tensors, in the order of `inputs` and `outputs`.
        example: inputs for tracing; no size of a dynamic axis may be 1, or equal another size.
        dynamic_shapes: `torch.export.Dim` by axis, for every input.

    Raises:
        ParityError: an axis became static, a name or type differs, or an operator is not a standard one.
    """
    with in_eval_mode(graph), _quiet_exporter():
        program = torch.onnx.export(
            graph,
            example,
            dynamo=True,
            external_data=False,
            opset_version=OPSET,
            input_names=[spec.name for spec in inputs],
            output_names=[spec.name for spec in outputs],
            dynamic_shapes=dynamic_shapes,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export(dynamo=True) returned no program")
    proto: onnx.ModelProto = program.model_proto
    fold_constants(proto)
    drop_unused(proto)
    check_graph(proto, inputs=inputs, outputs=outputs)
    return proto


def save_onnx(proto: onnx.ModelProto, path: Path, *, metadata: Mapping[str, str], graph_name: str = "detector") -> None:
    """Write a graph as one file: remove traces of this machine, add `metadata_props`, run ONNX's full check.

    Raises:
        onnx.checker.ValidationError: the graph is not valid ONNX, which is a bug of the exporter.
    """
    _strip(proto, graph_name)
    onnx.helper.set_model_props(proto, dict(metadata))
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def check_graph(proto: onnx.ModelProto, *, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    """Check a graph against its contract: names, types, axes, standard operators only, no data outside the file.

    Symbolic axes get the names in the contract, such as `K+1`. A symbol that only outputs have, such as `P`, means any
    size that is not constant.

    Raises:
        ParityError: the graph differs from its contract; the message names every difference.
    """
    problems = []
    given = {size for spec in inputs for size in spec.shape}
    computed = {size for spec in outputs for size in spec.shape if size not in given and str(size).isidentifier()}
    for kind, values, promised in (("input", proto.graph.input, inputs), ("output", proto.graph.output, outputs)):
        names = [value.name for value in values]
        if names != [spec.name for spec in promised]:
            problems.append(f"{kind}s are {names}; promised: {[spec.name for spec in promised]}")
            continue
        for value, spec in zip(values, promised, strict=True):
            problems += _tensor_problems(value, spec, computed)
    nodes = list(all_nodes(proto.graph))
    foreign = {f"{node.domain}.{node.op_type}" for node in nodes if node.domain not in STANDARD_DOMAINS}
    forbidden = {node.op_type for node in nodes if node.op_type in FORBIDDEN_OPERATORS}
    if foreign or forbidden:
        problems.append(f"operators that are not allowed: {', '.join(sorted(foreign | forbidden))}")
    if proto.functions:
        problems.append(f"functions are left: {', '.join(function.name for function in proto.functions)}")
    opsets = {entry.domain: entry.version for entry in proto.opset_import}
    if opsets != {"": OPSET}:
        problems.append(f"operator sets are {opsets}; promised: ai.onnx {OPSET} alone")
    outside = [tensor.name for tensor in proto.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    if outside:
        problems.append(f"weights outside the file: {', '.join(outside)}")
    if problems:
        raise ParityError(f"the exported graph is not what a bundle needs: {'; '.join(problems)}")


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Iterate over all nodes of a graph, including those in bodies of control flow."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            bodies = [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else attribute.graphs
            for body in bodies:
                yield from all_nodes(body)


def _tensor_problems(value: onnx.ValueInfoProto, spec: TensorSpec, computed: Collection[int | str]) -> list[str]:
    """Compare one input or output with its specification, and give its symbolic axes the specified names.

    Args:
        computed: symbols that mean any size that is not constant.
    """
    tensor = value.type.tensor_type
    problems = []
    if tensor.elem_type != onnx.helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype)):
        problems.append(f"{spec.name} is {onnx.TensorProto.DataType.Name(tensor.elem_type)}; promised: {spec.dtype}")
    got = [size.dim_param or size.dim_value for size in tensor.shape.dim]
    fits = len(got) == len(spec.shape) and all(
        (not isinstance(size, int) or size == 0)
        if promised in computed
        else (size.replace(" ", "") if isinstance(size, str) else size) == promised
        for size, promised in zip(got, spec.shape, strict=True)
    )
    if not fits:
        problems.append(f"{spec.name} has shape {got}; promised: {list(spec.shape)}")
    else:
        for size, promised in zip(tensor.shape.dim, spec.shape, strict=True):
            if isinstance(promised, str):
                size.dim_param = promised
    return problems


def _strip(proto: onnx.ModelProto, graph_name: str) -> None:
    """Remove traces of this machine (source paths, stack traces) and set the producer of the file."""
    proto.ir_version = IR_VERSION
    proto.producer_name, proto.producer_version = "stale-edge", __version__
    proto.doc_string = ""
    del proto.metadata_props[:]
    graph = proto.graph
    graph.name, graph.doc_string = graph_name, ""
    del graph.metadata_props[:]
    del graph.value_info[:]
    for item in (*all_nodes(graph), *graph.input, *graph.output, *graph.initializer):
        item.doc_string = ""
        del item.metadata_props[:]


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence known messages of the exporter; errors pass.

    torchvision is absent by design, constants that the exporter leaves are folded here, and its use of pytree is
    internal to torch.
    """
    chatter = [logging.getLogger(name) for name in _CHATTER]
    levels = [logger.level for logger in chatter]
    for logger in chatter:
        logger.setLevel(logging.ERROR)
    try:
        with expect_warnings((r".*isinstance\(treespec, LeafSpec\).*", FutureWarning)):
            yield
    finally:
        for logger, level in zip(chatter, levels, strict=True):
            logger.setLevel(level)
