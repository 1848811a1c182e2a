"""Annotations in ActivityNet's layout and in that of the public STALE code, and class splits."""

import json
from pathlib import Path

import pytest

from stale_edge.data import Action, read_annotations, read_public_annotations, read_split
from stale_edge.errors import DataError

GOOD = {
    "version": "1.3",
    "database": {
        "v_1": {
            "duration": 30.0,
            "subset": "training",
            "annotations": [
                {"segment": ["18.6", "24.8"], "label": "HighJump"},
                {"segment": [1, 2.5], "label": "Diving"},
            ],
        },
        "v_2": {"duration": 9, "subset": "testing", "annotations": []},
    },
}


def broken(**changes):
    """GOOD with changes to the first video; None removes a key."""
    video = {**GOOD["database"]["v_1"], **changes}
    return {"database": {"v_1": {key: value for key, value in video.items() if value is not None}}}


def test_reads_numbers_and_strings_of_numbers(tmp_path: Path) -> None:
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(GOOD))
    annotations = read_annotations(path)
    assert list(annotations.videos) == ["v_1", "v_2"]
    assert annotations.videos["v_1"].duration_s == 30.0
    assert annotations.videos["v_1"].actions == (Action("HighJump", 18.6, 24.8), Action("Diving", 1.0, 2.5))
    assert annotations.classes == ("Diving", "HighJump")
    assert annotations.subsets == ("testing", "training")
    assert annotations.in_subset("training") == ("v_1",)
    with pytest.raises(ValueError, match="no video is in subset 'validation'; there are: testing, training"):
        annotations.in_subset("validation")


def test_layout_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(GOOD))
    annotations = read_annotations(path)
    path.write_text(json.dumps(annotations.to_layout()))
    assert read_annotations(path) == annotations


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"videos": {}}, 'the key "database" with an object of videos is missing'),
        ([], 'the key "database"'),
        ({"database": {"v_1": []}}, "video 'v_1': must be an object"),
        (broken(duration=None), "video 'v_1': the duration must be a finite number of seconds > 0; none is stated"),
        (broken(duration=0), "video 'v_1': empty video: the duration must be"),
        (broken(duration=-3), "the duration must be a finite number of seconds > 0; got -3"),
        (broken(duration=float("nan")), "the duration must be"),
        (broken(subset=None), "video 'v_1': the subset must be a name"),
        (broken(annotations=None), "video 'v_1': annotations must be a list"),
        (broken(annotations=["x"]), "video 'v_1', annotation 0: the label must be a class name; got None"),
        (broken(annotations=[{"segment": [0, 1], "label": " "}]), "annotation 0: the label must be a class name"),
        (
            broken(annotations=[{"label": "a"}]),
            "annotation 0 (a): the segment must be [start, end] in seconds; got None",
        ),
        (broken(annotations=[{"label": "a", "segment": [0, "x"]}]), "start and end must be finite numbers"),
        (broken(annotations=[{"label": "a", "segment": [0, float("inf")]}]), "start and end must be finite numbers"),
        (
            broken(annotations=[{"label": "a", "segment": [0, 1]}, {"label": "b", "segment": [5, 4]}]),
            "video 'v_1', annotation 1 (b): the segment is reversed: it ends at 4 s before it starts at 5 s",
        ),
    ],
)
def test_broken_annotations_name_file_video_and_row(tmp_path: Path, document, message: str) -> None:
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(document))
    with pytest.raises(DataError) as caught:
        read_annotations(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a readable JSON file"),
        ("[" * 100_000, "not a readable JSON file"),
        ('{"database": {"v_1": {}, "v_1": {}}}', "duplicate: the key 'v_1' stands more than once"),
    ],
)
def test_broken_json_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "annotations.json"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_annotations(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    with pytest.raises(DataError, match="no such file"):
        read_annotations(tmp_path / "none.json")


def test_durations_can_be_given(tmp_path: Path) -> None:
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(broken(duration=None)))
    assert read_annotations(path, durations={"v_1": 31.5}).videos["v_1"].duration_s == 31.5
    path.write_text(json.dumps(GOOD))
    assert read_annotations(path, durations={"v_1": 31.5}).videos["v_1"].duration_s == 30.0


