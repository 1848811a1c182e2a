"""One detector in memory -> files in any format and precision of the table."""

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import onnx
from torch import nn

from stale_edge.config import DecodeSettings
from stale_edge.config.runtimes import PRECISIONS, NumberType, Precision
from stale_edge.exporting.artifact_formats import ArtifactFormat, check_arguments, find_format
from stale_edge.exporting.calibration import Calibration
from stale_edge.exporting.graph.detector_graph import (
    float32_modules,
    float32_products,
    graph_inputs,
    linear_modules,
    model_config,
    output_specs,
    read_outputs,
)
from stale_edge.exporting.graph.precision import halve_weights, quantize_weights
from stale_edge.exporting.graph.products import Product, decoding_products
from stale_edge.exporting.graph.recording import check_graph, save_onnx, trace_onnx
from stale_edge.exporting.graph.rewriting import WeightCount, count_weights, nodes_with_weights
from stale_edge.exporting.graph.static_ranges import Range, measure_ranges, quantize_static
from stale_edge.exporting.graph.torch_export import save_torch_export
from stale_edge.exporting.graph.torchscript import (
    count_script_weights,
    load_torchscript,
    save_torchscript,
    trace_torchscript,
)
from stale_edge.model.architectures import architecture_of
from stale_edge.model.channel_statistics import FeatureStatistics
from stale_edge.model.folding import fold_detector

_ONNX_TYPES: dict[NumberType, int] = {
    "fp32": onnx.TensorProto.FLOAT,
    "fp16": onnx.TensorProto.FLOAT16,
    "int8": onnx.TensorProto.INT8,
}


