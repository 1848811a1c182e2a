"""Names that become paths: nothing is read or written outside the given folder."""

import io
import json
import os
import tarfile
import unicodedata
from pathlib import Path, PureWindowsPath

import numpy as np
import pytest
import tiny
from hypothesis import example, given
from hypothesis import strategies as st
from typer.testing import CliRunner

from stale_edge import paths
from stale_edge.cli.app import app
from stale_edge.data import FeatureFolder, open_data_set, simulate
from stale_edge.data.shard import FORMATS, shard_data_set
from stale_edge.errors import BundleError, DataError
from stale_edge.jobs.detection import detect_many
from stale_edge.paths import check_distinct, folded, inside, name_problem
from stale_edge.runtime.detect_settings import DetectSettings

CLIMBS = "../../../victim/manifest"
REFUSED = {
    "../x": "climbs",
    "a/../../x": "climbs",
    "..": "climbs",
    ".": "has the part",
    "": "is empty",
    "/etc/passwd": "is absolute",
    "a/b": "has a slash",
    "C:x": "drive letter",
    "c:\\x": "drive letter or a backslash",
    "..\\x": "backslash",
    "\\\\host\\share": "backslash",
    "a\0b": "control character",
    "a\nb": "control character",
    "a\udcffb": "bytes that are no text",
    "NUL": "device",
    "com1.txt": "device",
    "x.": "ends in a dot",
    "x ": "ends in a dot or a space",
}


@pytest.mark.parametrize("name", REFUSED, ids=ascii)
def test_names_that_leave_the_folder_or_are_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=REFUSED[name]):
        inside(tmp_path, name)


@pytest.mark.parametrize("name", ["v_1", "ž", "a..b", "..a", "-x", "~", "$HOME", "12:30", "a" * 200, "con1"])
def test_names_that_stay(tmp_path: Path, name: str) -> None:
    assert inside(tmp_path, name, suffix=".json") == tmp_path / f"{name}.json"


