"""Exported files and bundles: the contract of graphs, agreement with the model, and failures that write nothing."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import exporting_case as case
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from stale_edge.bundle import read_onnx_metadata, remove_classes, verify_bundle
from stale_edge.config import DecodeConfig, ModelConfig
from stale_edge.errors import BundleError, CheckpointError, ParityError
from stale_edge.exporting import (
    DetectorExporter,
    ExportReport,
    detector_exporter,
    detector_files,
    export_checkpoint,
    export_detector,
    pipeline,
)
from stale_edge.exporting.artifact_formats import DEFAULT_PRECISIONS, ArtifactFormat, find_format, select_formats
from stale_edge.exporting.calibration import Calibration
from stale_edge.exporting.decoder.pipeline_graph import pipeline_graph
from stale_edge.exporting.graph.detector_graph import graph_inputs, output_specs
from stale_edge.exporting.graph.precision import halve_weights, quantize_columns, quantize_weights
from stale_edge.exporting.graph.recording import OPSET, check_graph
from stale_edge.exporting.graph.torchscript import METADATA_FILE, load_torchscript, trace_torchscript
from stale_edge.model import build_model
from stale_edge.runtime.backends import open_backend

LONG = 1000
"""Snippets; no segment of these tests is as long."""
OUTPUTS = ("class_logits", "masks", "foreground")
PRECISIONS = ("fp32", "fp16", "int8")
TOLERANCE = {"fp32": 1e-5, "fp16": 2e-2, "int8": 0.35}
"""Tolerance of masks and foreground in [0, 1] on new features; the parity check compares decisions."""


class Exported(NamedTuple):
    checkpoint: Path
    data: Path
    bundle: Path
    report: ExportReport


ROWS = select_formats(["onnx", "torchscript", "pt2"], DEFAULT_PRECISIONS)
"""Without static int8, which has its own file of tests."""


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Export everything once, from a trained checkpoint, compared on its validation set."""
    root = tmp_path_factory.mktemp("exported")
    checkpoint = case.save_checkpoint(root / "checkpoint", case.trained_model())
    data = case.save_data(root / "data")
    report = export_checkpoint(checkpoint, root / "bundle", formats=["onnx", "torchscript", "pt2"], data=data)
    return Exported(checkpoint, data, root / "bundle", report)


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """Write the release architecture in every ONNX precision, without a bundle."""
    torch.manual_seed(1)
    model = build_model(case.RELEASE).eval()
    folder = tmp_path_factory.mktemp("release")
    features = tuple(np.random.default_rng(0).standard_normal((3, 14, case.CHANNELS)).astype(np.float32))
    exporter = DetectorExporter(model, calibration=Calibration(features, case.bank().embeddings, "toy"))
    for row in ROWS:
        exporter.write(row, folder / row.file_name, metadata={})
    return model, folder


def graph(exported: Exported, precision: str) -> onnx.ModelProto:
    return onnx.load(exported.bundle / f"detector-{precision}.onnx")


def eager(model: nn.Module, features: np.ndarray, class_embeddings: np.ndarray) -> dict[str, np.ndarray]:
    with torch.no_grad():
        output = model(torch.from_numpy(features), torch.from_numpy(class_embeddings))
    return {name: getattr(output, name).numpy() for name in OUTPUTS}


