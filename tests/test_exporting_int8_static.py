"""Static int8, and the search for what must stay in float32."""

import json
from dataclasses import replace
from pathlib import Path

import exporting_case as case
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from stale_edge import load_bundle
from stale_edge.exporting import export_checkpoint
from stale_edge.exporting.artifact_formats import DEFAULT_PRECISIONS, find_format
from stale_edge.exporting.calibration import Calibration, calibrate_on
from stale_edge.exporting.detector_exporter import DetectorExporter
from stale_edge.exporting.graph.static_ranges import Range, measure_ranges, quantize_static
from stale_edge.exporting.layer_search import SEARCH_BUDGET, search_layers
from stale_edge.exporting.parity.reference import Reference
from stale_edge.exporting.parity.videos import validation_data
from stale_edge.model.checkpoint import read_checkpoint
from stale_edge.training.torch_localizer import feature_contract

STATIC = find_format("onnx", "int8-static")


def _two_products() -> onnx.ModelProto:
    """y = relu(x W) (relu(x W))ᵀ: a product with a weight, and one of activations that are never negative."""
    weight = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"], name="weighted"),
            helper.make_node("Relu", ["h"], ["r"], name="relu"),
            helper.make_node("Transpose", ["r"], ["t"], name="turn", perm=[1, 0]),
            helper.make_node("MatMul", ["r", "t"], ["y"], name="active"),
        ],
        "two",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", "N"])],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def _run(proto: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(proto.SerializeToString(), options).run(None, {"x": x})[0]


def _rounded(values: np.ndarray, scale: float, least: int, most: int) -> np.ndarray:
    return np.clip(np.rint(values / np.float32(scale)), least, most) * np.float32(scale)


def test_a_range_that_is_hardly_negative_keeps_all_eight_bits() -> None:
    """GELU never goes below -0.17; a symmetric range would leave what is above 0 seven bits."""
    proto = _two_products()
    x = np.linspace(-0.17, 3.0, 60, dtype=np.float32).reshape(10, 6)
    h = x @ numpy_helper.to_array(proto.graph.initializer[0])
    ranges = {"x": Range(-0.17, 3.0), "r": Range(0.0, float(h.max())), "t": Range(0.0, float(h.max()))}
    stored = {
        name: {tensor.name: numpy_helper.to_array(tensor) for tensor in quantize_static(proto, found).graph.initializer}
        for name, found in {"skewed": ranges, "even": {**ranges, "x": Range(-1.0, 3.0)}}.items()
    }
    skewed, even = stored["skewed"], stored["even"]
    assert (skewed["x_int8_zero"].dtype, int(skewed["x_int8_zero"])) == (np.uint8, 14)  # 0.17 of 3.17 in 255 steps
    assert float(skewed["x_int8_scale"]) == pytest.approx(3.17 / 255)
    assert (even["x_int8_zero"].dtype, int(even["x_int8_zero"])) == (np.int8, 0)
    assert float(even["x_int8_scale"]) == pytest.approx(3.0 / 127)
    close = quantize_static(proto, ranges, keep_nodes={"active"})
    expected = np.maximum(h, 0) @ np.maximum(h, 0).T
    assert np.abs(_run(close, x) - expected).max() < 0.02 * np.abs(expected).max()


def test_ranges_span_all_calibration_inputs() -> None:
    ranges = measure_ranges(_two_products(), [{"x": np.full((1, 6), v, np.float32)} for v in (-2, 1)])
    assert ranges["x"] == Range(-2, 1)
    assert ranges["r"].low == 0
    assert ranges["r"].high > 0
    assert ranges["r"] == ranges["t"]


def test_no_videos_or_values_without_end_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one video"):
        measure_ranges(_two_products(), [])
    with pytest.raises(ValueError, match="operand x is not finite"):
        measure_ranges(_two_products(), [{"x": np.full((1, 6), np.inf, np.float32)}])


