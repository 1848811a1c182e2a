"""`train` with ActionFormer, on a tiny data set: crops, average, schedule, resume, and what a checkpoint holds."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Run
from training_data import CHANNELS, CLASSES, write_data_set
from typer.testing import CliRunner

from stale_edge.cli.app import app
from stale_edge.config import Config, FeatureSpec, PointsConfig, config_from_dict
from stale_edge.data import (
    Action,
    Annotations,
    VideoAnnotation,
    as_one_class,
    open_data_set,
    read_class_scores,
    write_feature_spec,
)
from stale_edge.errors import ConfigError, DataError, TrainingError
from stale_edge.exporting import export_checkpoint
from stale_edge.model import read_checkpoint
from stale_edge.model.actionformer import ActionFormer
from stale_edge.model.architectures import ARCHITECTURES, build_objective
from stale_edge.model.pyramid.crops import VideoSegments
from stale_edge.runtime.contract import time_grid
from stale_edge.runtime.evaluate import EvaluationSettings, evaluate_bundle
from stale_edge.runtime.fusion import Fusion
from stale_edge.training import evaluate_checkpoint, train
from stale_edge.training.cropping import CroppedDataset
from stale_edge.training.run_folder import read_state_file
from stale_edge.training.torch_localizer import feature_contract


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set that states the times of its snippets: one every 1.5 s, each of 1 s."""
    root = write_data_set(tmp_path_factory.mktemp("points"))
    write_feature_spec(
        root / "feature_spec.json", FeatureSpec(encoder="test", channels=CHANNELS, fps=10.0, stride=15, num_frames=10)
    )
    return root


def small_config(**train: Any) -> Config:
    """An ActionFormer of three levels that trains in milliseconds a step."""
    values = {
        "model": {
            "architecture": "actionformer", "feature_channels": CHANNELS, "pyramid_dim": 16, "neck_dim": 16,
            "head_dim": 16, "n_heads": 2, "n_stem_blocks": 1, "windows": [5, 5, -1],
            "ranges": [[0, 4], [4, 8], [8, 10000]], "max_length": 24,
        },
        "train": {
            "epochs": 3, "warmup_epochs": 1, "batch_size": 3, "learning_rate": 5e-3, "average_decay": 0.9,
            "device": "cpu", **train,
        },
    }  # fmt: skip
    return config_from_dict(values, ARCHITECTURES)


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    train(small_config(), data, run)
    return run


def test_it_learns_and_the_average_is_what_is_saved(data: Path, tmp_path: Path) -> None:
    result = train(small_config(epochs=40, warmup_epochs=2), data, tmp_path / "run")
    assert result.average_mAP is not None
    assert result.records[-1]["loss"] < 0.5 * result.records[0]["loss"]
    first = result.records[0]["average_mAP"]
    assert result.average_mAP > max(first + 10, 20)
    checkpoint = read_checkpoint(result.last)
    state = read_state_file(tmp_path / "run" / "state.pt").weights
    for name, tensor in checkpoint.model.state_dict().items():
        torch.testing.assert_close(tensor, state[f"average.module.{name}"], atol=0, rtol=0)
    name = "class_head.rows.linear.weight"
    assert not torch.equal(state[f"detector.{name}"], state[f"average.module.{name}"])


def test_a_checkpoint_holds_what_follows_from_the_data(undisturbed: Path) -> None:
    checkpoint = read_checkpoint(undisturbed / "last")
    assert isinstance(checkpoint.model, ActionFormer)
    assert checkpoint.config.model.n_classes == len(CLASSES)
    assert isinstance(checkpoint.config.decode, PointsConfig)
    assert checkpoint.config.decode.n_levels == 3
    assert checkpoint.class_bank.space == "rows"
    assert checkpoint.class_bank.names == CLASSES
    torch.testing.assert_close(
        torch.from_numpy(checkpoint.class_bank.embeddings.copy()), checkpoint.model.class_bank().detach()
    )
    assert checkpoint.text_encoder is None


