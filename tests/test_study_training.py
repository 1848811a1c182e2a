"""The studies that train: data efficiency and the open set, on a tiny data set."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_data import CLASSES, small_config, write_data_set

from stale_edge.config import Config
from stale_edge.data import Action, Annotations, VideoAnnotation, open_data_set, read_video_list
from stale_edge.data.scores import VideoScore, read_scores
from stale_edge.decoding import decode
from stale_edge.errors import DataError
from stale_edge.evaluation import mean_average_precision
from stale_edge.report.formats import to_layout
from stale_edge.runtime.evaluate import EvaluationSettings
from stale_edge.study import FinishedRun, Run, StudyOptions, data_efficiency, open_set, run_study
from stale_edge.study.class_splits import published_split, random_split
from stale_edge.study.data_efficiency import PERCENTS, DataEfficiency
from stale_edge.study.open_set import OpenSet
from stale_edge.study.study_data import describe_features, is_simulated, open_world, restrict, training_config
from stale_edge.study.trials import TIOUS, enhance, run_trial, training_videos
from stale_edge.training import evaluate_checkpoint, train


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 24 videos and 4 classes with video-level scores, every fourth of them wrong."""
    root = write_data_set(tmp_path_factory.mktemp("study") / "data", n_videos=24)
    scores = {}
    for i, (video, entry) in enumerate(json.loads((root / "annotations.json").read_text())["database"].items()):
        label = entry["annotations"][0]["label"] if i % 4 else CLASSES[i % len(CLASSES)]
        scores[video] = {"class": label, "score": 0.9}
    (root / "scores.json").write_text(json.dumps(scores))
    return root


@dataclasses.dataclass(frozen=True)
class _AnnotationsOnly:
    """What `restrict` reads of a data set."""

    annotations: Annotations
    features: Any


def _silent(*_: object) -> None:
    pass


@pytest.fixture
def made_trials(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Config, Any]]:
    """Replace training by made figures; gives the settings and classes of every trial."""
    trials: list[tuple[Config, Any]] = []

    def made(_data_set: object, config: Config, *, classes: Any, **_: object) -> dict[str, Any]:
        trials.append((config, classes))
        n_videos = len(read_video_list(Path(config.videos)))
        figures = {"average_mAP": float(n_videos), "mAP": dict.fromkeys(TIOUS, n_videos / 2)}
        return {"plain": figures, "enhanced": figures, "training_free": None, "n_videos": n_videos}

    monkeypatch.setattr(data_efficiency, "run_trial", made)
    monkeypatch.setattr(open_set, "run_trial", made)
    return trials


def test_data_efficiency_from_plan_to_table(data: Path, tmp_path: Path, made_trials: list[Any]) -> None:
    options = StudyOptions(tmp_path, data=data, scale=0.1)
    summary = run_study(DataEfficiency(options), tmp_path)
    rows = summary.tables[0].rows
    assert [(row["percent"], row["enhancement"]) for row in rows] == [
        (percent, kind) for kind in ("without", "with") for percent in PERCENTS
    ]
    whole = next(row for row in rows if row["percent"] == 100 and row["enhancement"] == "with")
    assert (whole["published"], whole["action_former"]) == (19.4, 35.9)  # thesis, Table 2
    assert not any(row.get("published") for row in rows if row["percent"] != 100)
    assert "real features of data" in summary.tables[0].caption
    lists = sorted(path.name for path in (tmp_path / "subsets").iterdir())
    assert lists == [f"p{percent:03}-1.list" for percent in PERCENTS]
    trained = [(config.model.architecture, Path(config.videos).name, classes) for config, classes in made_trials]
    assert trained == [(name, part, None) for part in lists for name in ("paper", "actionformer")]
    epochs = {config.train.epochs for config, _ in made_trials}
    assert len(epochs) == 1
    assert whole["own_action_former"] == 16.0
    assert len(read_video_list(tmp_path / "subsets" / "p100-1.list")) == 16
    assert (tmp_path / "data-efficiency.png").exists()


