"""Data set folders: opening them, and the check that lists everything wrong with one."""

import json
from pathlib import Path

import numpy as np
import pytest

from stale_edge.config import FeatureSpec
from stale_edge.data import (
    Problem,
    VideoScore,
    check,
    open_data_set,
    read_feature_spec,
    read_public_layout,
    read_scores,
    write_feature_spec,
)
from stale_edge.data.check import check_data_set
from stale_edge.errors import DataError, FeatureContractError


def video(subset: str, *rows, duration: float = 20.0):
    return {
        "duration": duration,
        "subset": subset,
        "annotations": [{"segment": [s, e], "label": label} for label, s, e in rows],
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set without a fault: three videos, two classes, a split, scores, a feature spec with a foreign key."""
    database = {
        "v_1": video("training", ("Diving", 1, 5), ("Diving", 7, 9)),
        "v_2": video("validation", ("BMX", 0, 20.05)),
        "v_3": video("testing"),
    }
    (tmp_path / "features").mkdir()
    (tmp_path / "splits").mkdir()
    (tmp_path / "annotations.json").write_text(json.dumps({"version": "1.3", "taxonomy": [], "database": database}))
    for i, name in enumerate(database):
        np.save(tmp_path / "features" / f"{name}.npy", np.full((6 + i, 4), i, np.float16))
    (tmp_path / "splits" / "train.list").write_text("Diving\n")
    (tmp_path / "splits" / "test.list").write_text("BMX\n")
    (tmp_path / "scores.json").write_text(json.dumps({"v_2": {"class": "BMX", "score": 0.9}}))
    spec = FeatureSpec(encoder="small", channels=4, fps=1.0, stride=3)
    write_feature_spec(tmp_path / "feature_spec.json", spec, extra={"simulation": {"seed": 3}})
    return tmp_path


def edit(root: Path, change) -> None:
    path = root / "annotations.json"
    document = json.loads(path.read_text())
    change(document["database"])
    path.write_text(json.dumps(document))


def test_open_data_set(root: Path) -> None:
    data_set = open_data_set(root)
    assert data_set.class_names == ("BMX", "Diving")
    assert data_set.videos() == ("v_1", "v_2", "v_3")
    assert data_set.videos("validation") == ("v_2",)
    assert data_set.feature_spec == FeatureSpec(encoder="small", channels=4, fps=1.0, stride=3)
    assert data_set.scores == {"v_2": VideoScore("BMX", 0.9)}
    assert data_set.splits == ("test.list", "train.list")
    assert data_set.split("train.list") == ("Diving",)
    features = data_set.load("v_2")
    assert features.dtype == np.float32
    assert np.array_equal(features, np.ones((7, 4)))
    with pytest.raises(ValueError, match="no video is in subset 'train'; there are: testing, training, validation"):
        data_set.videos("train")


def test_optional_parts_may_be_missing(root: Path) -> None:
    for part in ("scores.json", "feature_spec.json", "splits/train.list", "splits/test.list"):
        (root / part).unlink()
    data_set = open_data_set(root)
    assert data_set.scores == {}
    assert data_set.splits == ()
    assert data_set.feature_spec == FeatureSpec(channels=4)
    assert check(root) == []


def test_missing_parts_are_named_together(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not a data set folder, missing: annotations\.json, features/; it needs"):
        open_data_set(tmp_path)
    with pytest.raises(DataError, match="no such data set folder"):
        open_data_set(tmp_path / "none")
    with pytest.raises(DataError, match="no such data set folder"):
        check(tmp_path / "none")


def test_features_must_have_the_width_of_the_spec(root: Path) -> None:
    np.save(root / "features" / "v_1.npy", np.zeros((5, 3), np.float32))
    with pytest.raises(FeatureContractError, match=r"v_1\.npy: features must have C = 4 channels; got shape \(5, 3\)"):
        open_data_set(root).load("v_1")


def test_feature_spec_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "feature_spec.json"
    spec = FeatureSpec(encoder="CLIP ViT-B/32", channels=512, fps=19.62, stride=1)
    write_feature_spec(path, spec, extra={"simulation": {"seed": 1}})
    assert read_feature_spec(path) == spec
    assert json.loads(path.read_text())["simulation"] == {"seed": 1}
    with pytest.raises(ValueError, match="must not be named like fields of the feature spec; got fps"):
        write_feature_spec(path, spec, extra={"fps": 3})
    for text, message in (
        ("[]", "must hold an object"),
        ("{}", '"channels", the width C of the features, is missing'),
        ('{"channels": 0}', "channels must be an integer >= 1; got 0"),
        ('{"channels": "4"}', "channels must be of type int; got '4'"),
    ):
        path.write_text(text)
        with pytest.raises(DataError) as caught:
            read_feature_spec(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert message in str(caught.value)


def test_scores_are_found_with_and_without_the_prefix(root: Path) -> None:
    (root / "scores.json").write_text(
        json.dumps({"2": {"class": "BMX", "score": 1}, "x": {"class": "BMX", "score": 0}})
    )
    assert open_data_set(root).scores == {"v_2": VideoScore("BMX", 1.0), "x": VideoScore("BMX", 0.0)}
    for entry in ({"class": "BMX"}, {"class": 3, "score": 0.5}, {"class": "BMX", "score": 1.5}, "BMX"):
        (root / "scores.json").write_text(json.dumps({"v_2": entry}))
        with pytest.raises(DataError, match="video 'v_2': must be"):
            read_scores(root / "scores.json")


# --- the public layout ---


@pytest.fixture
def public(tmp_path: Path) -> Path:
    """The tree of the public repository, features named with and without `v_`."""
    folder = tmp_path / "data" / "activitynet_annotations"
    folder.mkdir(parents=True)
    (tmp_path / "features").mkdir()
    videos = {
        name: {"duration_second": 10.0, "annotations": [{"segment": [1, 4], "label": "BMX"}]} for name in ("v_1", "v_2")
    }
    (folder / "anet_anno_action.json").write_text(json.dumps(videos))
    (folder / "video_info_new.csv").write_text("video,subset\nv_1,training\nv_2,validation\n")
    (tmp_path / "stale_best_score.json").write_text(json.dumps({"v_2": {"class": "BMX", "score": 0.5}}))
    np.save(tmp_path / "features" / "v_1.npy", np.zeros((6, 4), np.float32))
    np.save(tmp_path / "features" / "2.npy", np.ones((6, 4), np.float32))
    return tmp_path


def test_public_layout(public: Path) -> None:
    for data_set in (open_data_set(public), read_public_layout(public, features=public / "features")):
        assert data_set.videos("validation") == ("v_2",)
        assert data_set.feature_spec.channels == 4
        assert data_set.scores == {"v_2": VideoScore("BMX", 0.5)}
        assert data_set.load("v_2").mean() == 1.0
    assert check(public) == []
    with pytest.raises(DataError, match=r"anet_anno_action\.json is missing"):
        read_public_layout(public / "features")


def test_public_layout_of_the_real_files(shared_data: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "v_GGSY1Qvo990.npy", np.zeros((5, 8), np.float32))
    data_set = read_public_layout(shared_data / "activitynet", features=tmp_path)
    assert len(data_set.videos("validation")) == 4728
    assert len(data_set.scores) == 4926
    assert set(data_set.videos("validation")) <= set(data_set.scores)
    assert data_set.load("GGSY1Qvo990").shape == (5, 8)


def test_check_lists_what_is_wrong_with_the_real_files(shared_data: Path) -> None:
    reasons = [problem.reason for problem in check(shared_data / "activitynet")]
    assert sum("the segment has zero length" in reason for reason in reasons) == 12
    assert sum("is outside the video" in reason for reason in reasons) == 3
    assert sum("scored but not annotated" in reason for reason in reasons) == 198
    assert sum("duplicate" in reason for reason in reasons) == 23
    assert len(reasons) == 12 + 3 + 198 + 23 + 1  # and there is no features folder


# --- check ---


def test_a_data_set_without_fault_has_no_problem(root: Path) -> None:
    seen = []
    assert check(root, progress=lambda _stage, done, total: seen.append((done, total))) == []
    assert seen == [(1, 3), (2, 3), (3, 3)]


def _save(name: str, array: np.ndarray):
    return lambda root: np.save(root / "features" / name, array)


def _annotate(**changes):
    return lambda root: edit(root, lambda database: database["v_1"].update(changes))


def _rows(*rows):
    return _annotate(annotations=[{"segment": [s, e], "label": label} for label, s, e in rows])


D = ("Diving", 1, 5)
NAN = np.array([[0, 1, 2, np.nan]], np.float32)
BROKEN = [
    (lambda root: (root / "features" / "v_1.npy").unlink(), "features/v_1.npy", "missing feature of video 'v_1'"),
    (lambda root: (root / "features" / "v_1.npy").write_bytes(b"x"), "features/v_1.npy", "not a readable feature file"),
    (_save("v_1.npy", NAN), "features/v_1.npy", "must be finite; got nan at snippet 0, channel 3"),
    (_save("v_1.npy", np.zeros((5, 3), np.float32)), "features/v_1.npy", "wrong width: C = 3 channels, not 4"),
    (_save("v_1.npy", np.zeros((0, 4), np.float32)), "features/v_1.npy", "features are empty"),
    (_save("v_1.npy", np.zeros((5, 4), np.int32)), "features/v_1.npy", "must be float32 or float16; got int32"),
    (_save("v_1.npy", np.zeros(4, np.float32)), "features/v_1.npy", "must be an array of shape (T, C)"),
    (_save("v_9.npy", np.zeros((5, 4), np.float32)), "features/v_9.npy", "feature without annotation: video 'v_9'"),
    (_save("1.npy", np.zeros((5, 4), np.float32)), "features/1.npy", "duplicate: the same video has features as 'v_1'"),
    (
        lambda root: np.savez(root / "features" / "v_1.npz", np.zeros((5, 4), np.float32)),
        "features/v_1.npy",
        "duplicate: several files hold features of video 'v_1': v_1.npy, v_1.npz",
    ),
    (_rows(D, ("Diving", 9, 7)), "annotations.json", "video 'v_1', annotation 1 (Diving): the segment is reversed"),
    (_rows(D, ("Diving", 9, 25)), "annotations.json", "[9, 25] s is outside the video, which lasts 20 s"),
    (_rows(D, ("Diving", -1, 5)), "annotations.json", "[-1, 5] s is outside the video"),
    (_rows(D, ("Diving", 9, 9)), "annotations.json", "the segment has zero length at 9 s"),
    (_rows(D, ("Diving", 9, float("inf"))), "annotations.json", "start and end must be finite numbers of seconds"),
    (_rows(D, ("Dving", 9, 12)), "annotations.json", "video 'v_1': unknown label 'Dving'; it is not in any class list"),
    (_rows(D, D), "annotations.json", "duplicate: Diving [1, 5] s stands 2 times"),
    (_rows(D, ("Diving ", 9, 12)), "annotations.json", "the label has spaces at an end: 'Diving '"),
    (_rows(D, (None, 9, 12)), "annotations.json", "the label must be a class name; got None"),
    (_annotate(annotations=[]), "annotations.json", "video 'v_1': empty video: no action is annotated"),
    (lambda root: edit(root, lambda database: database.clear()), "annotations.json", "no video is annotated"),
    (_annotate(duration=0), "annotations.json", "video 'v_1': empty video: the duration must be"),
    (_annotate(subset="trainig"), "annotations.json", "video 'v_1': unknown subset 'trainig'"),
    (_annotate(subset=None), "annotations.json", "video 'v_1': the subset must be a name"),
    (
        lambda root: edit(root, lambda database: database.update({"1": database["v_1"]})),
        "annotations.json",
        "video '1': duplicate: the same video stands as 'v_1' too",
    ),
    (
        lambda root: (root / "annotations.json").write_text('{"database": {"v_1": {}, "v_1": {}}}'),
        "annotations.json",
        "duplicate: the key 'v_1' stands more than once",
    ),
    (lambda root: (root / "annotations.json").write_text("{"), "annotations.json", "not a readable JSON file"),
    (lambda root: (root / "annotations.json").unlink(), "annotations.json", "no such file"),
    (lambda root: (root / "splits" / "a.list").write_text("Tai chi"), "splits/a.list", "unknown labels: no video"),
    (lambda root: (root / "splits" / "a.list").write_text("BMX\nBMX"), "splits/a.list", "duplicate class names: BMX"),
    (
        lambda root: (root / "scores.json").write_text('{"v_1": {"class": "Tai chi", "score": 1}, "v_2": {}}'),
        "scores.json",
        "video 'v_1': unknown label 'Tai chi'",
    ),
    (lambda root: (root / "scores.json").write_text('{"v_2": {}}'), "scores.json", "video 'v_2': must be"),
    (
        lambda root: (root / "scores.json").write_text('{"v_7": {"class": "BMX", "score": 1}}'),
        "scores.json",
        "video 'v_7': scored but not annotated",
    ),
    (lambda root: (root / "feature_spec.json").write_text("{}"), "feature_spec.json", '"channels", the width C'),
]


def content(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(("break_it", "file", "reason"), BROKEN, ids=[f"{f}: {r[:40]}" for _, f, r in BROKEN])
def test_check_names_file_and_reason_and_writes_nothing(root: Path, break_it, file: str, reason: str) -> None:
    break_it(root)
    before = content(root)
    problems = check(root)
    found = [problem for problem in problems if reason in problem.reason]
    assert [problem.file for problem in found] == [file], problems
    assert content(root) == before


def test_check_lists_every_problem_at_once(root: Path) -> None:
    _rows(("Dving", 9, 7), ("Diving", 9, 25), ("Diving", 1, 2))(root)
    np.save(root / "features" / "v_1.npy", np.full((3, 4), np.nan, np.float32))
    (root / "features" / "v_2.npy").unlink()
    (root / "scores.json").write_text("[]")
    problems = check(root)
    assert {problem.file for problem in problems} == {
        "annotations.json",
        "scores.json",
        "features/v_1.npy",
        "features/v_2.npy",
    }
    assert len(problems) == 5
    assert all(isinstance(problem, Problem) and str(root) not in problem.reason for problem in problems)


def test_class_lists_may_name_classes_that_no_video_has(root: Path) -> None:
    """A list is a vocabulary: the published ones name 200 classes, a part of ActivityNet has fewer."""
    (root / "splits" / "test.list").write_text("BMX\nTai chi\n")
    (root / "scores.json").write_text('{"v_2": {"class": "Tai chi", "score": 0.2}}')
    assert check(root) == []


def test_without_a_spec_the_width_of_most_features_counts(root: Path) -> None:
    (root / "feature_spec.json").unlink()
    np.save(root / "features" / "v_1.npy", np.zeros((5, 3), np.float32))
    assert check(root) == [Problem("features/v_1.npy", "wrong width: C = 3 channels, not 4 as most features have")]


def test_labels_outside_the_files_taxonomy_are_unknown(root: Path) -> None:
    path = root / "annotations.json"
    document = json.loads(path.read_text())
    document["taxonomy"] = [{"nodeName": "Root"}, {"nodeName": "BMX", "parentName": "Root"}]
    path.write_text(json.dumps(document))
    assert check(root) == [
        Problem("annotations.json", "video 'v_1': unknown label 'Diving'; it is not in the file's taxonomy")
    ]


def test_durations_that_disagree_with_the_snippets_are_found(root: Path) -> None:
    document = json.loads((root / "annotations.json").read_text())
    lengths = {video: len(np.load(root / "features" / f"{video}.npy")) for video in ("v_1", "v_2")}
    document["database"]["v_2"]["duration"] = 1000.0
    (root / "annotations.json").write_text(json.dumps(document))
    assert check(root) == [
        Problem(
            "features/v_2.npy",
            f"{lengths['v_2']} snippets of 3 s cover {3 * lengths['v_2']} s, but the video lasts 1000 s; correct "
            "the duration, or fps and stride in feature_spec.json",
        )
    ]
    (root / "feature_spec.json").unlink()
    assert check(root) == [], "nobody says how long a snippet is"


def test_a_missing_spec_and_subsets_that_nobody_reads_are_warnings(root: Path) -> None:
    whole = check_data_set(root)
    assert (whole.problems, whole.warnings) == ([], [])
    assert whole.summary() == (
        f"3 videos ({whole.n_features} with features), 2 classes, 4 channels, {whole.hours:.1f} hours; 0 problems found"
    )
    document = json.loads((root / "annotations.json").read_text())
    document["database"]["v_2"]["subset"] = "val"
    (root / "annotations.json").write_text(json.dumps(document))
    (root / "feature_spec.json").unlink()
    files = {warning.file: warning.reason for warning in check_data_set(root).warnings}
    assert files["annotations.json"].startswith("no command reads subset 'val' (1 videos) by itself: train reads train")
    assert files["feature_spec.json"].startswith("is missing: ")
