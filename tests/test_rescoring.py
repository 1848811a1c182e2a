"""Rescoring by the class of the whole video: its formula, and that both networks export with it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
import torch

from stale_edge.config import ModelConfig, TextConfig
from stale_edge.errors import ConfigError
from stale_edge.model.architectures import build_model
from stale_edge.model.light.settings import LightConfig
from stale_edge.model.rescoring import SMOOTHED, foreground_mean, rescored_logits

CHANNELS, CLASSES, SNIPPETS = 16, 3, 12


def test_a_probability_becomes_the_geometric_mean_with_that_of_the_video() -> None:
    rng = np.random.default_rng(0)
    logits, video = rng.normal(size=(2, CLASSES + 1, 5)), rng.normal(size=(2, CLASSES, 1))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    in_video = np.exp(video) / np.exp(video).sum(axis=1, keepdims=True)
    wanted = np.sqrt(shares[:, :-1] * in_video)
    found = torch.softmax(rescored_logits(torch.tensor(logits), torch.tensor(video)), dim=1).numpy()
    np.testing.assert_allclose(found[:, :-1], wanted, rtol=1e-9)
    np.testing.assert_allclose(found[:, -1], 1 - wanted.sum(axis=1), rtol=1e-9)


def test_the_foreground_mean_has_length_1_and_is_that_of_the_smoothed_weights() -> None:
    rng = np.random.default_rng(1)
    snippets, foreground = rng.normal(size=(1, SNIPPETS, CHANNELS)), rng.uniform(size=(1, SNIPPETS))
    padded = np.pad(foreground[0], SMOOTHED // 2)
    smooth = np.array([padded[t : t + SMOOTHED].mean() for t in range(SNIPPETS)])
    wanted = smooth @ snippets[0]
    found = foreground_mean(torch.tensor(snippets), torch.tensor(foreground))[0, 0].numpy()
    np.testing.assert_allclose(found, wanted / np.linalg.norm(wanted), atol=1e-5)
    still = foreground_mean(torch.tensor(snippets), torch.zeros(1, SNIPPETS, dtype=torch.float64))
    assert torch.isfinite(still).all()


def _settings(architecture: str) -> Any:
    text = TextConfig(n_contexts=0)
    if architecture == "light":
        return LightConfig(feature_channels=CHANNELS, embed_dim=CHANNELS, text=text)
    return ModelConfig(
        feature_channels=CHANNELS, embed_dim=CHANNELS, feedforward_dim=16, localizer_dim=8, n_mask_queries=3, text=text
    )


@pytest.mark.parametrize("architecture", ["paper", "light"])
def test_rescoring_changes_scores_alone_and_is_off_by_default(architecture: str) -> None:
    from stale_edge.model.folding import fold_detector

    settings = _settings(architecture)
    assert settings.rescoring == "none"
    torch.manual_seed(0)
    model = build_model(settings).eval()
    features, classes = torch.randn(2, SNIPPETS, CHANNELS), torch.randn(CLASSES, CHANNELS)
    with torch.inference_mode():
        before = model(features, classes)
        model.config = replace(settings, rescoring="video-class")
        after = model(features, classes)
        folded = fold_detector(model)(features, classes)
    for name, value in before._asdict().items():
        same = torch.equal(value, getattr(after, name))
        assert same == (name != "class_logits"), name
    torch.testing.assert_close(folded.class_logits, after.class_logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("architecture", ["paper", "light"])
def test_rescoring_is_part_of_the_exported_graph(architecture: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    ort = pytest.importorskip("onnxruntime")
    from stale_edge.exporting.artifact_formats import find_format
    from stale_edge.exporting.detector_exporter import DetectorExporter

    torch.manual_seed(0)
    model: Any = build_model(replace(_settings(architecture), rescoring="video-class")).eval()
    DetectorExporter(model).write(find_format("onnx", "fp32"), tmp_path / "detector.onnx", metadata={})
    session = ort.InferenceSession(str(tmp_path / "detector.onnx"), providers=["CPUExecutionProvider"])
    for n_snippets in (1, SNIPPETS, 3 * SNIPPETS):
        features, classes = torch.randn(2, n_snippets, CHANNELS), torch.randn(CLASSES, CHANNELS)
        with torch.inference_mode():
            wanted = model(features, classes).class_logits.numpy()
        found = session.run(["class_logits"], {"features": features.numpy(), "class_embeddings": classes.numpy()})[0]
        np.testing.assert_allclose(found, wanted, atol=5e-3)  # of logits; the background's is that of a difference


def test_the_public_network_has_no_rescoring() -> None:
    with pytest.raises(ConfigError, match=r"model\.rescoring must be none"):
        ModelConfig(architecture="release", rescoring="video-class")
