"""Precisions of the visual encoder: a tower with outlier channels in int8, and OpenVINO through the same check."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny
import video_files
import vision_tower

from stale_edge.bundle.encoder_folder import EncoderManifest, engine_problem
from stale_edge.errors import BundleError, FeatureContractError
from stale_edge.exporting.encoder import export_encoder
from stale_edge.exporting.graph import encoder_precision
from stale_edge.exporting.graph.channel_balance import balance_channels
from stale_edge.exporting.graph.encoder_precision import StaticQuantizer, quantize_encoder
from stale_edge.exporting.graph.precision import quantize_weights
from stale_edge.exporting.parity.encoder_decoding import decode_video
from stale_edge.exporting.parity.encoder_parity import compare_encoder, encoder_data
from stale_edge.model.vision import VisionTower, load_vision_tower
from stale_edge.runtime.encoder_engines import has_bf16
from stale_edge.runtime.onnx_session import open_session
from stale_edge.runtime.visual_encoder import load_encoder

GAIN = 150.0
"""How much larger an outlier channel is than the others; CLIP's are a hundred times larger."""


def with_outliers(tower: VisionTower) -> VisionTower:
    """Give a few channels after every LayerNorm very large activations that later weights take back.

    In exact arithmetic features stay as they are, apart from the last hidden unit, which is large and constant.
    """
    import torch

    channels = [1, 7]
    with torch.no_grad():
        for layer in tower.model.vision_model.encoder.layers:
            attention = layer.self_attn
            for norm, readers in (
                (layer.layer_norm1, (attention.q_proj, attention.k_proj, attention.v_proj)),
                (layer.layer_norm2, (layer.mlp.fc1,)),
            ):
                norm.weight[channels] *= GAIN
                norm.bias[channels] *= GAIN
                for reader in readers:
                    reader.weight[:, channels] /= GAIN
            layer.mlp.fc1.bias[-1] = GAIN / 4  # after GELU nothing can take it back but the weight that reads it
            layer.mlp.fc2.weight[:, -1] /= GAIN
    return tower


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("outliers")
    tower = with_outliers(load_vision_tower(vision_tower.write(folder / "tower")))
    return export_encoder(tower, folder / "encoder", precisions=["fp32", "int8", "int8-static"])


@pytest.fixture(scope="module")
def plain(exported) -> tuple[onnx.ModelProto, np.ndarray, np.ndarray]:
    proto = onnx.load(exported.out / "encoder-fp32.onnx")
    pixels = exported.data.pixels[:8]
    features = open_session(proto.SerializeToString(), threads=1).run(None, {"pixel_values": pixels})[0]
    return proto, pixels, features


def least_cosine(proto: onnx.ModelProto, pixels: np.ndarray, wanted: np.ndarray) -> float:
    return encoder_precision._least_cosine(proto, pixels, wanted)


def test_balanced_channels_change_nothing_but_rounding(plain) -> None:
    proto, pixels, wanted = plain
    balanced = balance_channels(proto, pixels)
    assert balanced != proto
    assert least_cosine(balanced, pixels, wanted) > 1 - 1e-6
    got = open_session(balanced.SerializeToString(), threads=1).run(None, {"pixel_values": pixels})[0]
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


def test_outliers_harm_int8_and_balancing_heals_it(plain) -> None:
    proto, pixels, wanted = plain
    harmed = 1 - least_cosine(quantize_weights(proto), pixels, wanted)
    healed = 1 - least_cosine(quantize_weights(balance_channels(proto, pixels)), pixels, wanted)
    assert harmed > 4 * healed


def test_static_int8_of_a_tower_with_outliers_passes_with_most_products_in_int8(exported, plain) -> None:
    files = {file.entry.precision: file for file in exported.files}
    static = files["int8-static"]
    assert static.parity.passed
    assert static.parity.min_cosine >= 0.995
    weights = static.weights
    assert weights is not None
    assert weights.numbers_low > 0.5 * weights.numbers
    proto, pixels, wanted = plain
    unbalanced = quantize_encoder(proto, pixels, wanted, min_cosine=0.995, quantizer=StaticQuantizer(proto, pixels))
    assert len(unbalanced.kept) >= len(static.kept_float32)


