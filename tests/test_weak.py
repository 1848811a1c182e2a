"""Weak supervision: the losses, what may be read, the steps, and the way to a bundle."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import training_data
from typer.testing import CliRunner

from stale_edge.bundle import verify_bundle
from stale_edge.cli.app import app
from stale_edge.config import Config, RelativeGrid, config_from_dict
from stale_edge.data.annotations import Action
from stale_edge.data.folder import open_data_set
from stale_edge.errors import ConfigError, TrainingError
from stale_edge.exporting import export_checkpoint
from stale_edge.model.architectures import ARCHITECTURES, build_model, build_objective
from stale_edge.model.checkpoint import read_checkpoint
from stale_edge.model.weak.branches import BranchOutput
from stale_edge.model.weak.labels import VideoLabels, count_labels, pseudo_labels
from stale_edge.progress import silent
from stale_edge.runtime.evaluate import EvaluationSettings, evaluate_bundle
from stale_edge.training import evaluate_checkpoint, loop, train
from stale_edge.training.pseudo_label_files import PseudoLabels, make_pseudo_labels
from stale_edge.training.train_result import TrainResult

C = training_data.CHANNELS


def config(**schedule: Any) -> Config:
    return config_from_dict(
        {
            "model": {
                "architecture": "weak", "feature_channels": C, "width": 16, "n_heads": 2, "n_stem_blocks": 1,
                "windows": [5, -1], "dropout": 0.1,
                "vlp": {"feature_channels": C, "embed_dim": C, "n_heads": 2, "n_temporal_layers": 1, "n_frames": 24},
            },
            "train": {"epochs": 8, "vlp_epochs": 4, "cbp_epochs": 4, "rounds": 1, "batch_size": 4, "n_snippets": 24,
                      "learning_rate": 5e-3, "device": "cpu", **schedule},
        },
        ARCHITECTURES,
    )  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training_data.write_data_set(tmp_path_factory.mktemp("data") / "set", n_videos=18)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, data: Path) -> TrainResult:
    return train(config(), data, tmp_path_factory.mktemp("run") / "run")


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(checkpoint).model.state_dict()


def test_times_never_reach_the_loss(trained: TrainResult, data: Path, tmp_path: Path) -> None:
    """Every time of the training videos is replaced; the weights stay the same to the last bit."""
    other = tmp_path / "set"
    shutil.copytree(data, other)
    document = json.loads((other / "annotations.json").read_text())
    for video in document["database"].values():
        if video["subset"] == "training":
            for action in video["annotations"]:
                action["segment"] = [0.0, video["duration"]]
    (other / "annotations.json").write_text(json.dumps(document))
    again = train(config(), other, tmp_path / "run")
    for branch in ("last", "vlp"):
        first, second = (weights(result.last.parent / branch) for result in (trained, again))
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_killed_run_is_resumed_in_any_step(
    trained: TrainResult, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed in the warm-up, in the B step and in the F step, and resumed each time."""
    run_epoch = loop._Run._train_epoch
    left = [3, 6, 6, 100]

    def killed(self: Any, epoch: int) -> Any:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return run_epoch(self, epoch)

    monkeypatch.setattr(loop._Run, "_train_epoch", killed)
    out = tmp_path / "run"
    kills = 0
    while left:
        try:
            result = train(config(), data, out, resume=kills > 0)
            break
        except KeyboardInterrupt:
            kills += 1
            left.pop(0)
    assert kills == 3
    for branch in ("last", "vlp"):
        first, second = (weights(r.last.parent / branch) for r in (trained, result))
        assert all(torch.equal(first[name], second[name]) for name in first)
    with pytest.raises(TrainingError, match="cannot resume with other settings"):
        train(config(learning_rate=1e-3), data, out, resume=True)


