"""One detector in memory -> artifact files, any row of the table of formats."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import onnx
from torch import nn

from stale_edge.exporting.detector_graph import (
    float32_modules,
    graph_inputs,
    graph_outputs,
    linear_modules,
    model_config,
)
from stale_edge.exporting.formats import ArtifactFormat, check_arguments, find_format
from stale_edge.exporting.onnx_export import check_graph, save_onnx, trace_onnx
from stale_edge.exporting.onnx_graph import WeightCount, count_weights, nodes_with_weights
from stale_edge.exporting.onnx_precision import halve_weights, quantize_weights
from stale_edge.exporting.torchscript import (
    count_script_weights,
    load_torchscript,
    save_torchscript,
    trace_torchscript,
)

_ONNX_TYPES = {
    "fp32": onnx.TensorProto.FLOAT,
    "fp16": onnx.TensorProto.FLOAT16,
    "int8": onnx.TensorProto.INT8,
}


class DetectorExporter:
    """Write artifacts of one detector; the slow recording of the ONNX graph happens once for all precisions.

    Args:
        model: detector of this package, on the CPU, float32; it is not changed.

    Raises:
        ValueError: the model cannot be deployed.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.config = model_config(model)

    def write(
        self,
        row: ArtifactFormat,
        path: Path,
        *,
        metadata: Mapping[str, str],
        keep_float32: Sequence[str] | None = None,
    ) -> WeightCount:
        """Write one file and count its weights, from the file's own graph.

        Args:
            row: what to write.
            path: the file.
            metadata: what the file says of itself, keys as in `stale_edge.bundle.onnx_metadata`.
            keep_float32: modules whose linear layers low precision leaves alone; None: `float32_modules`.

        Raises:
            ValueError: a module to be kept does not exist, or a weight is too large for float16.
            ParityError: the graph breaks a promise.
        """
        names = float32_modules(self.model, row.precision) if keep_float32 is None else tuple(keep_float32)
        kept = linear_modules(self.model, names)
        if row.format == "torchscript":
            save_torchscript(trace_torchscript(self.model, precision=row.precision, keep=kept), path, metadata=metadata)
            return count_script_weights(load_torchscript(path), row.precision)
        graph = self._in_precision(row, kept)
        check_graph(graph, inputs=graph_inputs(self.config), outputs=graph_outputs(self.config))
        save_onnx(graph, path, metadata=metadata)
        return count_weights(onnx.load(path).graph, _ONNX_TYPES[row.precision])

    @cached_property
    def _float32(self) -> onnx.ModelProto:
        return trace_onnx(self.model)

    def _in_precision(self, row: ArtifactFormat, kept: Mapping[str, nn.Linear]) -> onnx.ModelProto:
        if row.precision == "fp32":
            graph = onnx.ModelProto()
            graph.CopyFrom(self._float32)
            return graph
        arrays = [module.weight.detach().numpy() for module in kept.values()]
        nodes = nodes_with_weights(self._float32.graph, arrays)
        lower = halve_weights if row.precision == "fp16" else quantize_weights
        return lower(self._float32, keep_nodes=nodes)


def export_detector(
    model: nn.Module,
    *,
    format: str,
    precision: str,
    path: Path,
    metadata: Mapping[str, str] | None = None,
    keep_float32: Sequence[str] | None = None,
) -> WeightCount:
    """Write one artifact of a detector in memory, without a checkpoint and without a bundle around it.

    Promised axes, operators and types are checked. Decisions are not: `export_checkpoint` does that, and bundles come
    from there alone. This is for measuring time, which does not depend on the values of weights.

    Args:
        model: detector of this package, on the CPU, float32.
        format, precision: a row of `FORMATS`.
        path: the file.
        metadata: what the file says of itself.
        keep_float32: modules whose linear layers low precision leaves alone; None: `float32_modules`.

    Raises:
        ValueError: no such row, an argument it does not take, or a model that cannot be deployed.
        ParityError: the graph breaks a promise.
    """
    row = find_format(format, precision)
    given = {"metadata": metadata, "keep_float32": keep_float32}
    check_arguments(row, [name for name, value in given.items() if value is not None])
    return DetectorExporter(model).write(row, Path(path), metadata=metadata or {}, keep_float32=keep_float32)