@given(st.text(st.sampled_from("abcx.:/\\ $*~\u00b2ConNUL1") | st.characters(), max_size=12))
@example("nul .txt")
@example("CONOUT$")
@example("com\u00b9")
@example("a:stream")
def test_what_is_allowed_stays_in_its_folder_on_windows_too(name: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "_ON_WINDOWS", True)
        if name_problem(name, nested=True):
            return
    path = PureWindowsPath("C:/data") / name
    assert path.parts == ("C:\\", "data", *name.split("/"))
    assert ":" not in name, "another stream of a file"
    stems = [part.partition(".")[0].rstrip(" ").upper() for part in name.split("/")]
    numbered = [f"{kind}{digit}" for kind in ("COM", "LPT") for digit in "0123456789¹²³"]
    assert not {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", *numbered} & set(stems)


def test_a_colon_is_refused_on_windows_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert inside(tmp_path, "12:30") == tmp_path / "12:30"
    monkeypatch.setattr(paths, "_ON_WINDOWS", True)
    with pytest.raises(DataError, match="has a colon, after which Windows reads the name of a stream"):
        inside(tmp_path, "12:30")


def test_folders_in_a_name_only_where_they_are_asked_for(tmp_path: Path) -> None:
    assert inside(tmp_path, "a/b", nested=True) == tmp_path / "a" / "b"
    for name in ("a//b", "a/./b", "a/../../b", "a/", "a/nul/b"):
        with pytest.raises(BundleError):
            inside(tmp_path, name, nested=True, error=BundleError)


def test_links_out_of_the_folder_are_refused_and_links_in_it_are_not(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "in").symlink_to("sub")
    (folder / "out").symlink_to(tmp_path)
    (folder / "file.json").symlink_to(tmp_path / "victim.json")
    assert inside(folder, "in/x", nested=True) == folder / "in" / "x"
    for name, suffix in (("out/x", ""), ("file", ".json")):
        with pytest.raises(DataError, match="over a link to"):
            inside(folder, name, suffix=suffix, nested=True)
    (tmp_path / "link").symlink_to(folder)  # how the folder itself is reached is the user's business
    assert inside(tmp_path / "link", "x") == tmp_path / "link" / "x"


@pytest.mark.parametrize(
    "pair", [("Diving", "diving"), ("é", unicodedata.normalize("NFD", "é")), ("straße", "STRASSE")]
)
def test_names_that_are_one_on_some_systems(pair: tuple[str, str]) -> None:
    assert folded(pair[0]) == folded(pair[1])
    with pytest.raises(DataError, match="one name on some file systems"):
        check_distinct(pair, what="videos")
    check_distinct(["a", "b"], what="videos")


def write_parquet(path: Path, videos: list[str]) -> Path:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    rows = [tiny.features(12).tolist() for _ in videos]
    pyarrow.parquet.write_table(pa.table({"video": videos, "features": rows}), path)
    return path


@pytest.mark.parametrize("absolute", [False, True])
def test_a_video_of_a_parquet_file_writes_only_into_the_results(tmp_path: Path, absolute: bool) -> None:
    victim = tmp_path / "victim" / "manifest.json"
    victim.parent.mkdir()
    victim.write_text("precious")
    results = tmp_path / "a" / "b" / "results"
    name = str(victim.with_suffix("")) if absolute else CLIMBS
    source = write_parquet(tmp_path / "in.parquet", ["good", name])
    bundle = tiny.write(tmp_path / "bundle")
    ran = CliRunner().invoke(app, ["detect", str(bundle), str(source), "--results", str(results)])
    assert ran.exit_code == 1
    assert "so it cannot name a file in" in ran.stderr
    assert victim.read_text() == "precious"
    assert sorted(path.name for path in results.iterdir()) == ["errors.jsonl", "good.json"]
    assert set(json.loads(ran.stdout)["results"]) == {"good"}, "the other video goes on"


def test_results_are_not_written_over_a_link_nor_over_each_other(tmp_path: Path) -> None:
    bundle, results, victim = tiny.write(tmp_path / "bundle"), tmp_path / "results", tmp_path / "victim.json"
    results.mkdir()
    victim.write_text("precious")
    (results / "v.json").symlink_to(victim)
    run = detect_many(DetectSettings(bundle), [write_parquet(tmp_path / "in.parquet", ["v", "w"])], results)
    assert "over a link" in run.errors[0]
    assert victim.read_text() == "precious"
    with pytest.raises(DataError, match=r"'W' and 'w', which are one name"):
        detect_many(DetectSettings(bundle), [write_parquet(tmp_path / "in.parquet", ["w", "W"])], results)


def data_set(root: Path, videos: list[str]) -> Path:
    (root / "features").mkdir(parents=True)
    write_parquet(root / "features" / "all.parquet", videos)
    entry = {"duration": 9.0, "subset": "training", "annotations": [{"label": "jump", "segment": [1, 2]}]}
    (root / "annotations.json").write_text(json.dumps({"database": dict.fromkeys(videos, entry)}))
    return root


@pytest.mark.parametrize("shard_format", FORMATS)
@pytest.mark.parametrize("videos", [["a", CLIMBS], ["a", "A"], ["a", "b/c"]])
def test_shards_do_not_pass_such_names_on(tmp_path: Path, shard_format: str, videos: list[str]) -> None:
    with pytest.raises(DataError, match=r"cannot name a file in|one name on some"):
        shard_data_set(data_set(tmp_path / "data", videos), tmp_path / "out", shard_format=shard_format)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("member", ["../../a.npy", "/tmp/a.npy", "C:\\a.npy"])
def test_tar_members_outside_their_folder(tmp_path: Path, member: str) -> None:
    buffer = io.BytesIO()
    np.save(buffer, tiny.features(3))
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        entry = tarfile.TarInfo(member)
        entry.size = len(buffer.getvalue())
        archive.addfile(entry, io.BytesIO(buffer.getvalue()))
    with pytest.raises(DataError, match="its member"):
        FeatureFolder(tmp_path).load("s")


@pytest.mark.parametrize("video", [CLIMBS, "/tmp/x", "a\\b", "nul"])
def test_annotations_that_are_simulated(tmp_path: Path, video: str) -> None:
    entry = {"duration": 9.0, "subset": "training", "annotations": [{"label": "jump", "segment": [1, 2]}]}
    other = {**entry, "annotations": [{"label": "run", "segment": [1, 2]}]}
    (tmp_path / "a.json").write_text(json.dumps({"database": {video: entry, "other": other}}))
    with pytest.raises(DataError, match="cannot name a file in"):
        simulate(tmp_path / "out", annotations=tmp_path / "a.json")
    assert not (tmp_path / "out").exists()


def test_a_split_outside_the_data_set(tmp_path: Path) -> None:
    root = data_set(tmp_path / "data", ["a"])
    (tmp_path / "secret.list").write_text("jump\n")
    with pytest.raises(DataError, match="climbs"):
        open_data_set(root).split("../../secret.list")


def test_features_are_written_only_where_they_belong(tmp_path: Path) -> None:
    from stale_edge.jobs.extraction import FeatureJob, _is_done
    from stale_edge.jobs.inputs import VideoInput

    job = FeatureJob(tmp_path / "encoder", tmp_path / "out")
    assert not _is_done(job, VideoInput("../x", tmp_path / "x.mp4"), {})
    if os.name != "nt":
        (job.features).mkdir(parents=True)
        (job.features / "v.npy").symlink_to(tmp_path / "victim")
        with pytest.raises(DataError, match="over a link"):
            inside(job.features, "v", suffix=".npy")
