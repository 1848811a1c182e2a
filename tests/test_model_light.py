"""The architecture `light`: parts against NumPy, losses by hand, padding, and all stages from training to windows."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import training_data

from stale_edge import load_bundle
from stale_edge.bundle import verify_bundle
from stale_edge.config import FeaturesConfig, RelativeGrid, config_from_dict
from stale_edge.data import open_data_set
from stale_edge.data.annotations import Action
from stale_edge.errors import ConfigError
from stale_edge.exporting import export_checkpoint
from stale_edge.model.architectures import ARCHITECTURES
from stale_edge.model.light.network import Light, LightOutput
from stale_edge.model.light.objective import LightObjective, LightTargets
from stale_edge.model.light.segment_score import LEAST_MARGIN, SHORTEST, segment_means
from stale_edge.model.light.settings import LightConfig, LightLossConfig
from stale_edge.model.pyramid.losses import quality_focal_loss
from stale_edge.model.targets import IGNORED
from stale_edge.runtime.evaluate import evaluate_bundle
from stale_edge.training import train
from stale_edge.training.train_result import TrainResult

SMALL = LightConfig(feature_channels=6, embed_dim=5, pyramid_dim=8, n_levels=3)


def network() -> Light:
    """Random weights everywhere: fresh ones would leave many outputs constant."""
    torch.manual_seed(0)
    model = Light(SMALL).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return model


def mean_of(evidence: np.ndarray, start: float, end: float) -> np.ndarray:
    """Integrate a function that is constant over each snippet, the slow way: 0.001 snippets at a time."""
    places = np.linspace(start, end, 1 + round((end - start) * 1000), endpoint=False) + 0.0005
    return np.asarray(evidence[np.floor(places).astype(int).clip(0, len(evidence) - 1)].mean(axis=0))


@pytest.mark.parametrize(("start", "end"), [(2.25, 7.5), (-3.0, 4.0), (0.0, 12.0), (5.0, 5.1), (8.5, 40.0)])
def test_means_inside_and_around_a_segment(start: float, end: float) -> None:
    evidence = torch.randn(1, 12, 3, generator=torch.Generator().manual_seed(1))
    segments = torch.tensor([[[start, end]]])
    means, length = (part[0, 0] for part in segment_means(evidence, segments, surroundings=0.5))
    inside, before, after = means
    values, first, last = evidence[0].numpy(), max(start, 0.0), min(end, 12.0)
    assert length.item() == pytest.approx(max(last - first, SHORTEST))
    margin = max(0.5 * length.item(), LEAST_MARGIN)
    for found, low, high in (
        (inside, first, last),
        (before, max(first - margin, 0.0), first),
        (after, last, min(last + margin, 12.0)),
    ):
        share = (high - low) / max(high - low, SHORTEST)  # what is missing of the shortest length counts as 0
        expected = share * mean_of(values, low, high) if high > low else np.zeros(3)
        np.testing.assert_allclose(found, expected, atol=5e-3)


def test_padding_changes_no_output() -> None:
    """Padding for one level more, which the network does not have, gives the same numbers."""
    model, features, classes = network(), torch.randn(2, 9, 6), torch.randn(4, 5)
    with torch.inference_mode():
        short = model(features, classes)
        assert short.valid.shape == (2, 12 + 6 + 3)
        assert short.valid[0].tolist() == [1.0] * 9 + [0.0] * 3 + [1.0] * 5 + [0.0] + [1.0] * 3
        model.config = dataclasses.replace(SMALL, n_levels=4)  # pads to a multiple of 8, with the same three levels
        long = model(features, classes)
    real = short.valid > 0
    np.testing.assert_allclose(short.class_logits[real], long.class_logits[long.valid > 0], atol=1e-5)
    np.testing.assert_allclose(short.offsets[real], long.offsets[long.valid > 0], atol=1e-5)


def test_a_score_is_that_of_the_segment_times_that_of_the_class() -> None:
    model, features, classes = network(), torch.randn(2, 9, 6) + 4, torch.randn(4, 5)
    with torch.inference_mode():
        output = model(features, classes)
        scaled = model(features + 7, 3 * classes)  # neither the video's mean nor the length of an embedding counts
    expected = output.segment_logits.sigmoid()[..., None] * output.name_logits.softmax(dim=-1)
    np.testing.assert_allclose(output.class_logits.sigmoid(), expected, atol=1e-6)
    np.testing.assert_allclose(output.class_logits, scaled.class_logits, atol=1e-3)
    assert torch.isfinite(output.class_logits).all()
    assert output.offsets.min() > 0


def test_targets_of_points() -> None:
    objective = LightObjective(SMALL, LightLossConfig())
    actions = [Action("jump", 4.0, 8.0), Action("swim", 18.0, 20.0), Action("jump", 12.0, 16.0)]
    found = objective.targets(actions, vocabulary=["run", "jump"], grid=RelativeGrid(24.0), n_snippets=24)
    first, second = found.labels[:24], found.labels[24:36]
    assert first.tolist()[5:8] == [1, 1, 1]  # within 1.5 snippets of 6, the middle
    assert set(first.tolist()[:5] + first.tolist()[8:13]) == {2}
    assert first.tolist()[19] == IGNORED  # an action of a class that is not trained on is no background
    assert second.tolist() == [2] * 12  # distances of at most 4 snippets belong to the first level
    assert found.offsets[5].tolist() == [1.0, 3.0]
    assert found.snippets.tolist()[3:9] == [2, 1, 1, 1, 1, 2]
    assert found.snippets.tolist()[18] == IGNORED


def test_losses_by_hand() -> None:
    """Two points: one in an action whose segment it finds by half, one in the background."""
    objective = LightObjective(SMALL, LightLossConfig(points=2.0, offsets=3.0))
    targets = LightTargets(torch.tensor([[0, 2]]), torch.tensor([[[1.0, 3.0], [0.0, 0.0]]]), torch.tensor([[0, 2]]))
    zero = torch.zeros(1, 2)
    output = LightOutput(
        class_logits=torch.zeros(1, 2, 2),
        offsets=torch.tensor([[[1.0, 1.0], [5.0, 5.0]]]),
        valid=torch.ones(1, 2),
        point_logits=zero,
        segment_logits=zero + 1.0,
        name_logits=torch.tensor([[[1.0, 0.0], [9.0, 9.0]]]),
        snippet_logits=torch.zeros(1, 2, 2),
        actionness_logits=torch.tensor([[0.0, -1.0]]),
    )
    terms = objective.losses(output, targets)
    sure = 1 / (1 + np.exp(-1.0))
    points = 0.25 * np.log(2) + (sure - 0.5) ** 2 * -(0.5 * np.log(sure) + 0.5 * np.log(1 - sure))
    points -= sure**2 * np.log(1 - sure)
    assert terms["points"].tolist() == pytest.approx([points])
    assert terms["offsets"].tolist() == pytest.approx([0.5 + (1 / 4) ** 2])
    assert terms["classification"].tolist() == pytest.approx([np.log1p(np.exp(-1.0)) + np.log(2)])
    assert terms["actionness"].tolist() == pytest.approx([(np.log(2) + np.log1p(np.exp(-1.0))) / 2])
    total = 2 * points + 3 * (0.5 + 1 / 16) + terms["classification"].item() + terms["actionness"].item()
    assert objective.total(terms).tolist() == pytest.approx([total])


def test_quality_focal_loss_is_least_at_the_quality() -> None:
    quality = torch.tensor([0.0, 0.3, 1.0])
    scores = torch.linspace(0.01, 0.99, 99)
    losses = torch.stack([quality_focal_loss(scores.logit(), q.expand(99)) for q in quality])
    np.testing.assert_allclose(scores[losses.argmin(dim=1)], [0.01, 0.3, 0.99], atol=1e-6)


def test_settings_are_checked() -> None:
    assert SMALL.features == FeaturesConfig(normalize="video-mean")
    assert SMALL.ranges == ((0.0, 4.0), (4.0, 8.0), (8.0, 10000.0))
    with pytest.raises(ConfigError, match=r"model\.pyramid_dim"):
        LightConfig(pyramid_dim=0)
    with pytest.raises(ConfigError, match=r"loss\.center_radius"):
        LightLossConfig(center_radius=0.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training_data.write_data_set(tmp_path_factory.mktemp("data") / "set", n_videos=24)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, data: Path) -> TrainResult:
    config = config_from_dict(
        {
            "model": {"architecture": "light", "feature_channels": 16, "embed_dim": 16, "n_levels": 4},
            "train": {"epochs": 20, "batch_size": 4, "n_snippets": 24, "device": "cpu", "validate_every": 20},
        },
        ARCHITECTURES,
    )
    return train(config, data, tmp_path_factory.mktemp("run") / "run")


@pytest.fixture(scope="module")
def bundle(trained: TrainResult, data: Path) -> Path:
    path = trained.last.parent / "bundle"
    export_checkpoint(trained.last, path, formats=["onnx", "torchscript"], data=data)
    return path


def test_it_learns(trained: TrainResult) -> None:
    assert trained.average_mAP is not None
    assert trained.average_mAP > 60


def test_the_bundle_verifies(bundle: Path) -> None:
    manifest = verify_bundle(bundle).manifest
    assert (manifest.architecture, manifest.decode.policy, manifest.decode.n_levels) == ("light", "points", 4)
    assert {entry.role for entry in manifest.files} >= {"detector", "localizer"}
    assert {parity["passed"] for parity in manifest.parity["artifacts"].values()} == {True}


@pytest.mark.parametrize(
    ("runtime", "precision"), [("onnxruntime", "fp32"), ("onnxruntime", "int8"), ("torchscript", "fp32")]
)
def test_runtimes_find_the_same(bundle: Path, trained: TrainResult, data: Path, runtime: str, precision: str) -> None:
    report = evaluate_bundle(bundle, data, runtime=runtime, precision=precision)
    assert report.result.average_mAP == pytest.approx(trained.average_mAP, abs=0.01 if precision == "fp32" else 5)


def test_any_length_and_any_classes(bundle: Path, data: Path) -> None:
    localizer, data_set = load_bundle(bundle), open_data_set(data)
    for length in (1, 7, 50):
        outputs = localizer.forward(np.random.default_rng(0).standard_normal((2, length, 16)).astype(np.float32))
        assert outputs["class_logits"].shape[::2] == (2, 4)
        assert np.isfinite(outputs["class_logits"]).all()
    features = np.concatenate([data_set.load(video) for video in data_set.videos("validation")])
    found = localizer.detect(features, duration_s=1.5 * len(features), window=24)
    assert found
    assert all(0 <= d.start_s < d.end_s <= 1.5 * len(features) for d in found)