def inputs(n_videos: int, n_snippets: int, n_classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([seed, n_videos, n_snippets, n_classes])
    features = rng.standard_normal((n_videos, n_snippets, case.CHANNELS)).astype(np.float32)
    return features, rng.standard_normal((n_classes, case.CHANNELS)).astype(np.float32)


# --- the bundle


def test_the_bundle_holds_every_row_of_the_table_and_verifies(exported: Exported) -> None:
    bundle = verify_bundle(exported.bundle)
    assert [(d.path, d.runtime, d.precision) for d in bundle.manifest.detectors] == [
        (row.file_name, row.runtime, row.precision) for row in ROWS
    ]
    localizers = {"localizer-fp32.onnx", "localizer-int8.onnx"}
    assert {entry.path for entry in bundle.manifest.of_role("localizer")} == localizers
    expected = {"manifest.json", "class_bank.npz", *localizers, *(row.file_name for row in ROWS)}
    assert {path.name for path in exported.bundle.iterdir()} == expected  # one file each: no .data beside it
    assert bundle.class_bank.names == case.NAMES


def test_the_manifest_says_where_it_comes_from_and_how_it_compares(exported: Exported) -> None:
    manifest = verify_bundle(exported.bundle).manifest
    fields = {"checkpoint_sha256", "config", "text_encoder", "versions", "machine", "calibration", "artifacts"}
    assert set(manifest.provenance) == fields
    assert manifest.provenance["text_encoder"] is None  # the checkpoint has none
    assert manifest.provenance["calibration"] == "8 validation videos, which are compared too"
    assert manifest.provenance["config"]["model"]["embed_dim"] == case.CHANNELS
    assert manifest.provenance["versions"]["torch"] == torch.__version__
    assert manifest.provenance["machine"]["cpu"]
    assert manifest.provenance["artifacts"]["detector-int8.onnx"]["kept_float32"] == [
        "masking.query_weights",
        "temporal.project",
        "localizer.dynamic",
    ]
    assert manifest.parity["data"]["source"] == "validation"
    assert manifest.parity["artifacts"] == {a.entry.path: a.parity.to_json() for a in exported.report.artifacts}
    assert all(parity["passed"] for parity in manifest.parity["artifacts"].values())
    for parity in manifest.parity["localizers"].values():
        assert (parity["n_videos"], parity["different"], parity["passed"]) == (16, [], True)
        assert parity["n_detections"] >= 16
    contract = manifest.feature_contract
    assert (contract.length, contract.resampling, contract.resample_to) == (None, "linear", case.LENGTH)


def test_the_report_is_json_and_prints_the_budget(exported: Exported) -> None:
    values = json.loads(json.dumps(exported.report.to_json(), allow_nan=False))
    assert [artifact["file"] for artifact in values["artifacts"]] == [row.file_name for row in ROWS]
    by_file = {artifact["file"]: artifact for artifact in values["artifacts"]}
    for name, artifact in by_file.items():
        assert artifact["bytes"] == (exported.bundle / name).stat().st_size
    assert by_file["detector-fp32.onnx"]["parity"]["flipped_snippets"] == 0
    assert by_file["detector-fp32.onnx"]["parity"]["matched_detections"] == 1.0
    text = exported.report.summary()
    for said in ("0.1 mAP lost", "0.5 mAP lost", "weights quantized", "16 of 16 validation videos", "passed"):
        assert said in text
    assert "FAILED" not in text


# --- ONNX


@pytest.mark.parametrize("precision", PRECISIONS)
def test_onnx_names_types_and_axes_are_those_of_the_contract(exported: Exported, precision: str) -> None:
    proto = graph(exported, precision)

    def described(values: list) -> dict[str, list]:
        for value in values:
            assert value.type.tensor_type.elem_type == TensorProto.FLOAT
        return {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}

    assert described(proto.graph.input) == {
        "features": ["B", "T", case.CHANNELS],
        "class_embeddings": ["K", case.CHANNELS],
    }
    assert described(proto.graph.output) == {
        "class_logits": ["B", "K+1", "T"],
        "masks": ["B", "T", "T"],
        "foreground": ["B", "T"],
    }


@pytest.mark.parametrize("precision", PRECISIONS)
def test_onnx_is_standard_operators_in_one_file(exported: Exported, precision: str) -> None:
    proto = graph(exported, precision)
    onnx.checker.check_model(proto, full_check=True)
    assert {node.domain for node in proto.graph.node} <= {"", "ai.onnx"}
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", OPSET)]
    assert not proto.functions
    assert "ConvInteger" not in {node.op_type for node in proto.graph.node}
    assert all(tensor.data_location == TensorProto.DEFAULT for tensor in proto.graph.initializer)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_onnx_says_what_it_is_and_nothing_of_this_machine(exported: Exported, precision: str) -> None:
    proto = graph(exported, precision)
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    assert metadata["stale_edge.format"] == "stale-edge-bundle/2"
    assert metadata["stale_edge.architecture"] == "paper"
    assert json.loads(metadata["stale_edge.class_names"]) == list(case.NAMES)
    assert json.loads(metadata["stale_edge.feature_contract"])["encoder"] == "toy"
    assert json.loads(metadata["stale_edge.decode"])["policy"] == "paper"
    content = (exported.bundle / f"detector-{precision}.onnx").read_bytes()
    assert b".py" not in content
    assert str(Path(__file__).resolve().parent.parent).encode() not in content


@pytest.mark.parametrize("precision", PRECISIONS)
def test_onnx_holds_nothing_that_no_output_needs(exported: Exported, precision: str) -> None:
    proto = graph(exported, precision)
    read = {name for node in proto.graph.node for name in node.input} | {value.name for value in proto.graph.output}
    assert not [tensor.name for tensor in proto.graph.initializer if tensor.name not in read]
    assert not [node.name for node in proto.graph.node if not read.intersection(node.output)]
    constants = {tensor.name for tensor in proto.graph.initializer}
    assert not [node.name for node in proto.graph.node if node.input and set(node.input) <= constants]


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 2, 3), (2, 37, 5), (3, 37, 1), (1, 300, 11), (5, 1, 2)], ids=str)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.file_name)
def test_artifacts_equal_the_model_on_sizes_they_were_not_traced_with(
    exported: Exported, row: ArtifactFormat, size: tuple[int, int, int]
) -> None:
    precision = row.precision
    features, class_embeddings = inputs(*size)
    got = open_backend(exported.bundle / row.file_name, runtime=row.runtime).run(features, class_embeddings)
    expected = eager(case.trained_model(), features, class_embeddings)
    for name in OUTPUTS:
        assert got[name].shape == expected[name].shape
        assert got[name].dtype == np.float32
        assert np.isfinite(got[name]).all()
    for name in ("masks", "foreground"):
        np.testing.assert_allclose(got[name], expected[name], atol=TOLERANCE[precision])
    if precision == "fp32":
        np.testing.assert_allclose(got["class_logits"], expected["class_logits"], atol=1e-4)