def test_products_of_attention_stay_in_float32(exported) -> None:
    graph = onnx.load(exported.out / "encoder-int8-static.onnx").graph
    constants = {tensor.name for tensor in graph.initializer}
    constants |= {node.output[0] for node in graph.node if node.input and node.input[0] in constants}
    rounded = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    inner = [n for n in graph.node if n.op_type == "MatMul" and n.input[1] not in constants]
    assert inner
    assert not any(name in rounded for node in inner for name in node.input)


@pytest.mark.parametrize("precision", ["fp32", "int8-static"])
def test_openvino_gives_the_same_features(exported, precision) -> None:
    pytest.importorskip("openvino")
    pictures = np.random.default_rng(1).integers(0, 256, (3, 45, 61, 3), np.uint8)
    ours = load_encoder(exported.out, precision=precision).encode(pictures)
    theirs = load_encoder(exported.out, precision=precision, runtime="openvino", at_once=2).encode(pictures)
    cosine = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    assert cosine.min() > (0.999999 if precision == "fp32" else 0.995)
    engines = {engine.precision: engine for engine in exported.engines}
    assert engines[precision].parity.passed


def test_bf16_is_refused_where_it_would_be_emulated(exported) -> None:
    pytest.importorskip("openvino")
    if has_bf16():
        assert load_encoder(exported.out, precision="bf16", runtime="openvino").precision == "bf16"
        return
    with pytest.raises(BundleError, match="this CPU has no bf16 units"):
        load_encoder(exported.out, precision="bf16", runtime="openvino")


def test_an_engine_that_failed_at_export_is_refused(exported) -> None:
    text = (exported.out / "manifest.json").read_text(encoding="utf-8")
    values = json.loads(text)
    failed = {"runtime": "openvino", "precision": "fp32", "passed": False, "failures": ["the least cosine is 0.1"]}
    values["parity"]["engines"] = [failed]
    manifest = EncoderManifest.from_text(json.dumps(values))
    assert "the least cosine is 0.1" in engine_problem(manifest, "openvino", "fp32")
    assert engine_problem(manifest, "onnxruntime", "fp32") == ""


def test_runtimes_and_precisions_that_do_not_exist_are_named(exported: Path) -> None:
    for options, message in (
        ({"runtime": "tensorrt"}, "visual encoders run with onnxruntime, openvino; got 'tensorrt'"),
        ({"runtime": "openvino", "precision": "int8"}, "openvino runs detectors in fp32, bf16"),
    ):
        with pytest.raises(BundleError, match=message):
            load_encoder(exported.out, **options)


def test_files_are_compared_by_what_a_detector_finds(tmp_path: Path, monkeypatch) -> None:
    tower = load_vision_tower(vision_tower.write(tmp_path / "tower", dim=tiny.CHANNELS))
    monkeypatch.setattr(VisionTower, "fingerprint", lambda _tower: "tiny-encoder")
    bundle = tiny.write(tmp_path / "bundle")
    pictures = list(np.random.default_rng(0).integers(0, 255, (60, 40, 56, 3), np.uint8))
    video = video_files.write(tmp_path / "v.mp4", times_ms=range(0, 6000, 100), pictures=pictures)
    decoded = decode_video(bundle, video, tower)
    assert len(decoded.pixels) == 30
    assert decoded.matched(tower.embed).matched == decoded.matched(tower.embed).total > 0
    data = encoder_data(tower.preprocess, embed_dim=tower.embed_dim)
    data = replace(data, decoded=decoded)
    wanted = tower.embed(data.pixels)
    same = compare_encoder(data, wanted, tower.embed, file="f", precision="int8")
    assert (same.matched_detections, same.passed) == (1.0, True)
    blind = replace(data, decoded=replace(decoded, detect=lambda _features: []))
    lost = compare_encoder(blind, wanted, tower.embed, file="f", precision="int8")
    assert lost.min_cosine == pytest.approx(1)  # features are the tower's; only what is decoded of them is missing
    assert lost.failures == ("0.0% of detections match, at least 98.0% must",)
    monkeypatch.undo()
    with pytest.raises(FeatureContractError, match="encoder is 'sha256:"):
        decode_video(bundle, video, tower)