def test_public_annotations_keep_every_action(tmp_path: Path) -> None:
    """The public data loader keeps only the last one of each video."""
    rows = [{"segment": [0, 4], "label": "Diving"}, {"segment": [6, 9.5], "label": "Diving"}]
    (tmp_path / "a.json").write_text(json.dumps({"v_1": {"duration_second": 10.5, "annotations": rows}}))
    (tmp_path / "i.csv").write_text(
        "video,numFrame,seconds,fps,rfps,subset,featureFrame\nv_1,300,10.4,30,30,training,288\n"
    )
    annotations = read_public_annotations(tmp_path / "a.json", tmp_path / "i.csv")
    assert annotations.videos["v_1"].subset == "training"
    assert annotations.videos["v_1"].duration_s == 10.5
    assert annotations.videos["v_1"].actions == (Action("Diving", 0, 4), Action("Diving", 6, 9.5))

    (tmp_path / "i.csv").write_text("video,subset\nv_2,training\n")
    with pytest.raises(DataError, match=r"a\.json: video 'v_1' is not in i\.csv, so its subset is unknown"):
        read_public_annotations(tmp_path / "a.json", tmp_path / "i.csv")
    (tmp_path / "i.csv").write_text("video,subset\nv_1,training\nv_2,training\n")
    with pytest.raises(DataError, match=r"video 'v_2' of i\.csv is missing"):
        read_public_annotations(tmp_path / "a.json", tmp_path / "i.csv")
    (tmp_path / "i.csv").write_text("name,part\nv_1,training\n")
    with pytest.raises(DataError, match=r"i\.csv: columns video and subset are needed; got name, part"):
        read_public_annotations(tmp_path / "a.json", tmp_path / "i.csv")


def test_the_real_public_annotations(shared_data: Path) -> None:
    folder = shared_data / "activitynet"
    annotations = read_public_annotations(folder / "anet_anno_action.json", folder / "video_info_new.csv")
    counts = {subset: len(annotations.in_subset(subset)) for subset in annotations.subsets}
    assert counts == {"testing": 4851, "training": 9649, "validation": 4728}
    assert sum(len(video.actions) for video in annotations.videos.values()) == 22152
    assert len(annotations.classes) == 200


def test_thumos_ground_truth_needs_durations(shared_data: Path) -> None:
    path = shared_data / "thumos14" / "thumos_gt.json"
    with pytest.raises(DataError, match="the duration must be a finite number of seconds > 0; none is stated"):
        read_annotations(path)
    videos = json.loads(path.read_text())["database"]
    annotations = read_annotations(path, durations=dict.fromkeys(videos, 2000.0))
    assert (len(annotations.videos), len(annotations.classes)) == (410, 20)


def test_splits(tmp_path: Path) -> None:
    path = tmp_path / "split_0.list"
    path.write_text("Tai chi\r\n\nBMX\n")
    assert read_split(path) == ("Tai chi", "BMX")
    path.write_text("BMX\nTai chi\nBMX\n")
    with pytest.raises(DataError, match=r"split_0\.list: duplicate class names: BMX; keep each once"):
        read_split(path)
    path.write_text("\n")
    with pytest.raises(DataError, match="the split names no class"):
        read_split(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not a readable split file"):
        read_split(path)
    with pytest.raises(DataError, match="no such split file"):
        read_split(tmp_path / "split_1.list")


def test_the_published_splits(shared_data: Path) -> None:
    for folder, n_train, n_test in (("75_25", 150, 50), ("50_50", 100, 100)):
        for i in range(10):
            train, test = (
                read_split(shared_data / "splits" / "activitynet" / folder / part / f"split_{i}.list")
                for part in ("train", "test")
            )
            assert (len(train), len(test), len({*train, *test})) == (n_train, n_test, 200)
