"""Shortcuts on the way from a video to features: workers, similar pictures, fast preprocessing."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import video_files
import vision_encoder

from stale_edge.bundle.manifest import FeatureContract, Manifest
from stale_edge.config import FeatureSpec
from stale_edge.errors import DataError, FeatureContractError
from stale_edge.jobs.extraction import FeatureJob, extract_all
from stale_edge.runtime import load_encoder
from stale_edge.runtime.contract import check_feature_spec
from stale_edge.runtime.detect import detect_files
from stale_edge.runtime.detect_settings import DetectSettings
from stale_edge.video import FrameSettings, SimilarPictures, extract_features, open_video, prepare_fast, sample

FPS, STRIDE = 25.0, 5
"""Of the tiny bundle's feature contract."""


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vision_encoder.write(tmp_path_factory.mktemp("encoder") / "encoder", fingerprint="tiny-encoder")


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds at 10 pictures a second: a scene that stands still, with a change every two seconds."""
    rng = np.random.default_rng(0)
    scenes = [rng.integers(0, 255, (40, 56, 3), np.uint8) for _ in range(3)]
    pictures = [scenes[i // 20] for i in range(60)]
    return video_files.write(
        tmp_path_factory.mktemp("videos") / "still.mp4", times_ms=range(0, 6000, 100), pictures=pictures
    )


def features(video: Path, encoder: Path, **settings):
    chosen = FrameSettings(**settings)
    return extract_features(
        video, load_encoder(encoder, at_once=chosen.workers), fps=FPS, stride=STRIDE, settings=chosen
    )


@pytest.mark.parametrize("skip_similar", [None, 0.05])
@pytest.mark.parametrize("batch", [1, 4, 100])
def test_workers_change_no_number(still, encoder, batch, skip_similar) -> None:
    alone = features(still, encoder, batch=batch, skip_similar=skip_similar)
    many = features(still, encoder, batch=batch, skip_similar=skip_similar, workers=3)
    np.testing.assert_array_equal(many.features, alone.features)
    assert many.timings.n_encoded == alone.timings.n_encoded


def test_similar_pictures_take_the_features_of_the_last_encoded_one(still, encoder) -> None:
    every, few = features(still, encoder), features(still, encoder, skip_similar=0.05, batch=2)
    assert (every.timings.n_encoded, few.timings.n_encoded) == (30, 3)
    np.testing.assert_allclose(few.features, np.repeat(every.features[::10], 10, axis=0), rtol=0, atol=1e-5)


def test_small_changes_add_up_and_a_small_thing_counts() -> None:
    preprocess = vision_encoder.PREPROCESS
    grey = np.full((48, 48, 3), 100, np.uint8)
    slowly = SimilarPictures(preprocess, 0.1)
    new = [slowly.is_new(preprocess(grey + np.uint8(10 * i))) for i in range(6)]
    assert new == [True, False, False, True, False, False]  # 30 / 255 is more than 0.1, 20 / 255 is not
    moved = grey.copy()
    moved[:6, :6] += 100  # one field of 64, whose change in the mean of the picture is 0.006
    sharp = SimilarPictures(preprocess, 0.1)
    assert [sharp.is_new(preprocess(picture)) for picture in (grey, moved, moved)] == [True, True, False]


@pytest.mark.parametrize("matrix", [None, (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)])
def test_fast_pictures_are_near_the_exact_ones(tmp_path: Path, matrix) -> None:
    smooth = np.linspace(0, 255, 64)[None, :, None] * np.linspace(0.2, 1, 48)[:, None, None]
    picture = np.repeat(smooth, 3, axis=2).astype(np.uint8)
    path = video_files.write(tmp_path / "a.mp4", pictures=[picture] * 10, display_matrix=matrix)
    preprocess = replace(vision_encoder.PREPROCESS, mean=(0.0,) * 3, std=(1.0,) * 3)
    with open_video(path) as source:
        for shown in source:
            assert shown.shape == shown.rgb.shape[:2]
            assert np.abs(prepare_fast(shown, preprocess) - preprocess(shown.rgb)).mean() < 1e-2


@pytest.mark.parametrize("rate", [1.0, 1.7])
def test_pictures_that_are_not_sampled_are_left_out_and_no_other(shared_data: Path, rate: float) -> None:
    path = shared_data / "real_video" / "one-by-one-person-detection.mp4"
    ends, counts, steps = [], [], []
    for only_at in (None, rate):
        with open_video(path, only_at=only_at) as source:
            steps.append([(s.step, s.picture.time_s) for s in sample(source, rate)])
            ends.append(source.end_s)
            counts.append(source.n_pictures)
            assert source.notes == ()
    assert steps[0] == steps[1]
    assert ends[0] == pytest.approx(ends[1])
    assert counts[1] < 0.9 * counts[0]


def test_fast_features_are_refused_by_a_detector_of_exact_ones_unless_allowed(encoder, still, tmp_path) -> None:
    bundle = tiny.write(tmp_path / "bundle", encoder=encoder)
    out = tmp_path / "data"
    extract_all([still], FeatureJob(encoder, out, FPS, STRIDE, preprocessing="fast"))
    spec = json.loads((out / "feature_spec.json").read_text(encoding="utf-8"))
    assert (spec["preprocessing"], spec["skip_similar"]) == ("fast", None)
    with pytest.raises(DataError, match="preprocessing is fast, the contract says exact"):
        detect_files(bundle, [out])
    allowed = detect_files(DetectSettings(bundle, preprocessing="fast"), [out])
    assert allowed.text == detect_files(DetectSettings(bundle, preprocessing="fast"), [still]).text
    with pytest.raises(FeatureContractError, match="preprocessing 'fast', asked for is 'exact'"):
        extract_all([still], FeatureJob(encoder, out, FPS, STRIDE))


def test_a_contract_names_its_preprocessing_only_where_it_is_not_exact(tmp_path) -> None:
    exact = FeatureContract("e", 8, 25.0, 5, None, "none")
    fast = replace(exact, preprocessing="fast")
    assert "preprocessing" not in exact.to_json()
    assert fast.to_json()["preprocessing"] == "fast"
    values = json.loads((tiny.write(tmp_path / "bundle") / "manifest.json").read_text(encoding="utf-8"))
    values["feature_contract"]["preprocessing"] = "fast"
    assert Manifest.from_json(values).feature_contract.preprocessing == "fast"
    check_feature_spec(fast, FeatureSpec("e", 8, 25.0, 5, preprocessing="fast"))


def test_the_count_of_encoded_pictures_is_reported(run, encoder, still, tmp_path) -> None:
    out = tmp_path / "data"
    options = ["--encoder", encoder, "--out", out, "--fps", FPS, "--stride", STRIDE, "--json", "-"]
    code, printed, errors = run("features", still, *options, "--skip-similar", "0.05")
    assert code == 0, errors
    report = json.loads(printed)
    assert (report["extracted"]["still"]["n_encoded"], report["extracted"]["still"]["n_snippets"]) == (3, 30)
    assert report["feature_spec"]["skip_similar"] == 0.05
    bundle = tiny.write(tmp_path / "bundle", encoder=encoder)
    code, _, errors = run("detect", bundle, still, "--skip-similar", "0.05", "--timings", tmp_path / "t.json")
    assert (code, "3 of 30 pictures encoded" in errors) == (0, True)
    total = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))["total"]
    assert (total["frames_encoded"], total["frames_sampled"]) == (3, 30)
    for wrong in (("--skip-similar", "1"), ("--preprocessing", "quick")):
        assert run("detect", bundle, still, *wrong)[0] == 2