def test_parts_and_repeats_may_be_chosen(data: Path, tmp_path: Path, made_trials: list[Any]) -> None:
    study = DataEfficiency(StudyOptions(tmp_path, data=data, repeats=2, videos=12), percents=(50, 100))
    run_study(study, tmp_path)
    assert sorted(path.stem for path in (tmp_path / "runs").iterdir()) == [
        "p050-1",
        "p050-1-actionformer",
        "p050-2",
        "p100-1",
        "p100-1-actionformer",
    ]
    n_videos = len(read_video_list(tmp_path / "subsets" / "p100-1.list"))
    assert 8 <= n_videos < 16  # about half of the 16, with every class
    assert len(made_trials) == 5
    for wrong in ((), (0,), (101,), (10, 10)):
        with pytest.raises(ValueError, match="different whole numbers from 1 to 100"):
            DataEfficiency(StudyOptions(tmp_path), percents=wrong)


def test_open_set_from_plan_to_tables(data: Path, tmp_path: Path, made_trials: list[Any]) -> None:
    options = StudyOptions(tmp_path, data=data, scale=0.1)
    summary = run_study(OpenSet(options), tmp_path)
    thesis, paper = summary.tables
    own = [row for row in thesis.rows if row["origin"] == "own"]
    assert [(row["split"], row["enhancement"], row["data"]) for row in own] == [
        (split, kind, part) for split in ("75/25", "50/50") for kind in ("with", "without") for part in ("all", "half")
    ]
    published = [row["average_mAP"] for row in thesis.rows if row["origin"] == "published"]
    assert published == [21.7, 21.7, 8.4, 8.5, 21.1, 21.0, 1.8, 2.0]  # thesis, Table 1
    stale = [row["average_mAP"] for row in paper.rows if row["method"] == "STALE"]
    assert stale == [24.9, 20.5]  # paper, Table 1
    with_scores = summary.plots[0].panels[0]
    assert [line.label for line in with_scores.lines] == [
        f"{origin}, {part} data" for origin in ("own", "published") for part in ("all", "half")
    ]
    assert (with_scores.lines[2].x, with_scores.lines[2].y) == ((50.0, 75.0), (21.1, 21.7))
    for percent, n_seen in ((75, 3), (50, 2)):
        seen = (tmp_path / "class_splits" / f"seen{percent}-split0-seen.list").read_text().split()
        unseen = (tmp_path / "class_splits" / f"seen{percent}-split0-unseen.list").read_text().split()
        assert (len(seen), sorted(seen + unseen)) == (n_seen, sorted(CLASSES))
        annotations = open_data_set(data).annotations
        for video in read_video_list(tmp_path / "subsets" / f"seen{percent}-split0-half1.list"):
            assert {action.label for action in annotations.videos[video].actions} & set(seen)
        trained = [t for t in made_trials if t[0].classes.endswith(f"seen{percent}-split0-seen.list")]
        assert [sorted(classes) for _, classes in trained] == [sorted(unseen)] * 3
        assert [t[0].model.architecture for t in trained] == ["paper", "paper", "two-stage"]
    effprompt = [row for row in paper.rows if row["method"].startswith("EffPrompt")]
    assert [row["origin"] for row in effprompt] == ["published", "own", "own"] * 2


def test_a_trial_measures_what_evaluate_measures(data: Path, tmp_path: Path) -> None:
    data_set, config = open_data_set(data), small_config(epochs=2, learning_rate=5e-3, validate_every=0)
    trial = run_trial(
        data_set, config, scores=data_set.scores, classes=None, scratch=tmp_path / "trial", progress=_silent
    )
    train(config, data, tmp_path / "run")
    for kind, scores in (("plain", None), ("enhanced", read_scores(data / "scores.json"))):
        report = evaluate_checkpoint(tmp_path / "run" / "last", data, settings=EvaluationSettings(scores=scores))
        assert trial[kind]["average_mAP"] == report.result.average_mAP
        assert [trial[kind]["mAP"][tiou] for tiou in TIOUS] == [report.result.mAP[i] for i in (0, 5, 9)]
    assert trial["plain"] != trial["enhanced"]
    assert trial["n_videos"] == 16


