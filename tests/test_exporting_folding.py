"""Folded weights: fewer products, the same answers."""

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from stale_edge.benchmarking.torch_rows.macs import count_macs
from stale_edge.config import ModelConfig
from stale_edge.exporting.artifact_formats import find_format
from stale_edge.exporting.detector_exporter import DetectorExporter
from stale_edge.model import build_model
from stale_edge.model.channel_statistics import FeatureStatistics
from stale_edge.model.folding import fold_detector
from stale_edge.model.stale import folded_paper


def _release(length: int, dim: int = 32) -> torch.nn.Module:
    torch.manual_seed(length)
    config = ModelConfig(architecture="release", temporal_scale=length, feature_channels=dim, embed_dim=dim)
    model = build_model(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms start at 0 and 1, where a forgotten one would not show
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


@pytest.mark.parametrize(("batch", "length", "classes"), [(1, 1, 1), (2, 7, 3), (3, 37, 5)])
def test_folded_release_answers_alike(batch: int, length: int, classes: int) -> None:
    model = _release(length)
    features, embeddings = torch.randn(batch, length, 32), torch.randn(classes, 32)
    with torch.no_grad():
        expected, folded = model(features, embeddings), fold_detector(model).eval()(features, embeddings)
    for name, wanted, got in zip(expected._fields, expected, folded, strict=True):
        torch.testing.assert_close(got, wanted, atol=2e-5, rtol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_features_may_be_centred_and_scaled_on_the_way() -> None:
    model = _release(21)
    features = torch.randn(2, 21, 32) * 0.3 + torch.randn(32)
    features[..., 5] += 20  # as CLIP features have one
    features[..., 6] = 0.25  # a channel that never varies
    embeddings = torch.randn(4, 32)
    statistics = FeatureStatistics.of([features.numpy()])
    with torch.no_grad():
        expected, folded = model(features, embeddings), fold_detector(model, statistics).eval()(features, embeddings)
    assert statistics.deviation[6] == 1
    for name, wanted, got in zip(expected._fields, expected, folded, strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


def test_folding_leaves_less_to_compute_and_to_store() -> None:
    model = _release(64, dim=64)
    inputs = torch.randn(1, 64, 64), torch.randn(5, 64)
    folded = fold_detector(model).eval()
    assert count_macs(folded, inputs) < 0.75 * count_macs(model, inputs)
    sizes = [sum(parameter.numel() for parameter in module.parameters()) for module in (folded, model)]
    assert sizes[0] < 0.7 * sizes[1]


def test_folding_keeps_the_config_and_the_model() -> None:
    model = _release(8)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert fold_detector(model).config == model.config  # type: ignore[comparison-overlap]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


PAPERS = {
    "full": {},
    "two mask layers": {"n_mask_layers": 2},
    "convolutions": {"temporal": "cnn", "masking": "cnn"},
    "nothing but a localizer": {"temporal": "none", "masking": "none"},
}


def _paper(**choices: Any) -> torch.nn.Module:
    torch.manual_seed(3)
    sizes = {"feature_channels": 32, "embed_dim": 32, "feedforward_dim": 48, "localizer_dim": 16, "dynamic_channels": 4}
    model = build_model(ModelConfig(**{**sizes, **choices})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        model.adaption.alpha.fill_(0.5)  # 1e-3 would hide what the adaption does
    return model


@pytest.mark.parametrize("choices", PAPERS.values(), ids=PAPERS)
@pytest.mark.parametrize(("batch", "length", "classes"), [(1, 1, 1), (3, 37, 5)])
def test_folded_paper_answers_alike(choices: dict[str, Any], batch: int, length: int, classes: int) -> None:
    model = _paper(**choices)
    features, embeddings = torch.randn(batch, length, 32), torch.randn(classes, 32)
    with torch.no_grad():
        expected, folded = model(features, embeddings), fold_detector(model)(features, embeddings)
    assert 0 < expected.masks.mean() < 1
    for name, wanted, got in zip(expected._fields, expected, folded, strict=True):
        torch.testing.assert_close(got, wanted, atol=2e-5, rtol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_the_folded_paper_hides_the_background_as_the_model_does() -> None:
    """Gated-off snippets are no keys; with all of them off, attention is what it is without a gate."""
    for bias in (-9.0, 9.0):
        model = _paper()
        with torch.no_grad():
            model.masking.query_weights[-1].bias.fill_(bias)
            inputs = torch.randn(2, 21, 32), torch.randn(4, 32)
            expected, folded = model(*inputs), fold_detector(model)(*inputs)
        assert bool((expected.foreground > 0.5).all()) == (bias > 0)
        torch.testing.assert_close(folded.class_logits, expected.class_logits, atol=2e-5, rtol=1e-5)


def test_masks_made_in_chunks_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    folded = fold_detector(_paper())
    inputs = torch.randn(2, 21, 32), torch.randn(4, 32)
    with torch.no_grad():
        whole = folded(*inputs).masks
        monkeypatch.setattr(folded_paper, "CHUNK_ELEMENTS", 1000)
        torch.testing.assert_close(folded(*inputs).masks, whole)


def test_folding_the_paper_leaves_the_model_alone() -> None:
    model = _paper().train()
    parts, before = dict(model.named_modules()), {name: tensor.clone() for name, tensor in model.state_dict().items()}
    folded = fold_detector(model)
    assert folded is not model
    assert folded.config is model.config
    assert dict(model.named_modules()) == parts
    assert all(module.training for module in parts.values())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_foreign_model_stays() -> None:
    model = torch.nn.Linear(2, 2)
    assert fold_detector(model) is model


def test_exported_files_are_folded(tmp_path: Path) -> None:
    model = _release(9)
    DetectorExporter(model).write(find_format("onnx", "fp32"), tmp_path / "detector.onnx", metadata={})
    shapes = [tuple(tensor.dims) for tensor in onnx.load(tmp_path / "detector.onnx").graph.initializer]
    assert (32, 3 * 4 * 32) not in shapes, "queries, keys and values of the wide attention were not folded"
    assert shapes.count((32, 4 * 32)) == shapes.count((4 * 32, 32)) == 2


def test_exported_files_of_the_paper_are_folded(tmp_path: Path) -> None:
    model = _paper()
    DetectorExporter(model).write(find_format("onnx", "fp32"), tmp_path / "detector.onnx", metadata={})
    graph = onnx.load(tmp_path / "detector.onnx").graph
    shapes = [tuple(tensor.dims) for tensor in graph.initializer]
    assert (32, 20 * 4) in shapes, "the mask queries of all heads do not ask snippets directly"
    assert not {(32, 3 * 32), (32, 2 * 32)} & set(shapes), "queries, keys and values are made in one and cut apart"
    assert sum(node.op_type == "Softmax" for node in graph.node) == 5, (
        "constant queries attend to each other in the graph"
    )
