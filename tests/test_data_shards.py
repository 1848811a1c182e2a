"""Features of many videos in tar shards and Parquet files, read like a file a video."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from training_data import small_config, write_data_set

from stale_edge.data import FeatureFolder, check, open_data_set, read_features
from stale_edge.data.shard import shard_data_set
from stale_edge.errors import DataError, FeatureContractError

FORMATS = ["tar", "parquet"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_data_set(tmp_path_factory.mktemp("data") / "data", n_videos=9)
    (root / "splits").mkdir()
    (root / "splits" / "train.list").write_text("bowling\ndiving\n", encoding="utf-8")
    (root / "scores.json").write_text(json.dumps({"video_0": {"class": "bowling", "score": 0.5}}), encoding="utf-8")
    return root


@pytest.mark.parametrize("shard_format", FORMATS)
@pytest.mark.parametrize(("shard_bytes", "n_shards"), [(1 << 20, 1), (1, 9), (3000, None)])
def test_a_sharded_data_set_is_read_like_the_old_one(root, tmp_path, shard_format, shard_bytes, n_shards) -> None:
    report = shard_data_set(root, tmp_path / "out", shard_format=shard_format, shard_bytes=shard_bytes)
    assert report.n_videos == 9
    assert n_shards is None or len(report.shards) == n_shards
    assert sorted(path.name for path in (tmp_path / "out" / "features").iterdir()) == list(report.shards)
    old, new = open_data_set(root), open_data_set(tmp_path / "out")
    assert (new.annotations, new.feature_spec, new.scores) == (old.annotations, old.feature_spec, old.scores)
    assert new.split("train.list") == old.split("train.list")
    assert new.features.videos == old.features.videos
    for video in old.features.videos:
        np.testing.assert_array_equal(new.load(video), old.load(video))
    assert [problem.reason for problem in check(tmp_path / "out")] == [problem.reason for problem in check(root)]


@pytest.mark.parametrize("shard_format", FORMATS)
def test_training_on_shards_is_training_on_files(root, tmp_path, shard_format) -> None:
    torch = pytest.importorskip("torch")
    from stale_edge.training import train

    torch.set_num_threads(1)
    shard_data_set(root, tmp_path / "out", shard_format=shard_format, shard_bytes=4000)
    losses = []
    for data in (root, tmp_path / "out"):
        run = tmp_path / f"run-{data.name}"
        config = small_config(epochs=1)
        train(_without_text_tower(config), data, run)
        losses.append([json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()])
    assert losses[0] == losses[1]


def _without_text_tower(config):
    import dataclasses

    text = dataclasses.replace(config.model.text, encoder="none")
    return dataclasses.replace(config, model=dataclasses.replace(config.model, text=text))


def test_equal_data_sets_give_equal_tar_shards(root, tmp_path) -> None:
    contents = []
    for name in ("one", "two"):
        shard_data_set(root, tmp_path / name)
        contents.append((tmp_path / name / "features" / "shard-000000.tar").read_bytes())
    assert contents[0] == contents[1]


def test_a_tar_shard_is_what_webdataset_reads(root, tmp_path) -> None:
    shard_data_set(root, tmp_path / "out")
    with tarfile.open(tmp_path / "out" / "features" / "shard-000000.tar") as archive:
        names = archive.getnames()
        assert names[:2] == ["video_0.npy", "video_0.json"]  # members of a sample stand together
        known = json.load(archive.extractfile("video_0.json"))
    assert known["video"] == "video_0"
    assert (
        known["annotations"]
        == json.loads((root / "annotations.json").read_text())["database"]["video_0"]["annotations"]
    )


def test_tar_shards_of_others_are_read(tmp_path) -> None:
    rows = np.arange(6, dtype=np.float16).reshape(2, 3)
    buffer = io.BytesIO()
    np.save(buffer, rows)
    with tarfile.open(tmp_path / "other.tar", "w") as archive:
        for name in ("./deep/a.npy", "./deep/a.cls"):
            entry = tarfile.TarInfo(name)
            entry.size = len(buffer.getvalue())
            archive.addfile(entry, io.BytesIO(buffer.getvalue()))
    folder = FeatureFolder(tmp_path)
    assert folder.videos == ("a",)
    np.testing.assert_array_equal(folder.load("a"), rows)


def test_parquet_files_of_others_are_read(tmp_path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    rows = [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0]], [[1.0, 2.0], [3.0]]]
    table = pa.table(
        {"video": ["a", "b", "ragged"], "features": rows, "more": [1, 2, 3]}
    )  # one group, lists of float64
    pyarrow.parquet.write_table(table, tmp_path / "other.parquet")
    folder = FeatureFolder(tmp_path)
    assert folder.videos == ("a", "b", "ragged")
    np.testing.assert_array_equal(folder.load("b"), [[5.0, 6.0]])
    np.testing.assert_array_equal(folder.load("a"), [[1.0, 2.0], [3.0, 4.0]])
    with pytest.raises(DataError, match="3 numbers are not 2 snippets of one width"):
        folder.load("ragged")


@pytest.mark.parametrize("shard_format", FORMATS)
def test_damaged_shards_are_named(root, tmp_path, shard_format) -> None:
    shard_data_set(root, tmp_path / "out", shard_format=shard_format)
    file = tmp_path / "out" / "features" / f"shard-000000.{shard_format}"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(DataError, match=rf"shard-000000\.{shard_format}: not a readable"):
        read_features(file, "video_0")
    assert FeatureFolder(file.parent).videos == ("shard-000000",)  # listed, so that `data check` explains it


def test_a_video_in_two_shards_is_an_error(root, tmp_path) -> None:
    shard_data_set(root, tmp_path / "out")
    np.save(tmp_path / "out" / "features" / "video_3.npy", np.zeros((2, 16), np.float32))
    with pytest.raises(DataError, match="several files hold features of video 'video_3'"):
        open_data_set(tmp_path / "out").load("video_3")


def test_a_parquet_file_without_the_columns_is_named(tmp_path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    pyarrow.parquet.write_table(pa.table({"name": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(DataError, match="there is no column features, video"):
        read_features(tmp_path / "other.parquet")


def test_nothing_is_written_over_and_bad_features_write_nothing(root, tmp_path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x")
    with pytest.raises(DataError, match="something is there already"):
        shard_data_set(root, tmp_path / "mine")
    with pytest.raises(ValueError, match="shard_format must be"):
        shard_data_set(root, tmp_path / "out", shard_format="zip")
    bad = write_data_set(tmp_path / "bad", n_videos=3)
    np.save(bad / "features" / "video_1.npy", np.full((3, 16), np.nan, np.float32))
    with pytest.raises(FeatureContractError, match=r"video_1\.npy: features must be finite"):
        shard_data_set(bad, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_line(run, root, tmp_path) -> None:
    code, printed, _ = run("data", "shard", root, "--out", tmp_path / "out", "--format", "parquet", "--json", "-")
    assert (code, json.loads(printed)["n_videos"]) == (0, 9)
    assert run("data", "shard", root, "--out", tmp_path / "out")[0] == 1
    assert run("data", "shard", root, "--out", tmp_path / "x", "--format", "zip")[0] == 2
