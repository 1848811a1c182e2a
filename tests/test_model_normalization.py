"""Normalisation inside the network: values against NumPy, every choice in every graph, old checkpoints, defaults."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file

from stale_edge.bundle.files import sha256_of
from stale_edge.config import Config, FeaturesConfig, FeatureSpec, LinearConfig, ModelConfig
from stale_edge.errors import ConfigError, TrainingError
from stale_edge.exporting.graph.recording import trace_onnx
from stale_edge.model import build_model, read_checkpoint, write_checkpoint
from stale_edge.model.normalization import FeatureNormalization
from stale_edge.training.feature_statistics import fit_normalization
from stale_edge.training.torch_localizer import feature_contract

RANDOM = np.random.default_rng(0)
VIDEOS = [RANDOM.normal(5.5, 0.3, (n, 4)) + RANDOM.normal(0, 2.0, 4) for n in (7, 30)]


def fitted(config: FeaturesConfig) -> FeatureNormalization:
    module = FeatureNormalization(config, 4)
    module.fit(torch.from_numpy(video).float() for video in VIDEOS)
    return module


def unit(x: np.ndarray) -> np.ndarray:
    return np.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True))


def expected(config: FeaturesConfig, video: np.ndarray) -> np.ndarray:
    """Compute it in float64, from the definition."""
    videos = [unit(v) if config.l2 == "before" else v for v in VIDEOS]
    x = unit(video) if config.l2 == "before" else video
    everything = np.concatenate(videos)
    if config.normalize == "video-mean":
        left = np.concatenate([v - v.mean(axis=0) for v in videos])
        x = (x - x.mean(axis=0)) / np.sqrt(np.square(left).mean())
    elif config.normalize == "data-mean":
        x = (x - everything.mean(axis=0)) / (everything - everything.mean(axis=0)).std()
    elif config.normalize == "data-whiten":
        values, directions = np.linalg.eigh(np.cov(everything.T, bias=True))
        x = (x - everything.mean(axis=0)) @ (directions / np.sqrt(values)) @ directions.T
    return unit(x) * 2.0 if config.l2 == "after" else x


@pytest.mark.parametrize("l2", ["none", "before", "after"])
@pytest.mark.parametrize("normalize", ["none", "video-mean", "data-mean", "data-whiten"])
def test_each_choice_is_what_its_definition_says(normalize: str, l2: str) -> None:
    config = FeaturesConfig(normalize=normalize, l2=l2)  # type: ignore[arg-type]
    video = RANDOM.normal(4.0, 1.0, (9, 4))
    given = fitted(config)(torch.from_numpy(video).float()[None])[0]
    np.testing.assert_allclose(given.numpy(), expected(config, video), rtol=2e-3, atol=2e-3)


def test_each_video_of_a_batch_has_its_own_mean() -> None:
    batch = torch.randn(2, 6, 4) + torch.tensor([0.0, 9.0])[:, None, None]
    given = fitted(FeaturesConfig(normalize="video-mean"))(batch)
    torch.testing.assert_close(given.mean(dim=1), torch.zeros(2, 4), atol=1e-5, rtol=0.0)


@pytest.mark.parametrize("video", [np.ones((5, 4)), np.full((5, 4), np.nan)], ids=["all alike", "not finite"])
def test_videos_that_cannot_be_learned_from_are_refused_by_name(video: np.ndarray) -> None:
    class Videos:
        videos = ("v0", "v1")

        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> SimpleNamespace:
            return SimpleNamespace(features=torch.from_numpy(video).float())

    for normalize in ("video-mean", "data-mean"):
        module = FeatureNormalization(FeaturesConfig(normalize=normalize), 4)  # type: ignore[arg-type]
        with pytest.raises(TrainingError, match="the 2 training videos, 'v0' first, cannot be learned from"):
            fit_normalization(module, Videos(), progress=lambda *_: None)  # type: ignore[arg-type]


def test_the_default_is_that_of_the_architecture() -> None:
    assert ModelConfig().features == FeaturesConfig(normalize="video-mean")
    assert ModelConfig(architecture="release").features == FeaturesConfig(normalize="none")
    with pytest.raises(ConfigError, match=r"model\.features\.normalize.*'release'"):
        ModelConfig(architecture="release", features=FeaturesConfig(normalize="video-mean"))
    with pytest.raises(ConfigError, match=r"model\.features\.l2.*'release'"):
        ModelConfig(architecture="release", features=FeaturesConfig(l2="before"))


TINY = ModelConfig(
    feature_channels=8,
    embed_dim=8,
    n_heads=2,
    feedforward_dim=16,
    n_temporal_layers=1,
    n_mask_queries=3,
    localizer_dim=8,
    dynamic_channels=4,
)


@pytest.mark.parametrize("normalize", ["none", "video-mean", "data-mean", "data-whiten"])
def test_the_exported_graph_normalises_as_the_network_does(normalize: str) -> None:
    features_config = FeaturesConfig(normalize=normalize, l2="before")  # type: ignore[arg-type]
    config = dataclasses.replace(TINY, features=features_config)
    model = build_model(config).eval()
    training = torch.randn(4, 20, 8) * 2 + torch.arange(8.0)
    model.temporal.normalize.fit(training)  # type: ignore[union-attr, operator]
    session = onnxruntime.InferenceSession(trace_onnx(model).SerializeToString())
    features, classes = torch.randn(3, 11, 8) * 2 + torch.arange(8.0), torch.randn(4, 8)
    with torch.inference_mode():
        output = model(features, classes)
    given = session.run(["class_logits", "masks"], {"features": features.numpy(), "class_embeddings": classes.numpy()})
    np.testing.assert_allclose(given[0], output.class_logits.numpy(), atol=1e-3, rtol=1e-4)
    np.testing.assert_allclose(given[1], output.masks.numpy(), atol=1e-4)


def test_a_checkpoint_from_before_the_setting_centres_by_the_mean_of_its_data(tmp_path: Path) -> None:
    model = build_model(dataclasses.replace(TINY, features=FeaturesConfig(normalize="data-mean"))).eval()
    model.temporal.normalize.fit(torch.randn(4, 20, 8) + 3)  # type: ignore[union-attr, operator]
    path = tmp_path / "checkpoint"
    write_checkpoint(
        path,
        model=model,
        config=Config(model=model.config),
        feature_spec=FeatureSpec(channels=8),
        class_bank=None,
        text_encoder=None,
    )
    weights = load_file(path / "model.safetensors")
    for name in ("center", "scale"):  # where they stood
        weights[f"temporal.{name}"] = weights.pop(f"temporal.normalize.{name}")
    save_file(weights, path / "model.safetensors")
    description = json.loads((path / "config.json").read_text())
    del description["config"]["model"]["features"], description["config_sha256"]
    description["format"] = "stale-edge-checkpoint/1"
    description["files"]["model.safetensors"] = sha256_of(path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(description))

    read = read_checkpoint(path)
    assert read.config.model.features.normalize == "data-mean"
    features, classes = torch.randn(2, 9, 8) + 3, torch.randn(3, 8)
    with torch.inference_mode():
        assert torch.equal(read.model(features, classes).class_logits, model(features, classes).class_logits)


def test_the_feature_contract_names_it() -> None:
    for model in (ModelConfig(), ModelConfig(architecture="release"), LinearConfig()):
        contract = feature_contract(Config(model=model), FeatureSpec())
        assert contract.normalize == model.features.normalize