class DetectorExporter:
    """Write files of one detector; the ONNX graph, which is slow to record, is recorded once for all precisions.

    Args:
        model: detector of this package, on the CPU, float32; it is not changed.
        calibration: videos for int8; None: int8 features are not centred, and static int8 is refused.
        decode: decode settings; only products that decoding needs are lowered. None: the architecture's default.

    Raises:
        ValueError: the model cannot be deployed.
    """

    def __init__(
        self, model: nn.Module, *, calibration: Calibration | None = None, decode: DecodeSettings | None = None
    ) -> None:
        self.config = model_config(model)
        self.inputs, self.outputs = graph_inputs(self.config), output_specs(model)
        self.decoded = read_outputs(decode or architecture_of(self.config.architecture).decode, self.outputs)
        self.calibration = calibration
        self.model = fold_detector(model)
        # Only int8 gains from centred features; float32 equals the checkpoint to the last bit.
        self._int8_model = self.model
        if calibration is not None and architecture_of(self.config.architecture).fold_centred is not None:
            self._int8_model = fold_detector(model, FeatureStatistics.of(calibration.features))

    def write(
        self,
        row: ArtifactFormat,
        path: Path,
        *,
        metadata: Mapping[str, str],
        keep_float32: Sequence[str] | None = None,
        keep_nodes: Collection[str] | None = None,
    ) -> WeightCount:
        """Write one file and count its weights, from the file's own graph.

        Args:
            row: what to write.
            path: the file.
            metadata: metadata stored in the file, keys as in `stale_edge.bundle.onnx_metadata`.
            keep_float32: modules whose linear layers stay in float32; None: `float32_modules`.
            keep_nodes: names of ONNX products that stay in float32, in place of `keep_float32` (`search_layers`).

        Raises:
            ValueError: a module to be kept does not exist, a weight is too large for float16, or static int8 has no
                calibration videos.
            ParityError: the graph differs from its contract.
        """
        model = self._model(row.precision)
        if row.format == "torchscript":
            kept = linear_modules(model, self._kept_modules(row.precision, keep_float32))
            save_torchscript(trace_torchscript(model, precision=row.precision, keep=kept), path, metadata=metadata)
            return count_script_weights(load_torchscript(path), row.precision)
        if row.format == "pt2":
            return save_torch_export(model, path, metadata=metadata)
        nodes = self._kept_nodes(row.precision, keep_float32) if keep_nodes is None else keep_nodes
        graph = self.lowered(row.precision, nodes)
        check_graph(graph, inputs=self.inputs, outputs=self.outputs)
        save_onnx(graph, path, metadata=metadata)
        return count_weights(onnx.load(path).graph, _ONNX_TYPES[PRECISIONS[row.precision].products])

    def float32_graph(self, precision: Precision) -> onnx.ModelProto:
        """Return the float32 graph that a precision is made from."""
        return self._float32 if self._model(precision) is self.model else self._float32_centred

    def products(self, precision: Precision) -> tuple[Product, ...]:
        """Find the products that a precision changes, among those that decoding needs."""
        found = decoding_products(self.float32_graph(precision), self.decoded)
        return found if precision == "int8-static" else tuple(product for product in found if product.weight)

    def lowered(self, precision: Precision, keep_nodes: Collection[str]) -> onnx.ModelProto:
        """Make the ONNX graph in a precision, some products left in float32.

        Raises:
            ValueError: a weight is too large for float16, or static int8 has no calibration videos.
        """
        graph = self.float32_graph(precision)
        if precision == "fp16":
            return halve_weights(graph, keep_nodes=keep_nodes)
        if precision == "int8":
            return quantize_weights(graph, keep_nodes=keep_nodes)
        if precision == "int8-static":
            decoding = {product.node for product in self.products(precision)}
            others = [node.name for node in graph.graph.node if node.name not in decoding]
            return quantize_static(graph, self._ranges, weights_only=others, keep_nodes=keep_nodes)
        copy = onnx.ModelProto()
        copy.CopyFrom(graph)
        return copy

    @cached_property
    def _float32(self) -> onnx.ModelProto:
        return trace_onnx(self.model)

    @cached_property
    def _float32_centred(self) -> onnx.ModelProto:
        return trace_onnx(self._int8_model)

    @cached_property
    def _ranges(self) -> Mapping[str, Range]:
        if self.calibration is None:
            raise ValueError("static int8 takes its ranges from videos: give calibration videos to DetectorExporter")
        return measure_ranges(self.float32_graph("int8-static"), self.calibration.feeds())

    def _model(self, precision: Precision) -> nn.Module:
        return self._int8_model if PRECISIONS[precision].products == "int8" else self.model

    def _kept_modules(self, precision: Precision, names: Sequence[str] | None) -> tuple[str, ...]:
        return float32_modules(self._model(precision), precision) if names is None else tuple(names)

    def _kept_nodes(self, precision: Precision, names: Sequence[str] | None) -> set[str]:
        """Name the nodes that stay in float32: those of kept modules, and kept products of activations."""
        modules = linear_modules(self._model(precision), self._kept_modules(precision, names))
        graph = self.float32_graph(precision).graph
        nodes = nodes_with_weights(graph, [module.weight.detach().numpy() for module in modules.values()])
        if precision == "int8-static":
            nodes |= float32_products(self._model(precision), self.products(precision))
        return nodes


def export_detector(
    model: nn.Module,
    *,
    format: str,
    precision: str,
    path: Path,
    metadata: Mapping[str, str] | None = None,
    keep_float32: Sequence[str] | None = None,
    calibration: Calibration | None = None,
) -> WeightCount:
    """Write one file of a detector in memory, without a checkpoint and without a bundle around it.

    Axes, operators and types are checked. Detections are not: only `export_checkpoint` checks them and makes bundles.
    This function is for measuring time, which does not depend on the values of weights.

    Args:
        model: detector of this package, on the CPU, float32.
        format, precision: a row of `FORMATS`.
        path: the file.
        metadata: metadata stored in the file.
        keep_float32: modules whose linear layers stay in float32; None: `float32_modules`.
        calibration: videos for int8; needed for static int8.

    Raises:
        ValueError: no such row, an argument it does not take, or a model that cannot be deployed.
        ParityError: the graph differs from its contract.
    """
    row = find_format(format, precision)
    given = {"metadata": metadata, "keep_float32": keep_float32, "calibration": calibration}
    check_arguments(row, [name for name, value in given.items() if value is not None])
    exporter = DetectorExporter(model, calibration=calibration)
    return exporter.write(row, Path(path), metadata=metadata or {}, keep_float32=keep_float32)