def test_the_learning_rate_follows_the_schedule(undisturbed: Path) -> None:
    rates = [json.loads(line)["learning_rate"] for line in (undisturbed / "metrics.jsonl").read_text().splitlines()]
    assert rates[0] == pytest.approx(5e-3)  # the last step of the warm-up
    assert rates[0] > rates[1] > rates[2] > 0


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_killed_run_resumes_to_the_same_weights(data: Path, undisturbed: Path, tmp_path: Path, epoch: int) -> None:
    class Kill(BaseException):
        pass

    def kill(stage: str, _done: int, _total: int, note: str = "") -> None:
        if stage == "train" and note.startswith(f"epoch {epoch + 1}/"):
            raise Kill

    with pytest.raises(Kill):
        train(small_config(), data, tmp_path / "run", progress=kill)
    train(small_config(), data, tmp_path / "run", resume=True)
    found, expected = (read_state_file(run / "state.pt") for run in (tmp_path / "run", undisturbed))
    assert found.weights.keys() == expected.weights.keys()
    assert "objective.normalizer" in found.weights
    for name, tensor in expected.weights.items():
        torch.testing.assert_close(found.weights[name], tensor, atol=0, rtol=0, msg=name)


def test_a_cosine_is_not_lengthened(data: Path, tmp_path: Path) -> None:
    train(small_config(epochs=2), data, tmp_path / "run")
    with pytest.raises(TrainingError, match="epochs of the cosine was 2, is 3"):
        train(small_config(epochs=3), data, tmp_path / "run", resume=True)


def test_every_epoch_crops_anew_and_the_same_again(data: Path) -> None:
    config = small_config()
    data_set = open_data_set(data)
    config = ARCHITECTURES["actionformer"].complete(config, len(CLASSES))
    contract = feature_contract(config, data_set.feature_spec)
    objective = build_objective(config.model, config.loss)
    dataset = CroppedDataset(
        data_set,
        data_set.videos("training"),
        channels=CHANNELS,
        make_targets=lambda _, video, n_snippets: objective.targets(
            video.actions,
            vocabulary=CLASSES,
            grid=time_grid(contract, duration_s=video.duration_s),
            n_snippets=n_snippets,
        ),
        objective=objective,
        seed=0,
    )
    lengths = []
    for epoch in (1, 2, 1):
        dataset.epoch = epoch
        items = [dataset[i] for i in range(len(dataset))]
        for item in items:
            assert isinstance(item.targets, VideoSegments)
            assert len(item.features) == item.targets.n_snippets <= 24
            assert item.targets.margin == pytest.approx(10 / 15 / 2)
        lengths.append([len(item.features) for item in items])
    assert lengths[0] == lengths[2] != lengths[1]


def test_a_checkpoint_is_evaluated_by_the_command(data: Path, undisturbed: Path, run: Run) -> None:
    code, printed, error = run("evaluate", undisturbed / "last", "--data", data, "--json", "-")
    assert code == 0, error
    report = json.loads(printed)
    assert report["average_mAP"] == evaluate_checkpoint(undisturbed / "last", data).result.average_mAP
    assert set(report["per_class"]) == set(CLASSES)


