"""Many inputs through Ray Data: a local cluster of two workers, one of which is killed."""

import importlib.util
import json
import os
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tiny
import video_files
import vision_encoder

from stale_edge.jobs import pool as pools
from stale_edge.jobs.detection import detect_many
from stale_edge.jobs.extraction import FeatureJob, extract_all
from stale_edge.jobs.pool import ERROR, RayPool, run_all
from stale_edge.runtime.detect import detect_files
from stale_edge.runtime.detect_settings import DetectSettings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra ray is not installed"),
    # Ray calls functions of its own, and of Python, that it says will go.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory):
    """Two workers on this machine, for all tests here."""
    pool = RayPool(tmp_path_factory.mktemp("scratch"), workers=2)
    with pools._cluster(pool):
        import ray

        assert ray.util.get_node_ip_address() == "127.0.0.1"  # nothing outside this machine can reach it
        yield pool


def test_a_killed_workers_inputs_are_done_again_once(cluster: RayPool, tmp_path: Path) -> None:
    begun, killed = tmp_path / "begun", tmp_path / "killed"

    def make():  # local, so that it travels by value
        def work(row):
            from stale_edge.errors import DataError

            with begun.open("a", encoding="utf-8") as file:
                file.write(f"{row['video']} {os.getpid()}\n")
            if row["video"] == "always" or (row["video"] == "once" and not killed.exists()):
                killed.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if row["video"] == "bad":
                raise DataError("a bad file")
            if row["video"] == "bug":
                raise KeyError("nobody thought of this")
            return {**row, "numbers": [1, None, 0.5]}

        return work

    videos = ["a", "b", "once", "c", "bad", "bug", "d", "always", "e", "f"]
    driver, results = os.getpid(), {}
    for row in run_all(make, [{"video": video, "path": f"{video}.mp4"} for video in videos], pool=cluster):
        assert row["video"] not in results
        results[row["video"]] = row
    assert set(results) == set(videos)
    assert {video for video, row in results.items() if ERROR in row} == {"bad", "bug", "always"}
    assert results["bad"][ERROR] == "a bad file"
    assert results["bug"][ERROR] == "bug.mp4: KeyError: 'nobody thought of this'"
    assert "always.mp4 died, and so did the one that tried again" in results["always"][ERROR]
    assert results["once"]["numbers"] == [1, None, 0.5]
    lines = [line.split() for line in begun.read_text(encoding="utf-8").splitlines()]
    counts = Counter(video for video, _ in lines)
    assert {video: n for video, n in counts.items() if n != 1} == {"once": 2, "always": 2}
    assert str(driver) not in {process for _, process in lines}
    assert list(cluster.scratch.iterdir()) == []


def test_features_and_detections_are_those_of_one_process(cluster: RayPool, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)  # the workers are not here
    encoder = vision_encoder.write(tmp_path / "encoder", fingerprint="tiny-encoder")
    folder = tmp_path / "videos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        pictures = list(rng.integers(0, 255, (20, 40, 56, 3), np.uint8))
        video_files.write(folder / f"v_{i}.mp4", times_ms=range(0, 2000, 100), pictures=pictures)
    (folder / "text.mp4").write_text("hello", encoding="utf-8")

    job = FeatureJob(Path("encoder"), Path("ray"), 25.0, 5)
    report = extract_all([folder], job, pool=cluster)
    assert (len(report.extracted), list(report.errors)) == (4, ["text"])
    alone = FeatureJob(encoder, tmp_path / "alone", 25.0, 5)
    extract_all([folder], alone)
    for path in alone.features.iterdir():
        np.testing.assert_array_equal(np.load(job.features / path.name), np.load(path))
    lines = (job.out / "errors.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["video"] for line in lines] == ["text"]
    (folder / "text.mp4").unlink()
    (job.features / "v_2.npy").unlink()
    again = extract_all([folder], job, pool=cluster)
    assert (list(again.extracted), len(again.unchanged)) == (["v_2"], 3)

    bundle = tiny.write(tmp_path / "bundle", encoder=encoder)
    run = detect_many(DetectSettings(Path("bundle")), [Path("videos")], Path("results"), pool=cluster)
    assert run.text == detect_files(bundle, [folder]).text