# --- precision


def linear_numbers(model: nn.Module) -> int:
    return sum(module.weight.numel() for module in model.modules() if isinstance(module, nn.Linear))


def dynamic_numbers(model: nn.Module) -> int:
    """Weights that make the dynamic networks, each with a channel more that is always 1."""
    hidden, wide = model.localizer.controller[4].in_features, model.localizer.width + 1
    return hidden * (wide * (wide + 1) + wide * wide + wide)


def folded_numbers(model: nn.Module) -> int:
    """Weights after folding.

    The mask queries are constants: what they say to each other is one too, and they go through the projections of keys
    and values, one vector a head and query to ask with, one matrix a head to read with.
    """
    decoder, sizes = model.masking.decoder[0], model.config
    gone = (*decoder.self_attention.modules(), *decoder.cross_attention.modules(), model.localizer.controller[4])
    left = linear_numbers(model) - sum(layer.weight.numel() for layer in gone if isinstance(layer, nn.Linear))
    dim, heads = sizes.embed_dim, sizes.n_heads
    return left + dim * heads * sizes.n_mask_queries + heads * dim * dim + dynamic_numbers(model)


def kept_numbers(model: nn.Module) -> int:
    return sum(w.weight.numel() for w in (model.masking.query_weights[0], model.masking.query_weights[2]))