def test_pseudo_labels_can_be_looked_at(trained: TrainResult) -> None:
    folder = trained.last.parent / "pseudo-labels"
    assert sorted(path.name for path in folder.iterdir()) == [
        f"round-1-{step}.{kind}" for step in "BF" for kind in ("npz", "png")
    ]
    labels = PseudoLabels.load(folder / "round-1-B.npz")
    assert labels.classes == training_data.CLASSES
    assert {array.shape for array in labels.videos.values()} == {(24, 4)}
    recorded = next(r["pseudo_labels"] for r in trained.records if r["step"] == "round-1-B")
    assert set(recorded) == {"positive", "negative", "unknown"}
    assert min(recorded.values()) > 0
    assert [r["step"] for r in trained.records] == ["warm-up"] * 8 + ["round-1-B"] * 4 + ["round-1-F"] * 4


def test_it_finds_actions_and_its_bundles_do_too(trained: TrainResult, data: Path, tmp_path: Path) -> None:
    settings = EvaluationSettings(tiou_thresholds=(0.1, 0.3, 0.5))
    found = evaluate_checkpoint(trained.last, data, settings=settings).result.average_mAP
    assert found > 20
    assert "the data set has no features_vlp/" in " ".join(trained.notes)
    for name, branch in (("cbp", trained.last), ("vlp", trained.last.parent / "vlp")):
        export_checkpoint(branch, tmp_path / name, formats=["onnx"], precisions=["fp32", "int8"], data=data)
        manifest = verify_bundle(tmp_path / name).manifest
        assert manifest.decode.policy == "runs"
        wanted = evaluate_checkpoint(branch, data, settings=settings).result.average_mAP
        for precision, tolerance in (("fp32", 0.01), ("int8", 5.0)):
            got = evaluate_bundle(tmp_path / name, data, precision=precision, settings=settings)
            assert got.result.average_mAP == pytest.approx(wanted, abs=tolerance)


def test_two_thresholds_make_three_kinds_of_labels() -> None:
    scores = np.array([[0.1, 0.2, 0.5, 0.9, 0.8], [0.9, 0.9, 0.9, 0.9, 0.9], [0.3, 0.3, 0.3, 0.3, 0.3]], np.float32)
    present = np.array([True, False, True])
    labels = pseudo_labels(scores, present, low=0.15, high=0.8)
    assert labels.T.tolist() == [[0, 0, -1, 1, 1], [0, 0, 0, 0, 0], [1, -1, -1, -1, -1]]
    assert count_labels(labels, present) == (3, 2, 5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"high": 0.4}, "above loss.low = 0.1 and loss.vlp_low = 0.5"),
        ({"vlp_low": -0.1}, "loss.vlp_low must be a number in"),
    ],
)
def test_thresholds_that_cross_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(config().loss, **settings)


def test_each_teacher_has_its_own_lower_threshold(trained: TrainResult, data: Path) -> None:
    """At 0.69 and below CBP's middling scores stay unknown, VLP's are background."""
    run = trained.last.parent
    chosen = dataclasses.replace(config().loss, low=0.0, vlp_low=0.69)
    for checkpoint, has_unknown in ((trained.last, True), (run / "vlp", False)):
        own = dataclasses.replace(read_checkpoint(checkpoint).config, loss=chosen)
        data_set = open_data_set(data)
        videos = data_set.videos("training")
        made, _ = make_pseudo_labels(checkpoint, data_set, videos, config=own, progress=silent)
        counts = made.counts(data_set)
        assert (counts.unknown > 0.1 * sum(counts)) == has_unknown


def outputs(scores: torch.Tensor, attention: torch.Tensor) -> BranchOutput:
    rows = torch.cat([scores, 1 - scores.sum(dim=1, keepdim=True)], dim=1).clamp(min=1e-6)
    return BranchOutput(rows.log(), attention, torch.eye(scores.shape[2])[None, :, :4])