def test_an_interrupted_trial_goes_on(data: Path, tmp_path: Path) -> None:
    data_set, config = open_data_set(data), small_config(epochs=3, validate_every=0)
    options: dict[str, Any] = {"scores": {}, "classes": None}

    def stop(stage: str, done: int, total: int, _: str = "") -> None:
        if stage == "train" and done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trial(data_set, config, scratch=tmp_path / "a", progress=stop, **options)
    assert (tmp_path / "a" / "run" / "state.pt").exists()
    resumed = run_trial(data_set, config, scratch=tmp_path / "a", progress=_silent, **options)
    undisturbed = run_trial(data_set, config, scratch=tmp_path / "b", progress=_silent, **options)
    for result in (resumed, undisturbed):
        del result["training_seconds"]
    assert resumed == undisturbed
    assert resumed["enhanced"] is None


def test_enhanced_detections_are_those_of_decode() -> None:
    rng = np.random.default_rng(0)
    logits, masks = rng.normal(size=(4, 12)), rng.uniform(size=(12, 12))
    names = ("a", "b", "c")
    plain = {"v_one": decode(logits, masks, class_names=names, duration_s=10.0)}
    enhanced = {"v_one": decode(logits, masks, class_names=names, duration_s=10.0, video_label="b", video_score=0.3)}
    scores = {"one": VideoScore("b", 0.3), "two": VideoScore("z", 0.9)}
    assert enhance(to_layout(plain), scores, names=names) == to_layout(enhanced)
    assert enhance(to_layout(plain), {"v_one": VideoScore("z", 0.9)}, names=names) == to_layout(plain)
    truth = {"database": {"v_one": {"subset": "validation", "annotations": [{"label": "b", "segment": [1, 5]}]}}}
    assert mean_average_precision(truth, to_layout(enhanced)).average_mAP >= 0


def test_random_class_splits_are_disjoint_and_follow_the_seed() -> None:
    classes = [f"class {i}" for i in range(20)]
    splits = [random_split(classes, seen_percent=75, number=i, seed=0) for i in range(3)]
    for split in splits:
        assert (len(split.seen), len(split.unseen)) == (15, 5)
        assert sorted([*split.seen, *split.unseen]) == sorted(classes)
    assert len(set(splits)) == 3
    assert splits[1] == random_split(classes, seen_percent=75, number=1, seed=0)
    assert splits[1] != random_split(classes, seen_percent=75, number=1, seed=1)
    assert len(random_split(["a", "b"], seen_percent=75, number=0, seed=0).unseen) == 1
    with pytest.raises(ValueError, match="at least two"):
        random_split(["a"], seen_percent=75, number=0, seed=0)


def _write_lists(root: Path, folder: str, seen: str, unseen: str) -> None:
    for part, names in (("train", seen), ("test", unseen)):
        (root / folder / part).mkdir(parents=True)
        (root / folder / part / "split_0.list").write_text("\n".join(names))


@pytest.mark.parametrize("folder", ["75_25", "train_75_test_25/ActivityNet"])
def test_published_class_lists_are_found(tmp_path: Path, folder: str) -> None:
    _write_lists(tmp_path, folder, "abc", "d")
    split = published_split(tmp_path, seen_percent=75, number=0, known=["a", "d"])
    assert split == (("a", "b", "c"), ("d",))
    for wrong in ({"seen_percent": 50}, {"number": 1}, {"known": ["z"]}):
        with pytest.raises(DataError, match=r"no class split"):
            published_split(tmp_path, **{"seen_percent": 75, "number": 0, "known": ["a"], **wrong})