def test_every_weight_is_quantized_but_those_named(exported: Exported) -> None:
    """x of "x of y weights quantized", from the model's sizes instead of the files."""
    model = case.trained_model()
    entries = {entry.path: entry for entry in verify_bundle(exported.bundle).manifest.detectors}
    spared = model.temporal.project.weight.numel() + dynamic_numbers(model)
    for name in ("detector-int8.onnx", "detector-int8.torchscript.pt"):
        assert entries[name].weights_total == folded_numbers(model)
        assert entries[name].weights_quantized == folded_numbers(model) - kept_numbers(model) - spared
    assert entries["detector-fp32.onnx"].weights_quantized is None
    assert entries["detector-fp16.onnx"].weights_quantized is None
    by_file = {artifact.entry.path: artifact for artifact in exported.report.artifacts}
    for name in ("detector-fp16.onnx", "detector-fp16.torchscript.pt"):
        weights = by_file[name].weights
        assert weights.numbers - weights.numbers_low == kept_numbers(model)


def test_int8_products_cannot_saturate_and_have_a_scale_per_channel(exported: Exported) -> None:
    proto = graph(exported, "int8")
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    products = [node for node in proto.graph.node if node.op_type == "MatMulInteger"]
    assert len(products) > 10
    for node in products:
        weight = tensors[node.input[1]]
        assert weight.dtype == np.int8
        assert most_extreme_pair(weight) * 255 <= 32767
        assert tensors[node.input[1].removesuffix("_int8") + "_scale"].shape == (weight.shape[1],)


def most_extreme_pair(weight: np.ndarray) -> int:
    """Largest sum, up or down, that rows 2i and 2i + 1 can reach when the other operand is 0 or more; by loops."""
    largest = 0
    for column in weight.astype(int).T:
        for i in range(0, len(column), 2):
            pair = column[i : i + 2]
            largest = max(largest, sum(v for v in pair if v > 0), -sum(v for v in pair if v < 0))
    return largest


@pytest.mark.parametrize("rows", [1, 2, 7, 64])
def test_columns_are_rounded_to_half_a_scale(rows: int) -> None:
    weight = np.random.default_rng(rows).standard_normal((rows, 5)).astype(np.float32) ** 3
    weight[:, 2] = 0
    values, scales = quantize_columns(weight)
    assert values.dtype == np.int8
    assert scales.shape == (5,)
    assert (np.abs(values * scales - weight) <= scales * 0.5001).all()
    assert (values[:, 2] == 0).all()
    assert most_extreme_pair(values) <= 128
    assert np.abs(values).max() > 60  # the range is used
    with pytest.raises(ValueError, match="not finite"):
        quantize_columns(np.full((2, 2), np.nan, np.float32))


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize(("lower", "tolerance"), [(halve_weights, 2e-3), (quantize_weights, 3e-2)])
def test_a_gemm_with_bias_is_lowered_too(
    lower: Callable[[onnx.ModelProto], onnx.ModelProto], tolerance: float, transposed: int
) -> None:
    rng = np.random.default_rng(0)
    x, weight, bias = (rng.standard_normal(shape).astype(np.float32) for shape in ((4, 6), (6, 3), (3,)))
    proto = helper.make_model(
        helper.make_graph(
            [helper.make_node("Gemm", ["x", "weight", "bias"], ["y"], name="gemm", transB=transposed)],
            "gemm",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", 6])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", 3])],
            [
                numpy_helper.from_array(np.ascontiguousarray(weight.T) if transposed else weight, "weight"),
                numpy_helper.from_array(bias, "bias"),
            ],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,
    )
    lowered = lower(proto)
    onnx.checker.check_model(lowered, full_check=True)
    assert TensorProto.FLOAT not in {t.data_type for t in lowered.graph.initializer if len(t.dims) == 2}
    session = onnxruntime.InferenceSession(lowered.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": x})[0], x @ weight + bias, atol=tolerance)


def test_a_weight_too_large_for_half_precision_is_refused() -> None:
    proto = helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMul", ["x", "weight"], ["y"], name="product")],
            "product",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", 2])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", 2])],
            [numpy_helper.from_array(np.array([[1, 2], [3, 7e4]], np.float32), "weight")],
        )
    )
    with pytest.raises(ValueError, match=r"weight weight reaches 70000\.0; float16 ends at 65504\.0"):
        halve_weights(proto)
    assert halve_weights(proto, keep_nodes={"product"}).graph == proto.graph


