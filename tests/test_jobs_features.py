"""`stale-edge features`: resumable extraction over many videos."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tiny
import video_files
import vision_encoder

from stale_edge.cli.many import with_ray_address
from stale_edge.config import ExtractConfig
from stale_edge.data import FeatureFolder, open_features, read_feature_spec
from stale_edge.data.feature_writer import write_features
from stale_edge.errors import BundleError, DataError, FeatureContractError
from stale_edge.jobs.extraction import FeatureJob, extract_all
from stale_edge.jobs.inputs import find_videos
from stale_edge.runtime.encoder_recommendation import EncoderChoice, write_encoder_recommendation
from stale_edge.runtime.visual_encoder import load_encoder
from stale_edge.video import extract_features, open_video, sample


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vision_encoder.write(tmp_path_factory.mktemp("encoder") / "encoder")


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    (folder / "deeper").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i, name in enumerate(("a.mp4", "b.mkv", "deeper/c.mp4")):
        pictures = list(rng.integers(0, 255, (10 + i, 40, 56, 3), np.uint8))
        video_files.write(folder / name, times_ms=range(0, 1000 + 100 * i, 100), pictures=pictures)
    (folder / "notes.txt").write_text("not a video", encoding="utf-8")
    return folder


def job(encoder: Path, out: Path, **values) -> FeatureJob:
    return FeatureJob(encoder, out, **{"fps": 10.0, "stride": 2, "batch": 3, **values})


def test_features_are_those_of_the_pictures_in_the_middle_of_snippets(encoder, videos, tmp_path) -> None:
    report = extract_all([videos], job(encoder, tmp_path / "out"))
    assert (sorted(report.extracted), report.errors) == (["a", "b", "c"], {})
    loaded = load_encoder(encoder)
    folder = FeatureFolder(tmp_path / "out" / "features")
    for item in find_videos([videos]):
        with open_video(item.path) as source:
            pictures = [snippet.picture.rgb for snippet in sample(source, 5.0)]
        one_by_one = np.concatenate([loaded.encode(picture[None]) for picture in pictures])
        np.testing.assert_allclose(folder.load(item.video), one_by_one, rtol=0, atol=1e-5)
        whole = extract_features(item.path, loaded, fps=10.0, stride=2)
        np.testing.assert_allclose(whole.features, one_by_one, rtol=0, atol=1e-5)
        assert whole.span_s == len(pictures) / 5.0
        assert whole.duration_s == pytest.approx(report.extracted[item.video]["duration_s"])
    assert read_feature_spec(tmp_path / "out" / "feature_spec.json") == loaded.feature_spec(fps=10.0, stride=2)


def test_a_second_start_does_only_what_is_missing_or_changed(encoder, videos, tmp_path) -> None:
    wanted = job(encoder, tmp_path / "out")
    extract_all([videos], wanted)
    again = extract_all([videos], wanted)
    assert (again.extracted, again.unchanged) == ({}, ("a", "b", "c"))
    os.utime(videos / "a.mp4", ns=(1, 1))  # touched, not changed
    shutil.copy(videos / "a.mp4", videos / "b.mkv")  # changed
    (tmp_path / "out" / "features" / "c.npy").unlink()  # lost
    again = extract_all([videos], wanted)
    assert (sorted(again.extracted), again.unchanged) == (["b", "c"], ("a",))
    record = tmp_path / "out" / "sources" / "b.json"
    record.write_text(record.read_text(encoding="utf-8")[:40], encoding="utf-8")  # half a record
    assert sorted(extract_all([videos], wanted).extracted) == ["b"]


@pytest.mark.parametrize(
    ("change", "message"), [({"fps": 8.0}, "fps 10.0, asked for is 8.0"), ({"stride": 4}, "stride 2, asked for is 4")]
)
def test_features_of_another_rate_are_not_mixed(encoder, videos, tmp_path, change, message) -> None:
    extract_all([videos], job(encoder, tmp_path / "out"))
    with pytest.raises(FeatureContractError, match=message):
        extract_all([videos], job(encoder, tmp_path / "out", **change))


def test_features_of_another_encoder_are_not_mixed(encoder, videos, tmp_path) -> None:
    extract_all([videos], job(encoder, tmp_path / "out"))
    other = vision_encoder.write(tmp_path / "other", fingerprint="sha256:other")
    with pytest.raises(FeatureContractError, match="encoder 'sha256:tiny-vision', asked for is 'sha256:other'"):
        extract_all([videos], job(other, tmp_path / "out"))


def test_a_bad_video_costs_one_line_and_not_the_run(encoder, videos, tmp_path) -> None:
    (videos / "text.mp4").write_text("hello", encoding="utf-8")
    video_files.write_sound(videos / "sound.mp4")
    report = extract_all([videos], job(encoder, tmp_path / "out"))
    assert (sorted(report.extracted), sorted(report.errors)) == (["a", "b", "c"], ["sound", "text"])
    lines = (tmp_path / "out" / "errors.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["video"]: json.loads(line)["error"] for line in lines} == report.errors
    assert not (tmp_path / "out" / "features" / "text.npy").exists()
    (videos / "text.mp4").unlink()
    (videos / "sound.mp4").unlink()
    assert extract_all([videos], job(encoder, tmp_path / "out")).errors == {}
    assert not (tmp_path / "out" / "errors.jsonl").exists()


def test_a_truncated_video_gives_what_there_is_and_the_record_says_so(encoder, tmp_path) -> None:
    pictures = list(np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3), np.uint8))
    path = video_files.write(
        tmp_path / "a.mp4", times_ms=range(0, 4000, 100), pictures=pictures, options={"movflags": "faststart"}
    )
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    report = extract_all([path], job(encoder, tmp_path / "out"))
    assert 5 <= report.extracted["a"]["n_snippets"] < 15
    assert "truncated" in report.extracted["a"]["notes"][0]


def test_a_kill_leaves_whole_files_and_the_next_start_goes_on(encoder, tmp_path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    video_files.write(folder / "00.mkv", times_ms=range(0, 200_000, 100))
    for i in range(1, 8):
        shutil.copy(folder / "00.mkv", folder / f"{i:02}.mkv")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "stale_edge", "features", folder, "--encoder", encoder, "--out", out]
    with subprocess.Popen([*map(str, command), "--fps", "10"], stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not list(out.glob("sources/*.json")) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    before = {path.stem for path in out.glob("sources/*.json")}
    assert 0 < len(before) < 8
    for path in out.glob("features/*.npy"):
        assert open_features(path).shape == (125, vision_encoder.EMBED_DIM)
    report = extract_all([folder], FeatureJob(encoder, out, 10.0, 16))
    assert set(report.unchanged) == before
    assert not list(out.glob("features/.*"))  # what the kill left half done
    assert set(report.extracted) == {f"{i:02}" for i in range(8)} - before


def test_the_encoder_of_a_bundle_brings_the_bundles_sampling(run, videos, tmp_path) -> None:
    encoder = vision_encoder.write(tmp_path / "encoder", fingerprint="tiny-encoder")
    bundle = tiny.write(tmp_path / "bundle", encoder=encoder)
    assert run("features", videos, "--encoder", bundle, "--out", tmp_path / "out")[0] == 0
    contract = tiny.contract()
    spec = read_feature_spec(tmp_path / "out" / "feature_spec.json")
    assert (spec.encoder, spec.fps, spec.stride) == (contract.encoder, contract.fps, contract.stride)
    assert run("detect", bundle, tmp_path / "out")[0] == 0
    assert run("features", videos, "--encoder", encoder, "--out", tmp_path / "alone")[0] == 0
    assert read_feature_spec(tmp_path / "alone" / "feature_spec.json").fps == ExtractConfig.fps


def test_two_videos_of_one_name_are_refused(encoder, videos, tmp_path) -> None:
    shutil.copy(videos / "a.mp4", videos / "deeper" / "a.mov")
    with pytest.raises(DataError, match="two videos are called a"):
        extract_all([videos], job(encoder, tmp_path / "out"))


def test_folders_without_videos_and_missing_encoders_are_named(encoder, videos, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no video in this folder"):
        extract_all([tmp_path / "empty"], job(encoder, tmp_path / "out"))
    with pytest.raises(BundleError, match="not a visual encoder"):
        extract_all([videos], job(tmp_path / "none", tmp_path / "out"))
    assert (
        extract_all([videos / "none.mp4"], job(encoder, tmp_path / "out"))
        .errors["none"]
        .endswith("No such file or directory")
    )


def test_a_feature_file_is_written_whole_or_not_at_all(tmp_path) -> None:
    path = tmp_path / "a.npy"
    rows = np.arange(30, dtype=np.float32).reshape(10, 3)
    with write_features(path, channels=3) as writer:
        for start in range(0, 10, 4):
            writer.add(rows[start : start + 4])
    np.testing.assert_array_equal(np.load(path), rows)

    def fail() -> None:
        with write_features(path, channels=3) as writer:
            writer.add(rows[:1])
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    np.testing.assert_array_equal(np.load(path), rows)
    assert [item.name for item in tmp_path.iterdir()] == ["a.npy"]


def test_the_command_line(run, encoder, videos, tmp_path) -> None:
    (videos / "text.mp4").write_text("hello", encoding="utf-8")
    options = ("--encoder", encoder, "--out", tmp_path / "out", "--fps", "10", "--stride", "2")
    code, printed, errors = run("features", videos, *options, "--json", "-")
    result = json.loads(printed)
    assert (code, sorted(result["extracted"]), list(result["errors"])) == (1, ["a", "b", "c"], ["text"])
    assert "error: " in errors
    (videos / "text.mp4").unlink()
    code, printed, _ = run("features", videos, *options)
    assert (code, "3 unchanged" in printed) == (0, True)
    code, _, errors = run("features", videos, *options[:-1], "4")
    assert (code, "stride 2, asked for is 4" in errors) == (1, True)
    assert run("features", videos, *options, "--fps", "0")[0] == 2


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["a", "--ray"], ["a", "--ray=local"]),
        (["--ray", "a.mp4"], ["--ray=local", "a.mp4"]),
        (["--ray", "auto", "a"], ["--ray=auto", "a"]),
        (["--ray", "10.0.0.1:6379", "a"], ["--ray=10.0.0.1:6379", "a"]),
        (["--ray", "ray://host:10001"], ["--ray=ray://host:10001"]),
        (["--ray=auto", "--workers", "3"], ["--ray=auto", "--workers", "3"]),
        (["--", "--ray"], ["--", "--ray"]),
    ],
)
def test_ray_may_stand_without_an_address(given, wanted) -> None:
    assert with_ray_address(given) == wanted


def test_auto_takes_the_recommended_way_for_these_videos(run, encoder, videos, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    auto = job(encoder, tmp_path / "auto", runtime="auto")
    with pytest.raises(BundleError, match="bench --video FILE"):
        extract_all([videos], auto)
    choices = (EncoderChoice("onnxruntime", "fp32", 2, 0.1, 0.2), EncoderChoice("openvino", "fp32", 1, 60.0, 0.1))
    write_encoder_recommendation(encoder, choices, threads=1)
    extract_all([videos], auto)
    extract_all([videos], job(encoder, tmp_path / "named"))
    of_auto, named = (FeatureFolder(tmp_path / way / "features") for way in ("auto", "named"))
    for video in ("a", "b", "c"):
        np.testing.assert_array_equal(of_auto.load(video), named.load(video))
    record = json.loads((tmp_path / "auto" / "sources" / "a.json").read_text(encoding="utf-8"))
    assert (record["precision"], record["provider"]) == ("fp32", "CPUExecutionProvider")
    options = ["--encoder", encoder, "--out", tmp_path / "x", "--encoder-runtime", "auto"]
    assert run("features", videos, *options, "--precision", "int8")[0] == 2
