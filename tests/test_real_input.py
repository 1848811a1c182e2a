"""Real features and real annotations through a bundle of the full size, whose weights are random."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from stale_edge.bundle import ClassBank
from stale_edge.config import Config, FeatureSpec
from stale_edge.data import read_features
from stale_edge.errors import FeatureContractError
from stale_edge.segments import Detection

VIDEO = "v_GGSY1Qvo990"
N_FRAMES, CHANNELS, FPS = 355, 512, 19.62
DURATION_S = 18.2
NAMES = ("Clean and jerk", "Walking the dog", "Pole vault", "Juggling balls")


@pytest.fixture(scope="module")
def full_size(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint of the paper's full size with random weights, and its fp32 bundle."""
    torch = pytest.importorskip("torch")
    from stale_edge.exporting import export_checkpoint
    from stale_edge.model import build_model, write_checkpoint

    folder = tmp_path_factory.mktemp("full-size")
    config = Config()
    torch.manual_seed(0)
    embeddings = np.random.default_rng(0).standard_normal((len(NAMES), config.model.embed_dim)).astype(np.float32)
    write_checkpoint(
        folder / "checkpoint",
        model=build_model(config.model),
        config=config,
        feature_spec=FeatureSpec(encoder="openai/clip-vit-base-patch32", channels=CHANNELS, fps=FPS, stride=1),
        class_bank=ClassBank(NAMES, embeddings, "random"),
        text_encoder=None,
    )
    export_checkpoint(folder / "checkpoint", folder / "bundle", formats=["onnx"], precisions=["fp32"])
    return folder / "checkpoint", folder / "bundle"


@pytest.fixture(scope="module")
def features(shared_data: Path) -> np.ndarray:
    return read_features(shared_data / "real_video" / f"{VIDEO}_features.npz", array="clip_vitb32")


def test_the_features_are_what_the_index_says(features: np.ndarray) -> None:
    assert features.shape == (N_FRAMES, CHANNELS)
    assert np.linalg.norm(features, axis=1).mean() == pytest.approx(10.28, abs=0.05)


def test_detect_on_real_features_equals_the_checkpoint(full_size: tuple[Path, Path], features: np.ndarray) -> None:
    from stale_edge.model.checkpoint import read_checkpoint
    from stale_edge.runtime import load_bundle
    from stale_edge.training import TorchLocalizer

    checkpoint, bundle = full_size
    found = load_bundle(bundle).detect(features, duration_s=DURATION_S)
    expected = TorchLocalizer.of(read_checkpoint(checkpoint)).detect(features, duration_s=DURATION_S)
    assert found
    assert [d.label for d in found] == [d.label for d in expected]
    # The fp32 gate of the exporter allows 1e-4 on masks and scores; segments are cut at snippets and must not move.
    np.testing.assert_allclose(_numbers(found), _numbers(expected), atol=1e-4)
    assert all(0 <= d.start_s < d.end_s <= DURATION_S for d in found)
    assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)


def test_forward_takes_the_whole_video_at_its_own_length(full_size: tuple[Path, Path], features: np.ndarray) -> None:
    from stale_edge.runtime import load_bundle

    outputs = load_bundle(full_size[1]).forward(features)
    assert outputs["class_logits"].shape == (len(NAMES) + 1, N_FRAMES)
    assert outputs["masks"].shape == (N_FRAMES, N_FRAMES)
    assert np.isfinite(outputs["class_logits"]).all()
    assert 0 <= outputs["masks"].min() <= outputs["masks"].max() <= 1


def test_features_of_another_encoder_are_refused(full_size: tuple[Path, Path], shared_data: Path) -> None:
    from stale_edge.runtime import load_bundle

    i3d = read_features(shared_data / "real_video" / f"{VIDEO}_features.npz", array="i3d_rgb_15fps")
    with pytest.raises(FeatureContractError, match=r"C = 512.*1024"):
        load_bundle(full_size[1]).detect(i3d, duration_s=DURATION_S)


def test_evaluation_against_real_annotations_with_simulated_features(
    full_size: tuple[Path, Path], shared_data: Path, tmp_path: Path
) -> None:
    from stale_edge.bundle import add_classes
    from stale_edge.config import SimulateConfig
    from stale_edge.data.simulate import simulate
    from stale_edge.runtime import load_bundle
    from stale_edge.runtime.evaluate import evaluate_localizer

    config = SimulateConfig(n_videos=60, channels=CHANNELS, stride=32)
    data_set = simulate(tmp_path / "data", config=config, annotations=shared_data / "activitynet")
    simulated = ClassBank.load(tmp_path / "data" / "class_bank.npz")
    new = [name for name in simulated.names if name not in NAMES]
    bundle = shutil.copytree(full_size[1], tmp_path / "bundle")
    add_classes(bundle, ClassBank(tuple(new), simulated.select(new).embeddings, "random"))
    report = evaluate_localizer(load_bundle(bundle), data_set)
    videos = data_set.videos("validation")
    annotated = {action.label for video in videos for action in data_set.annotations.videos[video].actions}
    assert report.n_videos == len(videos)
    assert (report.missing_features, report.unknown_classes) == ((), ())
    assert set(report.result.per_class) == annotated
    # The bundle is not trained; what the simulation put into the features can be read off without training.
    assert report.baseline is not None
    assert report.baseline.average_mAP > report.result.average_mAP + 1


def _numbers(detections: list[Detection]) -> np.ndarray:
    return np.array([[d.score, d.start_s, d.end_s] for d in detections])