def test_the_command_trains_it_by_name(data: Path, tmp_path: Path, run: Run) -> None:
    config = tmp_path / "small.toml"
    config.write_text(
        "[model]\nfeature_channels = 16\npyramid_dim = 16\nneck_dim = 16\nhead_dim = 16\nn_heads = 2\n"
        "windows = [5]\nranges = [[0, 10000]]\nmax_length = 24\n[train]\nepochs = 1\nwarmup_epochs = 0\n"
    )
    code, _, error = run("train", config, "--arch", "actionformer", "--data", data, "--out", tmp_path / "run")
    assert code == 0, error
    checkpoint = read_checkpoint(tmp_path / "run" / "last")
    assert isinstance(checkpoint.model, ActionFormer)
    assert checkpoint.config.train.weight_decay == 0.05  # a default of ActionFormer's
    code, _, error = run("train", "--arch", "actionformr", "--data", data, "--out", tmp_path / "other")
    assert code == 1
    assert "model.architecture must be one of paper, release," in error
    assert "'actionformr'" in error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_classes": 3}, "model.n_classes must be 4, the number of classes to train on"),
        ({"feature_channels": 17}, "model.feature_channels=16"),
    ],
)
def test_settings_that_do_not_fit_the_data_are_refused(
    data: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    config = small_config()
    with pytest.raises(ConfigError, match=message):
        train(replace(config, model=replace(config.model, **change)), data, tmp_path / "run")


def test_a_warm_up_as_long_as_the_run_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train\.warmup_epochs must be an integer >= 0 and less than"):
        small_config(warmup_epochs=3)


def one_class_config(**train: Any) -> Config:
    config = small_config(**train)
    return replace(config, model=replace(config.model, n_classes=1))


@pytest.fixture(scope="module")
def unnamed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a network that finds actions without naming them."""
    run = tmp_path_factory.mktemp("unnamed") / "run"
    return train(one_class_config(epochs=40, warmup_epochs=2), data, run).last


def scores_of(data: Path, **changes: float) -> dict[str, dict[str, float]]:
    """Score every class of every video: 0.9 for those that it shows, 0.1 for others."""
    scores = {}
    for video, entry in open_data_set(data).annotations.videos.items():
        shown = {action.label for action in entry.actions}
        scores[video] = {name: 0.9 if name in shown else 0.1 for name in CLASSES} | changes
    return scores


def test_one_class_finds_actions_of_every_class(unnamed: Path, data: Path) -> None:
    checkpoint = read_checkpoint(unnamed)
    assert checkpoint.vocabulary == ("action",)
    report = evaluate_checkpoint(unnamed, data)
    assert report.one_class
    assert report.unknown_classes == ()
    assert report.result.average_mAP > 20


def test_other_classes_of_a_split_are_not_trained_on(data: Path, tmp_path: Path) -> None:
    (tmp_path / "seen.list").write_text("\n".join(CLASSES[:2]) + "\n")
    config = replace(one_class_config(epochs=2), classes=str(tmp_path / "seen.list"))
    kept = train(config, data, tmp_path / "run").records[-1]["videos"]
    videos = open_data_set(data).annotations.videos.values()
    shows = [{action.label for action in v.actions} for v in videos if v.subset == "training"]
    assert kept == sum(not labels or bool(labels & set(CLASSES[:2])) for labels in shows)


def test_video_scores_name_what_one_class_found(unnamed: Path, data: Path, tmp_path: Path) -> None:
    scores = scores_of(data)
    settings = EvaluationSettings(class_scores=scores)
    right = evaluate_checkpoint(unnamed, data, settings=settings)
    assert not right.one_class
    assert right.result.average_mAP > 20
    swapped = {video: dict(zip(entry, reversed(entry.values()), strict=True)) for video, entry in scores.items()}
    wrong = evaluate_checkpoint(unnamed, data, settings=EvaluationSettings(class_scores=swapped))
    assert wrong.result.average_mAP < right.result.average_mAP

    export_checkpoint(unnamed, tmp_path / "bundle", formats=("onnx",), precisions=("fp32",))
    (tmp_path / "scores.json").write_text(json.dumps(scores))
    evaluated = evaluate_bundle(
        tmp_path / "bundle", data, settings=EvaluationSettings(class_scores=read_class_scores(tmp_path / "scores.json"))
    )
    assert evaluated.result.average_mAP == pytest.approx(right.result.average_mAP, abs=0.05)
    video = open_data_set(data).videos("validation")[0]
    arguments = ["detect", str(tmp_path / "bundle"), str(data / "features" / f"{video}.npy"), "--duration", "30"]
    result = CliRunner().invoke(app, [*arguments, "--class-scores", str(tmp_path / "scores.json")])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["results"][video]
    assert len({row["label"] for row in found}) == 2  # the two best classes of the video
    assert {row["label"] for row in found} <= set(CLASSES)


def test_scores_that_cannot_be_fused_are_refused(unnamed: Path, undisturbed: Path, data: Path, tmp_path: Path) -> None:
    def evaluated(checkpoint: Path, scores: dict[str, dict[str, float]]) -> None:
        evaluate_checkpoint(checkpoint, data, settings=EvaluationSettings(class_scores=scores))

    with pytest.raises(DataError, match="scores of unknown classes: knitting"):
        evaluated(unnamed, scores_of(data, knitting=0.5))
    with pytest.raises(DataError, match="must have one class; this one names"):
        evaluated(undisturbed / "last", scores_of(data))
    with pytest.raises(DataError, match="there are no class scores of video"):
        evaluated(unnamed, dict(list(scores_of(data).items())[:1]))
    with pytest.raises(DataError, match="scores of too few classes"):
        Fusion({"a": {"run": 0.1, "jump": 0.2}, "b": {"run": 0.1}}, names=("action",))
    path = tmp_path / "scores.json"
    for text, message in (("[]", "must hold an object"), ('{"v": {"run": -1}}', "a finite number >= 0")):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            read_class_scores(path)


def test_a_class_called_action_is_not_mixed_up() -> None:
    annotations = Annotations({"v": VideoAnnotation(9.0, "training", (Action("action", 1, 2), Action("run", 3, 4)))})
    with pytest.raises(DataError, match="rename that class"):
        as_one_class(annotations, ["run"])
