"""Encoders besides CLIP: small towers of each format give what transformers' own processors and models give."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from stale_edge.bundle.encoder_folder import EncoderManifest, read_encoder
from stale_edge.errors import CheckpointError, ConfigError
from stale_edge.exporting.encoder import export_encoder
from stale_edge.model.encoder_families import EncoderDescription
from stale_edge.model.vision import load_vision_tower
from stale_edge.runtime.visual_encoder import load_encoder

SIZE = 32
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
CARD = "---\nlicense: other\nlicense_name: research-only\n---\n# A small tower\n"


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, size, np.uint8) for size in ((45, 61, 3), (64, 40, 3))]


def write(folder: Path, kind: str) -> tuple[object, object]:
    """Write a small checkpoint with random weights; returns its network and its image processor of transformers."""
    import torch
    import transformers as tf

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        if kind == "siglip":
            text = {**SMALL, "vocab_size": 64, "max_position_embeddings": 64, "projection_size": 32}
            vision = {**SMALL, "image_size": SIZE, "patch_size": 8}
            model = tf.SiglipModel(tf.SiglipConfig(text_config=text, vision_config=vision))
            torch.nn.init.constant_(model.logit_scale, np.log(10.0))
            torch.nn.init.constant_(model.logit_bias, -7.0)
            processor = tf.models.siglip.image_processing_pil_siglip.SiglipImageProcessorPil(
                size={"height": SIZE, "width": SIZE}
            )
            side = model.vision_model
        elif kind == "tinyclip":  # towers of different widths and depths, as TinyCLIP's
            text = tf.CLIPTextConfig(**{**SMALL, "num_hidden_layers": 1}, vocab_size=64).to_dict()
            vision = tf.CLIPVisionConfig(**{**SMALL, "hidden_size": 16}, image_size=SIZE, patch_size=16).to_dict()
            model = tf.CLIPModel(tf.CLIPConfig(text_config=text, vision_config=vision, projection_dim=12))
            processor = tf.models.clip.image_processing_pil_clip.CLIPImageProcessorPil(
                size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}
            )
            side = model
        else:
            model = tf.ResNetModel(
                tf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
            )
            for module in model.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.running_mean.normal_(std=0.1)
            processor = tf.models.convnext.image_processing_pil_convnext.ConvNextImageProcessorPil(
                size={"shortest_edge": SIZE}, crop_pct=0.875
            )
            side = model
        model.eval().save_pretrained(folder)
        processor.save_pretrained(folder)
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    return side, processor


def by_transformers(kind: str, side, processor) -> tuple[np.ndarray, np.ndarray]:
    """Slow twin: transformers' own processor and network."""
    import torch

    pixels = processor(pictures(), return_tensors="pt", input_data_format="channels_last")["pixel_values"]
    with torch.no_grad():
        if kind == "tinyclip":
            vision = side.vision_model(pixel_values=pixels).pooler_output
            return pixels.numpy(), side.visual_projection(vision).numpy()
        return pixels.numpy(), side(pixel_values=pixels).pooler_output.flatten(1).numpy()


@pytest.mark.parametrize(("kind", "width"), [("siglip", 32), ("tinyclip", 12), ("resnet", 16)])
def test_a_tower_gives_what_transformers_gives(tmp_path: Path, kind: str, width: int) -> None:
    wanted_pixels, wanted = by_transformers(kind, *write(tmp_path / kind, kind))
    tower = load_vision_tower(tmp_path / kind)
    assert (tower.embed_dim, tower.image_size, tower.licence) == (width, (SIZE, SIZE), "other research-only")
    pixels = np.stack([tower.preprocess(picture) for picture in pictures()])
    np.testing.assert_allclose(pixels, wanted_pixels, rtol=0, atol=1e-5)
    np.testing.assert_allclose(tower.embed(pixels), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["siglip", "resnet"])
def test_the_exported_encoder_says_all_that_differs(tmp_path: Path, kind: str) -> None:
    _, wanted = by_transformers(kind, *write(tmp_path / kind, kind))
    report = export_encoder(tmp_path / kind, tmp_path / "encoder", precisions=["fp32"])
    encoder = load_encoder(tmp_path / "encoder")
    got = np.concatenate([encoder.encode(picture[None]) for picture in pictures()])
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-4)
    manifest = read_encoder(tmp_path / "encoder").manifest
    assert manifest.provenance["licence"] == "other research-only"
    assert "licence of the weights: other research-only" in report.summary()
    said = manifest.description
    if kind == "siglip":
        assert (said["activation"], said["text_length"], said["text_pooling"]) == ("sigmoid", 64, "last")
        assert (said["logit_scale"], said["logit_bias"]) == (pytest.approx(10.0), pytest.approx(-7.0))
        assert manifest.preprocess["mean"] == [0.5, 0.5, 0.5]
        assert manifest.preprocess["crop_height"] is None
    else:
        assert (said["text_model"], said["activation"]) == (None, None)
        with pytest.raises(ConfigError, match="export it with --precisions fp32"):
            export_encoder(tmp_path / kind, tmp_path / "other", precisions=["int8"])
    older = {key: value for key, value in json.loads(manifest.to_text()).items() if key != "description"}
    assert EncoderManifest.from_text(json.dumps(older)).description == {}


def test_another_kind_is_run_as_a_file_describes(tmp_path: Path) -> None:
    write(tmp_path / "resnet", "resnet")
    config = tmp_path / "resnet" / "config.json"
    config.write_text(config.read_text(encoding="utf-8").replace('"model_type": "resnet"', '"model_type": "mine"'))
    with pytest.raises(CheckpointError, match=r"of type 'mine'; known are clip,.* --describe FILE"):
        load_vision_tower(tmp_path / "resnet")
    described = tmp_path / "encoder.json"
    described.write_text(json.dumps({"model": "ResNetModel", "output": "pooler_output"}), encoding="utf-8")
    tower = load_vision_tower(tmp_path / "resnet", description=EncoderDescription.read(described))
    assert tower.embed_dim == 16
    for values, message in (
        ({"model": "ResNetModel"}, "lacks output"),
        ({"model": "ResNetModel", "output": "logits"}, "output must be one of image_embeds"),
        ({"model": "x", "output": "pooler_output", "pooling": "max"}, "pooling"),
    ):
        described.write_text(json.dumps(values), encoding="utf-8")
        with pytest.raises(CheckpointError, match=message):
            EncoderDescription.read(described)
    described.write_text(json.dumps({"model": "Path", "output": "pooler_output"}), encoding="utf-8")
    with pytest.raises(CheckpointError, match="no model class 'Path'"):
        load_vision_tower(tmp_path / "resnet", description=EncoderDescription.read(described))


def test_a_name_without_a_network_says_how_to_fetch_it(run, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code, _, errors = run("encoder", "export", "--from", "nobody/none", "--out", tmp_path / "encoder")
    assert (code, errors.count("\n")) == (1, 1)
    assert "hf download nobody/none --local-dir DIR" in errors
