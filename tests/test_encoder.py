"""The visual encoder: export, parity check, folder format, and the runtime without torch."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import vision_tower

from stale_edge.bundle import ClassBank
from stale_edge.bundle.encoder_folder import EncoderManifest, read_encoder, verify_encoder
from stale_edge.errors import BundleError, CheckpointError, ParityError, VerificationError
from stale_edge.exporting import encoder as exporting
from stale_edge.exporting.encoder import export_encoder
from stale_edge.exporting.graph import encoder_precision
from stale_edge.exporting.parity.encoder_parity import compare_encoder, encoder_data, simulated_picture
from stale_edge.model.vision import load_vision_tower
from stale_edge.runtime.visual_encoder import load_encoder

SAME = 1e-4
"""ONNX Runtime and PyTorch add in another order; features here are of size one."""


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vision_tower.write(tmp_path_factory.mktemp("tower") / "tower")


@pytest.fixture(scope="module")
def exported(tower: Path, tmp_path_factory: pytest.TempPathFactory):
    return export_encoder(tower, tmp_path_factory.mktemp("encoder") / "encoder")


@pytest.fixture
def recorded(exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the seconds that recording the same graph again takes."""
    monkeypatch.setattr(exporting, "_record", lambda _tower: onnx.load(exported.out / "encoder-fp32.onnx"))


def pictures(n: int = 3) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, 45, 61, 3), np.uint8)


def from_transformers(tower: Path, frames: np.ndarray) -> np.ndarray:
    """Slow twin: transformers' own processor and model."""
    import torch
    from transformers import CLIPVisionModelWithProjection
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    processor = CLIPImageProcessorPil.from_pretrained(tower)
    model = CLIPVisionModelWithProjection.from_pretrained(tower).eval()
    with torch.no_grad():
        pixels = processor(list(frames), return_tensors="pt", input_data_format="channels_last")["pixel_values"]
        return model(pixel_values=pixels).image_embeds.numpy()


@pytest.mark.parametrize("n", [1, 2, 5])
def test_features_are_those_of_transformers(tower: Path, exported, n: int) -> None:
    encoder = load_encoder(exported.out)
    frames = pictures(n)
    got = encoder.encode(frames)
    assert got.shape == (n, vision_tower.EMBED_DIM)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, from_transformers(tower, frames), rtol=0, atol=SAME)


def test_every_precision_is_compared_and_says_what_it_holds(exported) -> None:
    parities = {file.entry.precision: file.parity for file in exported.files}
    assert parities["fp32"].min_cosine >= 0.9999
    assert parities["int8"].min_cosine >= 0.995
    assert parities["fp32"].max_difference["image_embeds"] < SAME
    entries = {entry.precision: entry for entry in exported.manifest.files}
    assert 0 < entries["int8"].weights_quantized < entries["int8"].weights_total
    assert entries["int8"].bytes < entries["fp32"].bytes
    stored = read_encoder(exported.out).manifest
    assert stored.parity["files"]["encoder-int8.onnx"]["changed_decisions"] == parities["int8"].flipped_snippets
    assert "simulated" in stored.parity["pictures"]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_graphs_are_standard_with_a_dynamic_batch(exported, precision) -> None:
    proto = onnx.load(exported.out / f"encoder-{precision}.onnx")
    assert {node.domain for node in proto.graph.node} <= {"", "ai.onnx"}
    assert "ConvInteger" not in {node.op_type for node in proto.graph.node}
    (pixels,) = proto.graph.input
    assert [size.dim_param or size.dim_value for size in pixels.type.tensor_type.shape.dim] == ["N", 3, 32, 32]
    encoder = load_encoder(exported.out, precision=precision)
    assert encoder.encode(pictures(4)).shape == (4, vision_tower.EMBED_DIM)


def test_the_fingerprint_is_of_weights_and_preprocessing(tower: Path, exported, tmp_path: Path) -> None:
    encoder = load_encoder(exported.out, precision="int8")
    assert encoder.fingerprint == exported.manifest.fingerprint == load_vision_tower(tower).fingerprint()
    assert encoder.feature_spec(fps=8, stride=4).encoder == encoder.fingerprint
    other = vision_tower.write(tmp_path / "other", seed=1)
    prepared = vision_tower.write(tmp_path / "prepared", preprocess={"resample": 2})
    assert len({encoder.fingerprint, *(load_vision_tower(path).fingerprint() for path in (other, prepared))}) == 3


def test_a_whole_clip_serves_too(tmp_path: Path) -> None:
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = CLIPVisionConfig(**small, image_size=32, patch_size=16)
    text = CLIPTextConfig(**small, vocab_size=64)
    CLIPModel(
        CLIPConfig(vision_config=vision.to_dict(), text_config=text.to_dict(), projection_dim=12)
    ).save_pretrained(tmp_path)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    tower = load_vision_tower(tmp_path)
    assert (tower.embed_dim, tower.image_size) == (12, (32, 32))
    assert tower.embed(np.zeros((1, 3, 32, 32), np.float32)).shape == (1, 12)