def test_fp16_stores_half_and_keeps_float32_between(exported: Exported) -> None:
    proto = graph(exported, "fp16")
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    halves = [tensor for tensor in tensors.values() if tensor.data_type == TensorProto.FLOAT16]
    products = [node for node in proto.graph.node if node.op_type == "MatMul" and node.input[1] in tensors]
    assert len(halves) == len(products) - 2  # masking.query_weights stays
    others = {node.op_type for node in proto.graph.node if any(name in {h.name for h in halves} for name in node.input)}
    assert others == {"MatMul"}


def test_the_model_is_left_as_it_was() -> None:
    torch.manual_seed(2)
    model = build_model(case.PAPER).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for precision in PRECISIONS:
        trace_torchscript(model, precision=precision)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert {type(m) for m in model.modules() if isinstance(m, nn.Linear)} == {nn.Linear}


def test_torchscript_carries_the_metadata_of_the_onnx_file(exported: Exported) -> None:
    extra = {METADATA_FILE: ""}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
        torch.jit.load(str(exported.bundle / "detector-fp32.torchscript.pt"), _extra_files=extra)
    expected = {entry.key: entry.value for entry in graph(exported, "fp32").metadata_props}
    assert json.loads(extra[METADATA_FILE]) == expected


def test_torch_export_carries_the_metadata_and_nothing_of_this_machine(exported: Exported) -> None:
    path = exported.bundle / "detector-fp32.pt2"
    extra = {METADATA_FILE: ""}
    torch.export.load(path, extra_files=extra)
    metadata = {entry.key: entry.value for entry in graph(exported, "fp32").metadata_props}
    assert json.loads(extra[METADATA_FILE]) == metadata
    with zipfile.ZipFile(path) as archive:
        content = b"".join(archive.read(name) for name in archive.namelist())
    assert str(Path(__file__).resolve().parent.parent).encode() not in content
    assert b"site-packages" not in content
    with pytest.raises(BundleError, match=r"torch .* cannot load it"):
        open_backend(exported.bundle / "class_bank.npz", runtime="torch-export")


def test_torchscript_half_precision_is_half_precision(exported: Exported) -> None:
    module = load_torchscript(exported.bundle / "detector-fp16.torchscript.pt")
    kinds = {name: value.dtype for name, value in module.named_parameters() if value.ndim == 2}
    full = {name for name, kind in kinds.items() if kind == torch.float32}
    assert full == {"model.masking.query_weights.0.weight", "model.masking.query_weights.2.weight", "model.background"}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_torchscript_names_no_device(exported: Exported, precision: str) -> None:
    """Otherwise `torch.jit.load(..., map_location="cuda")` would leave part of the graph on the CPU."""
    nodes = load_torchscript(exported.bundle / f"detector-{precision}.torchscript.pt").inlined_graph.nodes()
    assert not [node.kind() for node in nodes if any("Device" in str(value.type()) for value in node.inputs())]


