"""Video-level scores: files from elsewhere, and our own classifier, trained on whole videos."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from training_data import CLASSES, write_data_set

from stale_edge.config import VideoClassifierConfig
from stale_edge.data import VideoScore, open_data_set, read_score_array, read_scores, write_scores
from stale_edge.data.scores import accuracy, read_columns
from stale_edge.errors import CheckpointError, ConfigError, DataError, FeatureContractError
from stale_edge.training.video_classifier import (
    VideoClassifier,
    read_video_classifier,
    score_videos,
    train_video_classifier,
    training_list,
    write_video_classifier,
)

SMALL = VideoClassifierConfig(hidden_dim=16, epochs=30, batch_size=4, n_snippets=12, learning_rate=1e-2)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data_set(tmp_path_factory.mktemp("scores") / "data", n_videos=48)


@torch.no_grad()
def test_attention_pooling_is_the_weighted_mean_of_snippet_scores() -> None:
    torch.manual_seed(0)
    model = VideoClassifier(n_channels=5, n_classes=3, hidden_dim=4, dropout=0.5).eval()
    model.mean.copy_(torch.arange(5.0))
    model.scale.fill_(2.0)
    features = torch.randn(2, 7, 5)
    expected = torch.zeros(2, 3)
    for b in range(2):
        hidden = [torch.relu(model.hidden[0]((snippet - model.mean) / 2)) for snippet in features[b]]
        weights = torch.tensor([float(model.attention(h)) for h in hidden]).exp()
        for weight, h in zip(weights / weights.sum(), hidden, strict=True):
            expected[b] += weight * model.classes(h)
    torch.testing.assert_close(model(features), expected)


def test_the_classifier_learns_from_whole_videos_and_survives_its_file(data: Path, tmp_path: Path) -> None:
    data_set = open_data_set(data)
    calls: list[tuple[Any, ...]] = []
    trained = train_video_classifier(data_set, config=SMALL, progress=lambda *call: calls.append(call))
    videos = data_set.videos("validation")
    scores = score_videos(trained, data_set, videos)
    labels = {video: [action.label for action in data_set.annotations.videos[video].actions] for video in videos}
    right = accuracy(scores, labels)
    assert right is not None
    assert right > 75  # of four classes, chance is at most two in four
    assert {score.label for score in scores.values()} <= set(CLASSES)
    assert all(0 < score.score <= 1 for score in scores.values())
    assert calls[-1][:3] == ("train scores", 30 * 32, 30 * 32)
    write_video_classifier(tmp_path / "new" / "c.safetensors", trained)
    assert score_videos(read_video_classifier(tmp_path / "new" / "c.safetensors"), data_set, videos) == scores
    again = train_video_classifier(data_set, config=SMALL, videos=training_list(data_set))
    assert score_videos(again, data_set, videos) == scores


def test_features_and_lists_that_do_not_fit_are_refused(data: Path, tmp_path: Path) -> None:
    data_set = open_data_set(data)
    trained = train_video_classifier(data_set, config=VideoClassifierConfig(hidden_dim=4, epochs=1, n_snippets=4))
    wide = tmp_path / "wide"
    (wide / "features").mkdir(parents=True)
    np.save(wide / "features" / "a.npy", np.ones((3, 7), dtype=np.float32))
    annotations = {"a": {"duration": 3.0, "subset": "testing", "annotations": []}}
    (wide / "annotations.json").write_text(json.dumps({"database": annotations}))
    with pytest.raises(FeatureContractError, match="16"):
        score_videos(trained, open_data_set(wide), ["a"])
    with pytest.raises(DataError, match="no subset to train on; there are: testing"):
        training_list(open_data_set(wide))
    with pytest.raises(DataError, match="none of 1 training videos has features and an action"):
        train_video_classifier(open_data_set(wide), config=SMALL, videos=["a"])
    with pytest.raises(DataError, match=r"1 videos to train on are not annotated \(first: z\)"):
        train_video_classifier(data_set, config=SMALL, videos=["z"])
    assert score_videos(trained, data_set, ["no features"]) == {}


@pytest.mark.parametrize("setting", [{"epochs": 0}, {"dropout": 1.0}, {"learning_rate": 0.0}, {"weight_decay": -1.0}])
def test_settings_out_of_range_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"scores.{next(iter(setting))} must be"):
        VideoClassifierConfig(**setting)


def test_a_file_that_is_no_classifier_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        read_video_classifier(tmp_path / "missing.safetensors")
    path = tmp_path / "c.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="must be a stale-edge-video-classifier/1"):
        read_video_classifier(path)
    trained = train_video_classifier(
        open_data_set(data), config=VideoClassifierConfig(hidden_dim=4, epochs=1, n_snippets=4)
    )
    write_video_classifier(path, trained)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        read_video_classifier(path)
    save_file({"a": torch.zeros(1)}, path, metadata={"format": "stale-edge-video-classifier/1"})
    with pytest.raises(CheckpointError, match="parts are missing"):
        read_video_classifier(path)


def test_scores_survive_their_file(tmp_path: Path) -> None:
    scores = {"v_a": VideoScore("long jump", 0.25), "ż": VideoScore("Ćwiczenia", 1.0)}
    write_scores(tmp_path / "scores.json", scores)
    assert read_scores(tmp_path / "scores.json") == scores


def test_untrimmednets_array_becomes_scores(tmp_path: Path) -> None:
    array = np.array([[0.2, 1.0, 0.8], [1.5, 0.4, 0.1], [0.0, 0.5, 0.5]], dtype=np.float32)
    np.save(tmp_path / "scores.npy", array)
    found = read_score_array(tmp_path / "scores.npy", {0: "a", 2: "c"}, video_name="test_{:02d}")
    assert {video: (score.label, round(score.score, 6)) for video, score in found.items()} == {
        "test_01": ("c", 0.4), "test_02": ("a", 0.75), "test_03": ("c", 0.5)
    }  # fmt: skip


def _array(value: Any) -> Callable[[Path], None]:
    return lambda path: np.save(path, np.asarray(value))


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path: path.write_text("no array"), "not a readable NumPy array"),
        (lambda path: np.save(path, np.array([{}]), allow_pickle=True), "not a readable NumPy array"),
        (_array([1.0, 2.0]), r"must hold a floating array \(videos, columns\); got float64 \(2,\)"),
        (_array([[1, 2], [3, 4]]), "got int64"),
        (_array([[1.0], [2.0]]), "has 1 columns; there is no column 2"),
        (_array([[1.0, 1.0], [np.nan, 1.0]]), "row 2 must hold finite numbers"),
        (_array([[1.0, -1.0]]), "row 1 must hold"),
        (_array([[0.0, 0.0]]), "row 1 must hold"),
    ],
)
def test_a_file_that_is_no_score_array_is_refused(tmp_path: Path, write: Callable[[Path], None], words: str) -> None:
    write(tmp_path / "scores.npy")
    with pytest.raises(DataError, match=words):
        read_score_array(tmp_path / "scores.npy", {0: "a", 1: "b"}, video_name="{}")


def test_columns_are_named_in_order_or_by_number(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text("100 m\nlong jump\n")
    assert read_columns(path) == {0: "100 m", 1: "long jump"}
    path.write_text("7 BaseballPitch\n9 BasketballDunk\n")
    assert read_columns(path) == {6: "BaseballPitch", 8: "BasketballDunk"}
    path.write_text("7 BaseballPitch\n7 BasketballDunk\n")
    with pytest.raises(DataError, match="stands twice"):
        read_columns(path)


def test_untrimmednet_names_the_real_thumos_videos(shared_data: Path) -> None:
    root = Path(__file__).resolve().parent.parent / "bench" / "thumos14_classes.txt"
    columns = read_columns(root)
    scores = read_score_array(
        shared_data / "thumos14" / "untrimmednet_test_scores.npy", columns, video_name="video_test_{:07d}"
    )
    truth = json.loads((shared_data / "thumos14" / "thumos_gt.json").read_text())["database"]
    labels = {
        video: [action["label"] for action in entry["annotations"]]
        for video, entry in truth.items()
        if entry["subset"] == "test"
    }
    right = accuracy(scores, labels)
    assert right is not None
    assert right > 80  # with columns or rows off by one it is near 5


def test_the_commands_make_scores_that_evaluate_takes(run: Any, data: Path, tmp_path: Path) -> None:
    code, out, _ = run("scores", "train", "--data", data, "--out", tmp_path / "s", "--epochs", 2, "--json", "-")
    assert code == 0
    result = json.loads(out)
    assert (result["n_training_videos"], result["n_scored_videos"], result["n_classes"]) == (32, 16, 4)
    classifier = tmp_path / "s" / "classifier.safetensors"
    code, _, _ = run("scores", "predict", classifier, "--data", data, "--out", tmp_path / "all.json")
    assert code == 0
    everything = read_scores(tmp_path / "all.json")
    assert len(everything) == 48
    assert {v: everything[v] for v in read_scores(tmp_path / "s" / "scores.json")} == read_scores(
        tmp_path / "s" / "scores.json"
    )
    np.save(tmp_path / "u.npy", np.array([[0.5, 0.5]]))
    (tmp_path / "classes.txt").write_text("a\nb\n")
    convert = ("scores", "convert", tmp_path / "u.npy", "--classes", tmp_path / "classes.txt")
    assert run(*convert, "--out", tmp_path / "u.json")[0] == 0
    assert read_scores(tmp_path / "u.json") == {"video_test_0000001": VideoScore("a", 0.5)}
    assert run(*convert, "--out", tmp_path / "u.json", "--names", "same")[0] == 2