@pytest.mark.usefixtures("recorded")
def test_a_file_that_sees_something_else_is_not_written(tower: Path, tmp_path: Path, monkeypatch) -> None:
    quantize = encoder_precision.quantize_weights

    def broken(proto: onnx.ModelProto, **options) -> onnx.ModelProto:
        made = quantize(proto, **options)
        *_, scale = (tensor for tensor in made.graph.initializer if tensor.name.endswith("_scale"))  # the projection's
        values = onnx.numpy_helper.to_array(scale).copy()
        values[::2] *= -1
        scale.CopyFrom(onnx.numpy_helper.from_array(values, scale.name))
        return made

    monkeypatch.setattr(encoder_precision, "quantize_weights", broken)
    with pytest.raises(ParityError, match=r"encoder-int8\.onnx: the least cosine is"):
        export_encoder(tower, tmp_path / "encoder")
    assert not (tmp_path / "encoder").exists()


@pytest.fixture(scope="module")
def outliers(exported) -> tuple[onnx.ModelProto, np.ndarray, np.ndarray]:
    """The tower with one channel of very large activations before one product, as CLIP's own have."""
    proto = onnx.load(exported.out / "encoder-fp32.onnx")
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    norm = [node for node in proto.graph.node if node.op_type == "LayerNormalization"][-2]  # before the last MLP
    for name in norm.input[1:]:
        values = onnx.numpy_helper.to_array(tensors[name]).copy()
        values[3] = 4000.0 if name == norm.input[2] else values[3]
        tensors[name].CopyFrom(onnx.numpy_helper.from_array(values, name))
    pixels = np.random.default_rng(0).standard_normal((8, 3, 32, 32)).astype(np.float32)
    session = encoder_precision.open_session(proto.SerializeToString(), threads=1)
    return proto, pixels, session.run(["image_embeds"], {"pixel_values": pixels})[0]


def test_errors_are_those_of_onnx_runtime(outliers) -> None:
    """Slow twin: quantize each product alone, and look at what it gives."""
    proto, pixels, _ = outliers
    errors = encoder_precision.product_errors(proto, pixels)
    outputs = {node.name: node.output[0] for node in proto.graph.node}
    for name, error in errors.items():
        alone = encoder_precision.quantize_weights(proto, keep_nodes=[other for other in errors if other != name])
        got = []
        for model in (proto, alone):
            watched = onnx.ModelProto()
            watched.CopyFrom(model)
            watched.graph.output.append(onnx.helper.make_empty_tensor_value_info(outputs[name]))
            session = encoder_precision.open_session(watched.SerializeToString(), threads=1)
            got.append(session.run([outputs[name]], {"pixel_values": pixels})[0])
        measured = np.linalg.norm(got[1] - got[0]) / np.linalg.norm(got[0])
        assert error == pytest.approx(measured, rel=0.02, abs=1e-6)


def test_products_stay_in_float32_only_where_they_must(outliers) -> None:
    proto, pixels, wanted = outliers
    errors = encoder_precision.product_errors(proto, pixels)
    worst = max(errors, key=errors.get)
    all_of_them = encoder_precision.quantize_weights(proto)
    reached = encoder_precision._least_cosine(all_of_them, pixels, wanted)
    easy = encoder_precision.quantize_encoder(proto, pixels, wanted, min_cosine=reached - 1e-3)
    assert easy.kept == ()
    harder = encoder_precision.quantize_encoder(proto, pixels, wanted, min_cosine=reached + (1 - reached) / 2)
    assert harder.kept[0] == worst
    assert encoder_precision._least_cosine(harder.proto, pixels, wanted) >= reached + (1 - reached) / 2
    impossible = encoder_precision.quantize_encoder(proto, pixels, wanted, min_cosine=1.1)
    assert len(impossible.kept) == len(errors) // 2


def test_decisions_are_compared_on_a_class_bank(tower: Path) -> None:
    loaded = load_vision_tower(tower)
    rng = np.random.default_rng(0)
    bank = ClassBank(("a", "b"), rng.standard_normal((2, vision_tower.EMBED_DIM)).astype(np.float32), "x")
    data = encoder_data(loaded.preprocess, embed_dim=loaded.embed_dim, bank=bank)
    wanted = loaded.embed(data.pixels)
    same = compare_encoder(data, wanted, loaded.embed, file="f", precision="fp32")
    assert (same.flipped_snippets, same.passed) == (0, True)
    opposite = compare_encoder(data, wanted, lambda pixels: -loaded.embed(pixels), file="f", precision="int8")
    assert (opposite.flipped_snippets, opposite.passed) == (len(wanted), False)
    assert opposite.min_cosine == pytest.approx(-1)
    with pytest.raises(ValueError, match="they share no space"):
        encoder_data(loaded.preprocess, embed_dim=5, bank=bank)


def test_simulated_pictures_differ_and_fill_the_range() -> None:
    drawn = [simulated_picture(seed) for seed in range(4)]
    assert len({picture.shape for picture in drawn}) > 1
    assert all(picture.dtype == np.uint8 and np.ptp(picture) > 100 for picture in drawn)
    np.testing.assert_array_equal(simulated_picture(0), drawn[0])