def test_static_int8_is_rounding_of_operands() -> None:
    """Against NumPy: x symmetric to 127, activations that are never negative from 0 to 255, weights by column."""
    proto = _two_products()
    x = np.random.default_rng(1).standard_normal((5, 6)).astype(np.float32)
    ranges = measure_ranges(proto, [{"x": x}])
    quantized = quantize_static(proto, ranges)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantized.graph.initializer}
    assert stored["w_int8"].dtype == np.int8
    assert "w" not in stored
    weight = stored["w_int8"] * stored["w_int8_scale"]
    h = _rounded(x, np.abs(x).max() / 127, -127, 127) @ weight
    r = _rounded(np.maximum(h, 0), ranges["r"].high / 255, 0, 255)
    np.testing.assert_allclose(_run(quantized, x), r @ r.T, atol=1e-4)


def test_products_can_be_kept_or_keep_their_activations() -> None:
    proto, x = _two_products(), np.ones((2, 6), np.float32)
    ranges = measure_ranges(proto, [{"x": x}])
    kept = quantize_static(proto, ranges, keep_nodes=["weighted", "active"])
    np.testing.assert_array_equal(_run(kept, x), _run(proto, x))
    stored = quantize_static(proto, ranges, weights_only=["weighted", "active"])
    assert [node.op_type for node in stored.graph.node].count("QuantizeLinear") == 0
    assert {tensor.name for tensor in stored.graph.initializer} == {"w_int8", "w_int8_scale", "w_int8_zero"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return case.save_checkpoint(tmp_path_factory.mktemp("int8") / "checkpoint", case.trained_model())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Validation videos, and training videos to take ranges from."""
    root = case.save_data(tmp_path_factory.mktemp("int8") / "data")
    file = root / "annotations.json"
    layout = json.loads(file.read_text(encoding="utf-8"))
    for i, features in enumerate(case.draw(4, seed=77).features):
        np.save(root / "features" / f"t{i}.npy", features.numpy())
        layout["database"][f"t{i}"] = {**layout["database"]["v0"], "subset": "training"}
    file.write_text(json.dumps(layout), encoding="utf-8")
    return root


def test_ranges_come_from_training_videos(checkpoint: Path, data: Path) -> None:
    loaded = read_checkpoint(checkpoint)
    contract = feature_contract(loaded.config, loaded.feature_spec)
    videos = validation_data(data, contract=contract, bank=loaded.class_bank)
    found = calibrate_on(data, videos, contract=contract, bank=loaded.class_bank)
    assert found.description == "4 training videos"
    np.testing.assert_array_equal(found.features[0], np.load(data / "features" / "t0.npy"))
    without = calibrate_on(None, videos, contract=contract, bank=loaded.class_bank)
    assert without.description == "8 validation videos, which are compared too"


def test_the_search_keeps_what_the_budget_needs(checkpoint: Path, data: Path) -> None:
    loaded = read_checkpoint(checkpoint)
    contract = feature_contract(loaded.config, loaded.feature_spec)
    videos = validation_data(data, contract=contract, bank=loaded.class_bank)
    reference = Reference(loaded.model, bank=loaded.class_bank, data=videos, decode_config=loaded.config.decode)
    calibration = calibrate_on(data, videos, contract=contract, bank=loaded.class_bank)
    exporter = DetectorExporter(loaded.model, calibration=calibration)
    wide = search_layers(exporter, STATIC, reference, budget=replace(SEARCH_BUDGET, min_matched=0.0, max_map_loss=100))
    assert wide.met
    assert wide.kept == frozenset()
    products = exporter.products("int8-static")
    assert [finding.product for finding in wide.findings] == list(products)
    assert all(finding.signal_to_noise_db > 15 for finding in wide.findings)
    strict = replace(SEARCH_BUDGET, max_flipped=0.0, min_matched=1.0, max_map_loss=0.0)
    tight = search_layers(exporter, STATIC, reference, budget=strict)
    assert tight.met == tight.after.within(strict)
    assert tight.met, "in float32 everywhere nothing changes, so some set meets it"
    assert [finding.product for finding in tight.findings] == list(products)
    assert all(finding.signal_to_noise_db > 15 for finding in tight.findings)
    if not tight.before.within(strict):
        assert 0 < len(tight.kept) <= len(products)
        worst = min(tight.findings, key=lambda finding: (finding.matched_detections, -finding.flipped_snippets))
        assert worst.kept
    text = tight.to_text()
    assert all(finding.product.name in text for finding in tight.findings)
    json.dumps(tight.to_json(), allow_nan=False)


def test_without_videos_there_is_no_static_int8(tmp_path: Path) -> None:
    exporter = DetectorExporter(case.trained_model())
    with pytest.raises(ValueError, match="give calibration videos"):
        exporter.write(STATIC, tmp_path / "x.onnx", metadata={})
    assert "int8-static" not in DEFAULT_PRECISIONS


def test_the_release_keeps_what_its_gate_comes_from(tmp_path: Path) -> None:
    torch.manual_seed(3)
    from stale_edge.model import build_model

    model = build_model(case.RELEASE).eval()
    rng = np.random.default_rng(0)
    videos = tuple(rng.standard_normal((14, case.CHANNELS)).astype(np.float32) + 3 for _ in range(3))
    exporter = DetectorExporter(model, calibration=Calibration(videos, case.bank().embeddings, "toy"))
    count = exporter.write(STATIC, tmp_path / "static.onnx", metadata={})
    graph = onnx.load(tmp_path / "static.onnx").graph
    kept = {tuple(tensor.dims) for tensor in graph.initializer if len(tensor.dims) == 2 and tensor.data_type == 1}
    assert {(3 * case.CHANNELS, case.CHANNELS // 2), (case.CHANNELS // 2, 14)} <= kept
    products = {node.name: node.input[0] for node in graph.node if node.op_type == "MatMul"}
    scores, read = (p.node for p in exporter.products("int8-static") if p.weight is None and p.module == "temporal")
    assert products[scores].endswith("_rounded")
    assert not products[read].endswith("_rounded")
    assert 0.5 * count.numbers < count.numbers_low < count.numbers


def test_a_bundle_with_static_int8(checkpoint: Path, data: Path, tmp_path: Path, run) -> None:
    bundle = tmp_path / "bundle"
    code, _, err = run(
        "export", checkpoint, "--out", bundle, "--formats", "onnx", "--precisions", "fp32,int8-static", "--data", data,
        "--no-text-encoder", "--json", tmp_path / "report.json",
    )  # fmt: skip
    assert code == 0, err
    assert run("verify", bundle)[0] == 0
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    layers = {artifact["precision"]: artifact["layers"] for artifact in report["artifacts"]}
    assert layers["fp32"] is None
    assert layers["int8-static"]["met"]
    assert {layer["weight"] is None for layer in layers["int8-static"]["layers"]} == {True, False}
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["provenance"]["calibration"] == "4 training videos"
    features = np.load(data / "features" / "v0.npy")
    exact = load_bundle(bundle).detect(features, duration_s=60.0)
    for runtime in ("onnxruntime", "openvino"):
        localizer = load_bundle(bundle, runtime=runtime, precision="int8-static")
        assert localizer.detect(features, duration_s=60.0)[0].label == exact[0].label
        assert set(localizer.forward(features)) == {"class_logits", "masks", "foreground"}


@pytest.mark.parametrize(("report", "searched"), [(True, ["int8"]), (False, [])])
def test_dynamic_int8_is_searched_when_asked(
    report: bool, searched: list[str], checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(
        "stale_edge.exporting.detector_files.search_layers", lambda _, row, *__, **___: asked.append(row)
    )
    export_checkpoint(
        checkpoint, tmp_path / "bundle", formats=["onnx"], precisions=["fp32", "int8"], layer_report=report
    )
    assert [row.precision for row in asked] == searched
