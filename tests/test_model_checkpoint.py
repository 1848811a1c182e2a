"""Checkpoints: read back unchanged, or refused with the name of the file."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import stale_edge.model.checkpoint as checkpoint_module
from stale_edge import load_checkpoint
from stale_edge.bundle.manifest import sealed_text
from stale_edge.config import Config, FeatureSpec, ModelConfig, PointsConfig, TextConfig, config_from_dict
from stale_edge.errors import CheckpointError
from stale_edge.model import (
    FreeClassEmbeddings,
    TextEncoder,
    build_model,
    class_bank,
    read_checkpoint,
    small_text_encoder,
    write_checkpoint,
)
from stale_edge.model.architectures import ARCHITECTURES

SIZES = {"feature_channels": 6, "embed_dim": 8, "n_heads": 2, "feedforward_dim": 16, "n_mask_queries": 3}
CONFIG = Config(model=ModelConfig(**SIZES, localizer_dim=8, dynamic_channels=4))
SPEC = FeatureSpec(encoder="simulated", channels=6, fps=25.0, stride=16)
NAMES = ["jump", "Ćwiczenia", "pole vault"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    folder = tmp_path_factory.mktemp("text")
    small_text_encoder(folder, dim=8, hidden_dim=8, n_layers=1)
    return TextEncoder.load(folder, n_contexts=2)


@pytest.fixture(scope="module")
def written(encoder: TextEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "best"
    write(path, encoder)
    return path


@pytest.fixture
def copied(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "copy"))


def write(path: Path, encoder: TextEncoder | FreeClassEmbeddings, *, seed: int = 0, config: Config = CONFIG) -> str:
    torch.manual_seed(seed)
    return write_checkpoint(
        path,
        model=build_model(config.model),
        config=config,
        feature_spec=SPEC,
        class_bank=class_bank(encoder, NAMES),
        text_encoder=encoder,
    )


def test_everything_comes_back(written: Path, encoder: TextEncoder) -> None:
    read = read_checkpoint(written)
    torch.manual_seed(0)
    original = build_model(CONFIG.model).eval()
    features, classes = torch.randn(2, 5, 6), torch.from_numpy(read.class_bank.embeddings.copy())
    for value, expected in zip(read.model(features, classes), original(features, classes), strict=True):
        assert torch.equal(value, expected)
    assert not read.model.training
    assert (read.config, read.feature_spec, read.path) == (CONFIG, SPEC, written)
    assert read.class_bank == class_bank(encoder, NAMES)
    assert read.text_encoder is not None
    assert read.text_encoder.fingerprint() == encoder.fingerprint()


def test_load_checkpoint_gives_the_detector_in_eval_mode(written: Path) -> None:
    model = load_checkpoint(str(written))
    assert not model.training
    assert model(torch.zeros(1, 4, 6), torch.ones(2, 8)).class_logits.shape == (1, 3, 4)


def test_the_hash_is_a_function_of_the_content(written: Path, encoder: TextEncoder, tmp_path: Path) -> None:
    assert write(tmp_path / "same", encoder) == read_checkpoint(written).sha256
    assert write(tmp_path / "other", encoder, seed=1) != read_checkpoint(written).sha256


def test_every_file_is_as_readable_as_a_new_file(written: Path, tmp_path: Path) -> None:
    (tmp_path / "new").write_text("")
    wanted = (tmp_path / "new").stat().st_mode
    assert {path.name for path in written.rglob("*") if path.is_file() and path.stat().st_mode != wanted} == set()


def test_config_is_stored_resolved(written: Path) -> None:
    stored = json.loads((written / "config.json").read_text(encoding="utf-8"))
    assert stored["format"] == "stale-edge-checkpoint/2"
    assert stored["config"]["model"]["temperature_init"] == ModelConfig.temperature_init
    assert config_from_dict(stored["config"], ARCHITECTURES) == CONFIG
    assert stored["vocabulary"] == NAMES
    assert stored["versions"]["torch"] == torch.__version__


def test_writing_replaces_a_checkpoint_and_nothing_else(encoder: TextEncoder, tmp_path: Path) -> None:
    first = write(tmp_path / "run", encoder)
    second = write(tmp_path / "run", encoder, seed=1)
    assert first != second == read_checkpoint(tmp_path / "run").sha256
    assert [path.name for path in tmp_path.iterdir()] == ["run"]  # no temporary folder is left
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(CheckpointError, match="exists and is no checkpoint"):
        write(tmp_path / "photos", encoder)
    assert (tmp_path / "photos" / "cat.jpg").read_bytes() == b"cat"


def test_a_write_that_dies_leaves_the_old_checkpoint(
    encoder: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = write(tmp_path / "run", encoder)

    def die(*_arguments: object) -> None:
        raise KeyboardInterrupt

    for step in ("save_file", "sha256_of", "replace_folder"):
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint_module, step, die)
            with pytest.raises(KeyboardInterrupt):
                write(tmp_path / "run", encoder, seed=1)
        assert read_checkpoint(tmp_path / "run").sha256 == before


def test_free_class_embeddings_live_in_the_class_bank(tmp_path: Path) -> None:
    config = Config(model=ModelConfig(**SIZES, text=TextConfig(encoder="none")))
    encoder = FreeClassEmbeddings(NAMES, dim=8)
    write(tmp_path / "run", encoder, config=config)
    read = read_checkpoint(tmp_path / "run")
    assert isinstance(read.text_encoder, FreeClassEmbeddings)
    assert torch.equal(read.text_encoder.embeddings, encoder.embeddings)


def test_without_a_text_encoder(encoder: TextEncoder, tmp_path: Path) -> None:
    bank = class_bank(encoder, NAMES)
    model = build_model(CONFIG.model)
    write_checkpoint(
        tmp_path / "run", model=model, config=CONFIG, feature_spec=SPEC, class_bank=bank, text_encoder=None
    )
    assert read_checkpoint(tmp_path / "run").text_encoder is None


def test_release_networks_are_checkpoints_too(encoder: TextEncoder, tmp_path: Path) -> None:
    sizes = {"architecture": "release", "feature_channels": 8, "embed_dim": 8, "n_heads": 2, "temporal_scale": 5}
    write(tmp_path / "run", encoder, config=Config(model=ModelConfig(**sizes)))
    assert load_checkpoint(tmp_path / "run")(torch.zeros(1, 5, 8), torch.ones(2, 8)).masks.shape == (1, 5, 5)


def test_a_class_bank_of_another_text_encoder_is_refused(encoder: TextEncoder, tmp_path: Path) -> None:
    bank = class_bank(FreeClassEmbeddings(NAMES, dim=8), NAMES)
    with pytest.raises(ValueError, match="made by another text encoder"):
        write_checkpoint(
            tmp_path / "run",
            model=build_model(CONFIG.model),
            config=CONFIG,
            feature_spec=SPEC,
            class_bank=bank,
            text_encoder=encoder,
        )


def truncate(path: Path) -> None:
    content = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(content[: len(content) // 2])


def flip(path: Path) -> None:
    content = bytearray((path / "text_encoder" / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (path / "text_encoder" / "model.safetensors").write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (truncate, "model.safetensors is truncated or changed"),
        (flip, "text_encoder/model.safetensors is truncated or changed"),
        (lambda p: (p / "class_bank.npz").unlink(), "class_bank.npz is missing from the checkpoint"),
        (lambda p: (p / "config.json").unlink(), "has no config.json"),
        (lambda p: (p / "config.json").write_text("{"), "config.json is not valid JSON"),
        (lambda p: (p / "config.json").write_text("[1]"), "format None, expected 'stale-edge-checkpoint/2'"),
        (lambda p: (p / "text_encoder/pytorch_model.bin").write_bytes(b"x"), "pytorch_model.bin does not belong"),
    ],
    ids=["truncated", "one bit", "missing file", "no config", "broken config", "foreign config", "stray file"],
)
def test_damage_is_refused_by_name(copied: Path, damage, says: str) -> None:
    damage(copied)
    with pytest.raises(CheckpointError, match=says):
        load_checkpoint(copied)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(format="stale-edge-checkpoint/9"), "format 'stale-edge-checkpoint/9', expected"),
        (lambda d: d.pop("vocabulary"), "incomplete: vocabulary is missing"),
        (lambda d: d.update(vocabulary=["jump"]), "not the class bank that config.json describes"),
        (lambda d: d["config"]["model"].update(embed_dims=4), "did you mean model.embed_dim"),
        (lambda d: d["config"]["model"].update(n_mask_queries=4), "does not hold the weights of this detector"),
        (lambda d: d["files"].update({"../x": "0"}), "'../x' climbs out of its folder"),
        (lambda d: d["files"].pop("model.safetensors"), "does not list model.safetensors"),
        (lambda d: d.update(feature_spec=None), "feature_spec must be a section"),
    ],
    ids=["version", "incomplete", "vocabulary", "unknown key", "sizes", "escape", "unlisted", "spec"],
)
def test_a_config_that_does_not_fit_is_refused_by_name(copied: Path, change, says: str) -> None:
    description = json.loads((copied / "config.json").read_text(encoding="utf-8"))
    del description["config_sha256"]
    change(description)
    (copied / "config.json").write_text(sealed_text(description, seal="config_sha256"), encoding="utf-8")
    with pytest.raises(CheckpointError, match=says):
        load_checkpoint(copied)


def test_a_config_with_a_changed_byte_is_refused(copied: Path) -> None:
    content = bytearray((copied / "config.json").read_bytes())
    for place in np.random.default_rng(0).integers(0, len(content), 100):
        content[place] ^= 1
        (copied / "config.json").write_bytes(content)
        with pytest.raises(CheckpointError):
            load_checkpoint(copied)
        content[place] ^= 1


def test_a_checkpoint_of_an_older_version_is_read(copied: Path) -> None:
    description = json.loads((copied / "config.json").read_text(encoding="utf-8"))
    del description["config_sha256"]
    old = {**description, "format": "stale-edge-checkpoint/1"}
    (copied / "config.json").write_text(json.dumps(old), encoding="utf-8")
    assert read_checkpoint(copied).vocabulary == tuple(description["vocabulary"])
    del description["versions"]  # a damaged format does not switch the digest off
    (copied / "config.json").write_text(json.dumps(description), encoding="utf-8")
    with pytest.raises(CheckpointError, match="has changed"):
        read_checkpoint(copied)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        load_checkpoint(tmp_path / "nowhere")
    torch.save({"epoch": 1, "state_dict": {}}, tmp_path / "STALE_best.pth.tar")
    with pytest.raises(CheckpointError, match="is a file; a checkpoint is a folder"):
        load_checkpoint(tmp_path / "STALE_best.pth.tar")
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "manifest.json").write_text("{}")
    with pytest.raises(CheckpointError, match="it is a bundle"):
        load_checkpoint(tmp_path / "bundle")


def test_a_folder_of_another_kind_with_a_config_is_left_alone(tmp_path: Path, encoder: TextEncoder) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(CheckpointError, match="exists and is no checkpoint"):
        write(tmp_path, encoder)
    assert (tmp_path / "config.json").read_text() == '{"model_type": "clip"}'


def test_a_part_of_decode_keeps_the_defaults_of_the_architecture() -> None:
    defaults = ARCHITECTURES["linear"].decode
    for decode in ({"max_detections": 50}, {"max_detections": 50, "policy": "runs"}):
        config = config_from_dict({"model": {"architecture": "linear"}, "decode": decode}, ARCHITECTURES)
        assert config.decode == dataclasses.replace(defaults, max_detections=50)
    other = config_from_dict({"model": {"architecture": "linear"}, "decode": {"policy": "points"}}, ARCHITECTURES)
    assert other.decode == PointsConfig()