def test_a_layer_can_be_kept_in_float32_by_name(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = build_model(case.PAPER)
    weights = export_detector(
        model, format="torchscript", precision="int8", path=tmp_path / "x.pt", keep_float32=["localizer"]
    )
    plain = linear_numbers(model.localizer) - model.localizer.controller[4].weight.numel()
    kept = plain + dynamic_numbers(model)
    assert weights.numbers - weights.numbers_low == kept
    with pytest.raises(ValueError, match="has no module 'head' to keep in float32"):
        export_detector(model, format="torchscript", precision="int8", path=tmp_path / "y.pt", keep_float32=["head"])
    with pytest.raises(ValueError, match="torchscript fp32 does not take keep_float32"):
        export_detector(
            model, format="torchscript", precision="fp32", path=tmp_path / "y.pt", keep_float32=["localizer"]
        )


def test_a_detector_that_needs_the_ground_truth_cannot_be_deployed(tmp_path: Path) -> None:
    config = ModelConfig(feature_channels=16, embed_dim=16, n_heads=2, localizer_dim=8, masking="ground-truth")
    with pytest.raises(ValueError, match="masking 'ground-truth'"):
        export_detector(build_model(config), format="onnx", precision="fp32", path=tmp_path / "x.onnx")


# --- release


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_release_has_a_fixed_length(release: tuple[nn.Module, Path], precision: str) -> None:
    _, folder = release
    length = case.RELEASE.temporal_scale
    path = folder / f"detector-{precision}.onnx"
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for graph in [onnx.load(path).graph]
        for value in (*graph.input, *graph.output)
    }
    assert shapes == {
        "features": ["B", length, case.CHANNELS],
        "class_embeddings": ["K", case.CHANNELS],
        "class_logits": ["B", "K+1", length],
        "masks": ["B", length, length],
        "foreground": ["B", length],
    }
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    features, class_embeddings = inputs(1, length + 1, 3)
    with pytest.raises(Exception, match="Got invalid dimensions for input: features"):
        session.run(None, {"features": features, "class_embeddings": class_embeddings})


@pytest.mark.parametrize("size", [(1, 1), (3, 7), (5, 1)], ids=str)
@pytest.mark.parametrize("format", ["onnx", "torchscript", "pt2"])
def test_the_release_equals_its_model(release: tuple[nn.Module, Path], format: str, size: tuple[int, int]) -> None:
    model, folder = release
    row = find_format(format, "fp32")
    features, class_embeddings = inputs(size[0], case.RELEASE.temporal_scale, size[1])
    got = open_backend(folder / row.file_name, runtime=row.runtime).run(features, class_embeddings)
    expected = eager(model, features, class_embeddings)
    for name, tolerance in (("masks", 1e-5), ("foreground", 1e-5), ("class_logits", 1e-3)):  # logits reach 100
        np.testing.assert_allclose(got[name], expected[name], atol=tolerance)


# --- promises


def _static_batch(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2


def _renamed_output(proto: onnx.ModelProto) -> None:
    proto.graph.output[1].name = "mask"


def _half_input(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16


def _foreign_operator(proto: onnx.ModelProto) -> None:
    proto.graph.node.append(helper.make_node("FusedMatMul", [], ["x"], domain="com.microsoft"))


def _conv_integer_in_a_body(proto: onnx.ModelProto) -> None:
    body = helper.make_graph([helper.make_node("ConvInteger", [], ["y"])], "body", [], [])
    proto.graph.node.append(helper.make_node("If", ["c"], ["x"], then_branch=body, else_branch=body))


def _function(proto: onnx.ModelProto) -> None:
    proto.functions.add().name = "attention"


def _newer_opset(proto: onnx.ModelProto) -> None:
    proto.opset_import[0].version = 23


def _external_weight(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].data_location = TensorProto.EXTERNAL


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_static_batch, r"features has shape \[2, 'T', 16\]; promised: \['B', 'T', 16\]"),
        (_renamed_output, "outputs are .*'mask'"),
        (_half_input, "features is FLOAT16; promised: float32"),
        (_foreign_operator, "not allowed: com.microsoft.FusedMatMul"),
        (_conv_integer_in_a_body, "not allowed: ConvInteger"),
        (_function, "functions are left: attention"),
        (_newer_opset, r"promised: ai.onnx 18 alone"),
        (_external_weight, "weights outside the file"),
    ],
)
def test_a_broken_promise_is_named(exported: Exported, spoil: Callable[[onnx.ModelProto], None], said: str) -> None:
    proto = graph(exported, "fp32")
    check_graph(proto, inputs=graph_inputs(case.PAPER), outputs=output_specs(build_model(case.PAPER)))
    spoil(proto)
    with pytest.raises(ParityError, match=said):
        check_graph(proto, inputs=graph_inputs(case.PAPER), outputs=output_specs(build_model(case.PAPER)))


