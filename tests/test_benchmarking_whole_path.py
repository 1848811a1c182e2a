"""`bench --video`: every stage of every way, compared with what `detect` does unasked, and the recommendation."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
import video_files
import vision_encoder

from stale_edge.benchmarking.whole_path import STAGES, WholePath, run_whole_path
from stale_edge.errors import BundleError, ConfigError
from stale_edge.runtime.detect import detect_files
from stale_edge.runtime.detect_settings import DetectSettings
from stale_edge.runtime.encoder_recommendation import EncoderChoice, choose_encoder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    encoder = vision_encoder.write(folder / "encoder", fingerprint="tiny-encoder")
    return tiny.write(folder / "bundle", encoder=encoder)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scenes = list(np.random.default_rng(0).integers(0, 255, (6, 40, 56, 3), np.uint8))
    pictures = [scenes[i // 10] for i in range(60)]
    return video_files.write(tmp_path_factory.mktemp("v") / "v.mp4", times_ms=range(0, 6000, 100), pictures=pictures)


def test_every_stage_of_every_way_is_measured_and_recommended(run, bundle, video, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    auto = DetectSettings(bundle, encoder_runtime="auto")
    with pytest.raises(BundleError, match="bench --video FILE"):
        detect_files(auto, [video])
    options = ["--runtimes", "onnxruntime", "--repeats", "1", "--preprocessing", "fast", "--skip-similar", "0.05"]
    code, printed, errors = run("bench", bundle, "--video", video, *options, "--recommend", "--json", "-")
    assert code == 0, errors
    results = json.loads(printed)
    assert results["schema"] == "stale-edge-bench-video/1"
    assert (results["video"]["width"], results["video"]["height"], results["video"]["frames"]) == (56, 40, 30)
    whole = [row for row in results["rows"] if row["stage"] == "whole"]
    threads = {row["threads"] for row in whole}
    assert len(results["rows"]) == len(STAGES) * len(whole) == len(STAGES) * 3 * len(threads)
    one = [row for row in whole if row["threads"] == 1]
    assert [row["default"] for row in one] == [True, False, False]
    assert sum(row["recommended"] for row in one) == 1
    exact, short = (next(row for row in one[1:] if row["preprocessing"] == way) for way in ("exact", "fast"))
    assert (exact["found_again"], round(exact["min_cosine"], 5), exact["frames_encoded"]) == (1.0, 1.0, 30)
    assert short["frames_encoded"] == 6
    stages = [row for row in results["rows"] if row["threads"] == 1][: len(STAGES)]
    parts = sum(row["seconds"]["median"] for row in stages[:-1])
    assert 0.5 * stages[-1]["seconds"]["median"] < parts <= stages[-1]["seconds"]["median"]
    assert "encoder" in errors  # the table
    assert detect_files(auto, [video]).text == detect_files(bundle, [video]).text


def test_start_up_counts_for_a_short_video() -> None:
    quick, fast = EncoderChoice("a", "fp32", 1, 0.1, 0.2), EncoderChoice("b", "int8", 1, 3.0, 0.05)
    assert choose_encoder([quick, fast], 10) is quick
    assert choose_encoder([quick, fast], 100) is fast


def test_what_cannot_be_measured_is_named(run, bundle, video, tmp_path) -> None:
    with pytest.raises(ConfigError, match="encoder runs with onnxruntime, openvino; got pytorch"):
        run_whole_path(WholePath(video, bundle, bundle, runtimes=("pytorch",)))
    without = tiny.write(tmp_path / "without")
    assert run("bench", without, "--video", video)[0] == 2
    assert run("bench", "--device", "cpu", "--encoder", bundle)[0] == 2
    assert run("bench")[0] == 2