def test_damage_is_found(exported, tmp_path: Path) -> None:
    folder = shutil.copytree(exported.out, tmp_path / "encoder")
    verify_encoder(folder)
    file = folder / "encoder-fp32.onnx"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(VerificationError, match=r"encoder-fp32\.onnx has changed"):
        load_encoder(folder)
    load_encoder(folder, precision="int8")
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace('"tower"', '"other"'), encoding="utf-8")
    with pytest.raises(VerificationError, match="has changed"):
        load_encoder(folder, precision="int8")


def test_a_manifest_is_read_strictly(exported) -> None:
    text = (exported.out / "manifest.json").read_text(encoding="utf-8")
    assert EncoderManifest.from_text(text).to_text() == text
    for change, message in (
        ({"format": "stale-edge-bundle/1"}, "a visual encoder's is"),
        ({"strange": 1}, "unknown strange"),
        ({"embed_dim": 0}, "embed_dim must be"),
        ({"embed_dim": 3}, "takes"),
        ({"files": []}, "at least one"),
        ({"image_size": [32]}, "image_size must be"),
    ):
        with pytest.raises(BundleError, match=message):
            EncoderManifest.from_text(json.dumps({**json.loads(text), **change}))


@pytest.mark.usefixtures("recorded")
def test_missing_precisions_and_folders_are_named(tower: Path, tmp_path: Path) -> None:
    small = export_encoder(tower, tmp_path / "small", precisions=["fp32"])
    with pytest.raises(BundleError, match=r"no int8 file; it has: fp32"):
        load_encoder(small.out, precision="int8")
    with pytest.raises(BundleError, match="not a visual encoder: no such folder"):
        load_encoder(tmp_path / "none")
    with pytest.raises(ValueError, match="threads must be"):
        load_encoder(small.out, threads=0)
    with pytest.raises(ValueError, match="precisions must be"):
        export_encoder(tower, tmp_path / "x", precisions=["int4"])


def test_other_folders_are_not_replaced(tower: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "cat.jpg").write_bytes(b"x")
    with pytest.raises(BundleError, match="not replaced"):
        export_encoder(tower, photos, precisions=["fp32"])
    assert (photos / "cat.jpg").read_bytes() == b"x"


def test_what_is_no_tower_is_an_error_of_one_line(tmp_path: Path, tower: Path) -> None:
    with pytest.raises(CheckpointError, match="not in transformers' format"):
        load_vision_tower(tmp_path)
    folder = shutil.copytree(tower, tmp_path / "tower")
    settings = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    settings["crop_size"] = {"height": 64, "width": 64}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(CheckpointError, match="belongs to another model"):
        load_vision_tower(folder)


def test_a_tower_that_lacks_weights_is_not_filled_with_random_ones(tower: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = shutil.copytree(tower, tmp_path / "tower")
    weights = load_file(folder / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 weights are missing, such as visual_projection\.weight"):
        load_vision_tower(folder)


def test_bad_pictures_are_refused(exported) -> None:
    encoder = load_encoder(exported.out)
    for frames in (np.zeros((4, 4, 3), np.uint8), np.zeros((1, 4, 4, 3), np.float32), np.zeros((0, 4, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match="must"):
            encoder.encode(frames)
    with pytest.raises(ValueError, match="pixels must be"):
        encoder.embed(np.zeros((1, 3, 31, 32), np.float32))


def test_encoding_needs_no_torch(exported) -> None:
    script = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'onnx'): sys.modules[name] = None\n"
        "import numpy as np\nfrom stale_edge.runtime.visual_encoder import load_encoder\n"
        f"encoder = load_encoder({str(exported.out)!r}, precision='int8')\n"
        "print(encoder.encode(np.zeros((2, 40, 50, 3), np.uint8)).shape)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.stdout.strip() == f"(2, {vision_tower.EMBED_DIM})", result.stderr


@pytest.mark.usefixtures("recorded")
def test_the_command_line(run, tower: Path, tmp_path: Path) -> None:
    out = tmp_path / "encoder"
    code, printed, errors = run(
        "encoder", "export", "--from", tower, "--out", out, "--precisions", "fp32", "--json", "-"
    )
    assert (code, json.loads(printed)["files"][0]["parity"]["passed"]) == (0, True), errors
    assert run("verify", out)[0] == 0
    code, printed, _ = run("inspect", out, "--json", "-")
    assert (code, json.loads(printed)["embed_dim"]) == (0, vision_tower.EMBED_DIM)
    (out / "encoder-fp32.onnx").write_bytes(b"")
    code, _, errors = run("verify", out)
    assert (code, errors.count("\n")) == (3, 1)
    code, _, errors = run("encoder", "export", "--from", tmp_path / "none", "--out", out)
    assert (code, errors.count("\n")) == (1, 1)
    assert run("encoder", "export", "--from", tower, "--out", out, "--precisions", "int4")[0] == 2