def test_an_edit_of_the_classes_reaches_every_graph(exported: Exported, tmp_path: Path) -> None:
    bundle = shutil.copytree(exported.bundle, tmp_path / "bundle")
    remove_classes(bundle, ["jump"])
    verify_bundle(bundle)
    for name in ("detector-int8.onnx", "localizer-int8.onnx"):
        metadata = read_onnx_metadata(bundle / name)
        assert json.loads(metadata["stale_edge.class_names"]) == ["run", "swim"]


# --- failures write nothing


def perturbed(exported: Exported) -> Callable[[nn.Module], onnx.ModelProto]:
    """Record a graph whose largest weights are wrong, as a broken exporter would."""
    proto = graph(exported, "fp32")
    rng = np.random.default_rng(0)
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.ndim == 2 and array.size > 720:  # int8 keeps smaller ones, and finds them by value
            noise = rng.standard_normal(array.shape).astype(np.float32) * (4 * array.std())
            tensor.CopyFrom(numpy_helper.from_array(array + noise, tensor.name))
    return lambda _: proto


def test_a_broken_artifact_writes_nothing(exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detector_exporter, "trace_onnx", perturbed(exported))
    out = tmp_path / "bundle"
    with pytest.raises(ParityError, match=r"3 of 3 artifacts decide differently.*nothing was written") as raised:
        export_checkpoint(exported.checkpoint, out, formats=["onnx"], data=exported.data)
    assert raised.value.exit_code == 3
    for precision in PRECISIONS:
        assert f"detector-{precision}.onnx" in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_what_passed_is_kept_when_asked_for_and_the_rest_is_named(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detector_exporter, "trace_onnx", perturbed(exported))
    quick = {"formats": ["onnx", "torchscript"], "precisions": ["fp32"], "data": exported.data}
    report = export_checkpoint(exported.checkpoint, tmp_path / "bundle", keep_passing=True, **quick)
    assert [file.entry.path for file in report.refused] == ["detector-fp32.onnx"]
    assert "refused detector-fp32.onnx: " in report.summary()
    assert list(report.to_json()["refused"]) == ["detector-fp32.onnx"]
    bundle = verify_bundle(tmp_path / "bundle")
    assert [entry.path for entry in bundle.manifest.detectors] == ["detector-fp32.torchscript.pt"]
    assert not list((tmp_path / "bundle").rglob("*.onnx*"))  # nor a pipeline made from the refused file
    with pytest.raises(ParityError, match="next: the same command with --keep-passing"):
        export_checkpoint(exported.checkpoint, tmp_path / "none", keep_passing=True, **{**quick, "formats": ["onnx"]})
    assert not (tmp_path / "none").exists()