def test_losses_of_a_small_case_by_hand() -> None:
    objective = build_objective(config().model, dataclasses.replace(config().loss, top_share=0.5))
    labels = VideoLabels(frozenset({"a"}), np.array([[1, 0], [-1, 0], [0, 0], [0, 0]], np.int8))
    targets = objective.stack([objective.targets(labels, vocabulary=("a", "b"), grid=RelativeGrid(4.0), n_snippets=4)])
    scores = torch.tensor([[[0.8, 0.5, 0.2, 0.1], [0.1, 0.1, 0.1, 0.1]]])
    attention = torch.tensor([[0.5, 1.0, 1.0, 0.5]])
    losses = objective.losses(outputs(scores, attention), targets)
    wanted = -(np.log(0.8 * 0.5) + np.log(1 - 0.3) + np.log(1 - 0.2 * 0.5)) / 3  # one snippet of 1, two of background
    assert losses["distillation"].item() == pytest.approx(wanted, rel=1e-5)
    assert losses["sparsity"].item() == losses["guide"].item() == 0.0  # only without pseudo-labels
    a, b, background = np.log([0.8 * 0.5, 0.01, 0.8 * 0.7]) / 2
    together = np.log(np.exp([a, b, background]).sum())
    assert losses["mil"].item() == pytest.approx(together - 0.5 * (a + background), rel=1e-5)


def test_videos_without_labels_and_single_classes_are_handled() -> None:
    objective = build_objective(config().model, config().loss)
    vocabulary = ("only",)
    made = [
        objective.targets(VideoLabels(names), vocabulary=vocabulary, grid=RelativeGrid(4.0), n_snippets=8)
        for names in (frozenset[str](), frozenset({"only"}))
    ]
    model = dataclasses.replace(config().model, n_classes=1)
    network = build_model(model)
    losses = objective.losses(network(torch.randn(2, 8, C), network.class_bank()), objective.stack(made))
    assert all(values.isfinite().all() for values in losses.values())
    assert losses["suppression"][0] == 0  # nothing is present, so nothing can be suppressed in its favour
    objective.total(losses).sum().backward()


def test_full_supervision_labels_every_snippet_and_ignores_unseen_classes() -> None:
    objective = build_objective(config().model, config().loss)
    actions = [Action("a", 1.0, 2.0), Action("unseen", 2.0, 3.0)]
    targets = objective.targets(actions, vocabulary=("a", "b"), grid=RelativeGrid(4.0), n_snippets=4)
    assert targets.labels.tolist() == [[0, 0], [1, 0], [-1, -1], [0, 0]]
    assert targets.classes.tolist() == [1, 0]


def test_other_architectures_cannot_be_trained_from_video_labels(data: Path, tmp_path: Path) -> None:
    arguments = ["train", "--data", str(data), "--out", str(tmp_path / "run"), "--arch", "stale"]
    result = CliRunner().invoke(app, [*arguments, "--supervision", "video-labels"])
    assert result.exit_code == 1
    assert "trains the architecture weak; got paper: choose --arch weak" in str(result.exception)


def test_a_second_encoder_of_another_width_is_refused(data: Path, tmp_path: Path) -> None:
    other = tmp_path / "set"
    shutil.copytree(data, other)
    (other / "features_vlp").mkdir()
    for path in (other / "features").iterdir():
        np.save(other / "features_vlp" / path.name, np.load(path)[:, :8])
    arguments = ["train", "--data", str(other), "--out", str(tmp_path / "run"), "--supervision", "video-labels"]
    result = CliRunner().invoke(app, [*arguments, "--set", f"model.feature_channels={C}"])
    assert result.exit_code == 1
    assert "features_vlp/ has 8 channels" in str(result.exception)


def test_another_number_of_classes_is_refused(data: Path, tmp_path: Path) -> None:
    chosen = dataclasses.replace(config().model, n_classes=9)
    with pytest.raises(ConfigError, match=r"model.n_classes must be 4, .* or 0; got 9"):
        train(dataclasses.replace(config(), model=chosen), data, tmp_path / "run")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"architecture": "weak", "vlp": {"feature_channels": 18, "embed_dim": 18}}, "model.vlp.feature_channels must"),
        ({"architecture": "weak", "vlp": {"text": {"prefix": -1}}}, "model.vlp.text.prefix must"),
        ({"architecture": "two-stage", "proposals": {"pyramid_dim": 6}}, "model.proposals.pyramid_dim must"),
        ({"architecture": "two-stage", "text": {"prefix": -1}}, "model.text.prefix must"),
        ({"architecture": "vlp", "feature_channels": 18, "embed_dim": 18}, "model.feature_channels must"),
    ],
)
def test_errors_name_the_whole_key_of_a_section(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        config_from_dict({"model": values}, ARCHITECTURES)