def test_published_lists_of_another_data_set_beside_them_are_passed_over(tmp_path: Path) -> None:
    _write_lists(tmp_path, "train_75_test_25/ActivityNet", "xyz", "w")
    _write_lists(tmp_path, "train_75_test_25/THUMOS14", "abc", "d")
    assert published_split(tmp_path, seen_percent=75, number=0, known=["a", "d"]).unseen == ("d",)
    _write_lists(tmp_path, "train_75_test_25/More", "abc", "c")
    with pytest.raises(DataError, match="also in the test list: c"):
        published_split(tmp_path, seen_percent=75, number=0, known=["a", "c"])


def test_the_real_published_lists_split_activitynet(shared_data: Path) -> None:
    root = shared_data / "splits" / "activitynet"
    known = [
        *(root / "75_25/train/split_3.list").read_text().splitlines(),
        *(root / "75_25/test/split_3.list").read_text().splitlines(),
    ]
    for percent, sizes in ((75, (150, 50)), (50, (100, 100))):
        for number in range(10):
            split = published_split(root, seen_percent=percent, number=number, known=known)
            assert (len(split.seen), len(split.unseen)) == sizes


def test_a_simulated_world_is_made_once_and_says_what_it_is(tmp_path: Path) -> None:
    options = StudyOptions(tmp_path, scale=0.01)
    world = open_world(options, _silent)
    assert len(world.annotations.videos) == 40
    assert is_simulated(world)
    assert describe_features(world) == "simulated features, invented annotations"
    before = (tmp_path / "data" / "annotations.json").stat().st_mtime_ns
    assert open_world(options, _silent).annotations == world.annotations
    assert (tmp_path / "data" / "annotations.json").stat().st_mtime_ns == before
    with pytest.raises(DataError, match="other data than --scale and --seed ask for"):
        open_world(StudyOptions(tmp_path, scale=0.01, seed=1), _silent)
    config = training_config(world, options)
    assert (config.train.epochs, config.model.embed_dim, config.train.validate_every) == (1, 128, 0)
    full = training_config(world, StudyOptions(tmp_path, full=True))
    changed = training_config(world, StudyOptions(tmp_path, scale=0.01, settings=("train.epochs=7",)))
    assert (changed.train.epochs, changed.model) == (7, config.model)
    assert (full.train.epochs, full.train.batch_size, full.train.learning_rate) == (15, 100, 1e-4)  # paper, section 4


def test_a_large_data_set_is_restricted_to_what_the_scale_carries() -> None:
    class Everything:
        def __contains__(self, video: str) -> bool:
            return video != "v001"

    videos = {
        f"v{i:03}": VideoAnnotation(10.0, "validation" if i % 4 == 0 else "training", (Action(f"c{i % 5}", 1, 2),))
        for i in range(400)
    }
    data_set: Any = _AnnotationsOnly(Annotations(videos), Everything())
    small = restrict(data_set, 40, seed=0)
    assert len(small.annotations.videos) == pytest.approx(40, abs=10)
    for subset in ("training", "validation"):
        shown = {a.label for v in small.annotations.in_subset(subset) for a in small.annotations.videos[v].actions}
        assert shown == {f"c{i}" for i in range(5)}
    assert "v001" not in small.annotations.videos
    assert restrict(data_set, 399, seed=0) is data_set


def test_without_scores_enhancement_is_left_out_and_said(tmp_path: Path) -> None:
    data = write_data_set(tmp_path / "data")
    with pytest.raises(DataError, match="no training video has features and an action of the classes"):
        training_videos(open_data_set(data), ["no such class"])
    study = DataEfficiency(StudyOptions(tmp_path / "out", data=data, scale=0.1))
    runs = study.plan(_silent)
    assert len(training_videos(open_data_set(data))) == 8
    figures = {"average_mAP": 10.0, "mAP": dict.fromkeys(TIOUS, 10.0)}
    finished = [FinishedRun(run, {"plain": figures, "enhanced": None, "n_videos": 3}, 1.0) for run in runs]
    summary = study.summarise(finished)
    assert {row["enhancement"] for row in summary.tables[0].rows} == {"without"}
    assert any("score enhancement was not measured" in note for note in summary.notes)
    assert isinstance(runs[0], Run)