def test_a_broken_artifact_leaves_the_old_bundle(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "bundle"
    quick = {"formats": ["torchscript"], "precisions": ["fp32"], "data": exported.data}
    export_checkpoint(exported.checkpoint, out, **quick)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    monkeypatch.setattr(detector_exporter, "trace_onnx", perturbed(exported))
    with pytest.raises(ParityError):
        export_checkpoint(exported.checkpoint, out, formats=["onnx"], precisions=["fp32"], data=exported.data)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    export_checkpoint(exported.checkpoint, out, **quick)  # an old bundle is replaced by a good one
    assert verify_bundle(out).manifest.detectors[0].runtime == "torchscript"


def test_a_pipeline_that_decides_differently_writes_nothing(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def strict(*args: object, decode: DecodeConfig, **kwargs: object) -> onnx.ModelProto:
        return pipeline_graph(*args, decode=dataclasses.replace(decode, min_snippets=LONG), **kwargs)

    monkeypatch.setattr(detector_exporter, "trace_onnx", lambda _: graph(exported, "fp32"))
    monkeypatch.setattr(pipeline, "pipeline_graph", strict)
    quick = {"formats": ["onnx"], "precisions": ["fp32"], "data": exported.data}
    with pytest.raises(
        ParityError,
        match=r"decide differently.*nothing was written:\n  localizer-fp32.onnx: other detections in v0, v1",
    ):
        export_checkpoint(exported.checkpoint, tmp_path / "bundle", **quick)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_export_leaves_nothing(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_args: object, **_kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(detector_files, "compare_with_model", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export_checkpoint(exported.checkpoint, tmp_path / "bundle", formats=["torchscript"], precisions=["fp32"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system cannot kill a process like that")
def test_a_killed_export_leaves_no_bundle(exported: Exported, tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\n"
        "from stale_edge.exporting import export\n"
        "export.refuse_failures = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "export.export_checkpoint(sys.argv[1], sys.argv[2], formats=['torchscript'], precisions=['fp32'])\n"
    )
    out = tmp_path / "bundle"
    arguments = [sys.executable, "-c", script, str(exported.checkpoint), str(out)]
    result = subprocess.run(arguments, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, check=False)
    assert result.returncode == -signal.SIGKILL, result.stderr
    assert not out.exists()
    left = [path.name for path in tmp_path.iterdir()]
    assert all(name == ".bundle.lock" or (name.startswith(".bundle.") and name.endswith(".part")) for name in left)


# --- arguments


def test_without_labelled_videos_the_report_says_so(exported: Exported, tmp_path: Path) -> None:
    report = export_checkpoint(exported.checkpoint, tmp_path / "bundle", formats=["torchscript"], precisions=["fp32"])
    values = report.to_json()
    assert values["data"]["source"] == "simulated"
    assert "no mAP can be measured" in values["data"]["no_average_mAP_because"]
    assert values["artifacts"][0]["parity"]["average_mAP"] is None
    assert "average mAP was not compared" in report.summary()
    assert "not measured" in report.summary()


def test_classes_can_be_chosen_by_name_or_file(exported: Exported, tmp_path: Path) -> None:
    quick = {"formats": ["torchscript"], "precisions": ["fp32"], "data": exported.data}
    export_checkpoint(exported.checkpoint, tmp_path / "a", classes=["swim", "run"], **quick)
    assert verify_bundle(tmp_path / "a").class_bank == case.bank().select(["swim", "run"])
    (tmp_path / "names.list").write_text("jump\n", encoding="utf-8")
    export_checkpoint(exported.checkpoint, tmp_path / "b", classes=tmp_path / "names.list", **quick)
    assert verify_bundle(tmp_path / "b").class_bank.names == ("jump",)
    with pytest.raises(CheckpointError, match="holds no text encoder, so it cannot encode fly"):
        export_checkpoint(exported.checkpoint, tmp_path / "c", classes=["run", "fly"], **quick)


def test_a_target_that_is_no_bundle_is_refused_before_the_work(exported: Exported, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(BundleError, match="not replaced"):
        export_checkpoint(exported.checkpoint, tmp_path / "photos")
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["holiday.jpg"]


def test_progress_tells_stage_done_and_total(exported: Exported, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    export_checkpoint(
        exported.checkpoint,
        tmp_path / "bundle",
        formats=["torchscript"],
        precisions=["fp32"],
        data=exported.data,
        progress=lambda *call: seen.append(call[:3]),
    )
    last = {stage: (done, total) for stage, done, total in seen}
    assert last == {
        "read validation videos": (16, 16),
        "run the model": (16, 16),
        "export": (1, 1),
        "compare detector-fp32.torchscript.pt": (16, 16),
    }
