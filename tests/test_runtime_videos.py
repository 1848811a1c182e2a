"""`detect` on videos as they are: the encoder in the bundle or beside it, stages measured, windows, bad files."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import video_files
import vision_encoder

from stale_edge.bundle import Bundle, read_bundle, remove_classes, verify_bundle
from stale_edge.errors import BundleError, DataError, FeatureContractError, VerificationError
from stale_edge.jobs.extraction import FeatureJob, extract_all
from stale_edge.runtime import load_bundle, load_encoder
from stale_edge.runtime.detect import detect_files
from stale_edge.runtime.detect_settings import DetectSettings
from stale_edge.runtime.timings import StageTimings
from stale_edge.video import extract_features

FPS, STRIDE = 25.0, 5
"""Of the tiny bundle's feature contract."""


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vision_encoder.write(tmp_path_factory.mktemp("encoder") / "encoder", fingerprint="tiny-encoder")


@pytest.fixture(scope="module")
def bundle(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("bundle") / "bundle", encoder=encoder)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pictures = list(np.random.default_rng(0).integers(0, 255, (60, 40, 56, 3), np.uint8))
    path = tmp_path_factory.mktemp("videos") / "holiday.mp4"
    return video_files.write(path, times_ms=range(0, 6000, 100), pictures=pictures)


def found(run) -> dict:
    return json.loads(run.text)["results"]


def test_a_video_gives_what_its_features_give(bundle, encoder, video, tmp_path) -> None:
    direct = found(detect_files(bundle, [video]))["holiday"]
    assert direct
    features = extract_features(video, load_encoder(bundle), fps=FPS, stride=STRIDE)
    assert features.features.shape == (30, tiny.CHANNELS)
    wanted = load_bundle(bundle).detect(features.features, duration_s=features.span_s)
    assert [d["label"] for d in direct] == [d.label for d in wanted]
    np.testing.assert_allclose([d["segment"] for d in direct], [(d.start_s, d.end_s) for d in wanted])
    extract_all([video], FeatureJob(encoder, tmp_path / "data", FPS, STRIDE))
    assert found(detect_files(bundle, [tmp_path / "data"]))["holiday"] == direct
    assert found(detect_files(bundle, [video.parent]))["holiday"] == direct


@pytest.mark.parametrize("overlap", [None, 3])
def test_windows_on_a_video_give_what_windows_on_its_features_give(bundle, encoder, video, tmp_path, overlap) -> None:
    extract_all([video], FeatureJob(encoder, tmp_path / "data", FPS, STRIDE))
    by_features = found(detect_files(DetectSettings(bundle, window=10, overlap=overlap), [tmp_path / "data"]))[
        "holiday"
    ]
    by_video = found(detect_files(DetectSettings(bundle, window=10, overlap=overlap), [video]))["holiday"]
    assert [d["label"] for d in by_video] == [d["label"] for d in by_features]
    np.testing.assert_allclose([d["segment"] for d in by_video], [d["segment"] for d in by_features], atol=1e-9)


def test_the_encoder_may_lie_beside_the_bundle(bundle, encoder, video, tmp_path) -> None:
    without = tiny.write(tmp_path / "without")
    with pytest.raises(BundleError, match="holds no visual encoder to read videos with; give --encoder"):
        detect_files(without, [video])
    assert found(detect_files(DetectSettings(without, encoder=encoder), [video])) == found(
        detect_files(bundle, [video])
    )
    other = vision_encoder.write(tmp_path / "other", fingerprint="sha256:other")
    with pytest.raises(FeatureContractError, match="encoder is 'sha256:other', the contract says 'tiny-encoder'"):
        detect_files(DetectSettings(without, encoder=other), [video])
    with pytest.raises(BundleError, match="no int8 file; it has: fp32"):
        detect_files(DetectSettings(bundle, encoder_precision="int8"), [video])


def test_features_of_another_encoder_or_rate_are_refused_with_both_values(bundle, video, tmp_path) -> None:
    other = vision_encoder.write(tmp_path / "other", fingerprint="sha256:other")
    extract_all([video], FeatureJob(other, tmp_path / "data", 10.0, 2))
    with pytest.raises(DataError) as refused:
        detect_files(bundle, [tmp_path / "data"])
    for said in (
        "'sha256:other', the contract says 'tiny-encoder'",
        "fps is 10.0, the contract says 25.0",
        "stride is 2",
    ):
        assert said in str(refused.value)


def test_the_bundle_carries_the_encoder_through_edits_and_finds_damage(encoder, tmp_path) -> None:
    path = tiny.write(tmp_path / "bundle", encoder=encoder)
    remove_classes(path, [tiny.NAMES[0]])
    held: Bundle = verify_bundle(path)
    assert len(held.manifest.of_role("visual_encoder")) == 2
    assert load_encoder(path).fingerprint == "tiny-encoder"
    file = path / "encoder" / "manifest.json"
    file.write_text(file.read_text(encoding="utf-8").replace("tiny-vision", "another"), encoding="utf-8")
    with pytest.raises(VerificationError, match=r"encoder/manifest\.json has"):
        verify_bundle(path)


def test_an_encoder_that_is_not_the_contracts_does_not_get_in(tmp_path) -> None:
    for name, values, message in (
        ("other", {"fingerprint": "sha256:other"}, "encoder is 'sha256:other', the contract says 'tiny-encoder'"),
        ("wide", {"fingerprint": "tiny-encoder", "dim": 9}, "C is 9, the contract says 8"),
    ):
        encoder = vision_encoder.write(tmp_path / name, **values)
        with pytest.raises(FeatureContractError, match=message):
            tiny.write(tmp_path / "bundle", encoder=encoder)
    assert not (tmp_path / "bundle").exists()
    with pytest.raises(BundleError, match="not a visual encoder"):
        tiny.write(tmp_path / "bundle", encoder=tmp_path)


def test_bad_videos_cost_a_line_each(bundle, video, tmp_path) -> None:
    (tmp_path / "text.mp4").write_text("hello", encoding="utf-8")
    sound = video_files.write_sound(tmp_path / "sound.mp4")
    run = detect_files(bundle, [tmp_path / "text.mp4", sound, video])
    assert list(found(run)) == ["holiday"]
    assert len(run.errors) == 2
    assert "there is no video in it" in run.errors[1]


def test_what_could_not_be_read_is_said(bundle, tmp_path) -> None:
    pictures = list(np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3), np.uint8))
    path = video_files.write(
        tmp_path / "a.mp4", times_ms=range(0, 4000, 100), pictures=pictures, options={"movflags": "faststart"}
    )
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    run = detect_files(bundle, [path])
    assert "truncated" in run.notes["a"][0]
    assert all(d["segment"][1] < 3 for d in found(run)["a"])  # of 4 announced seconds half could be read


def test_stages_are_measured(bundle, encoder, video, tmp_path) -> None:
    run = detect_files(bundle, [video])
    timings = run.timings["holiday"]
    assert all(timings.seconds(stage) > 0 for stage in StageTimings.STAGES)
    assert run.has_videos
    said = run.total.to_json()
    assert said["video_s"] == 6.0
    assert said["times_real_time"]["total"] == pytest.approx(6.0 / said["seconds"]["total"])
    extract_all([video], FeatureJob(encoder, tmp_path / "data", FPS, STRIDE))
    features = detect_files(bundle, [tmp_path / "data"])
    assert (features.total.decode_s, features.total.encoder_s, features.has_videos) == (0.0, 0.0, False)
    assert features.total.times_real_time(0.0) is None


def test_measuring_changes_nothing(bundle) -> None:
    localizer, features = load_bundle(bundle), tiny.features(40)
    for options in ({}, {"window": 10}):
        found = localizer.measure(features, duration_s=8.0, keep_scores=True, **options)
        assert found.detections == localizer.detect(features, duration_s=8.0, **options)
        assert found.timings.detector_s > 0
        assert found.timings.postprocess_s > 0
        assert len(found.class_scores or ()) == (7 if options else 1)
        assert localizer.measure(features, duration_s=8.0, **options).class_scores is None


def test_the_command_line_says_where_the_time_went(run, bundle, video, tmp_path) -> None:
    code, out, errors = run("detect", bundle, video, "--timings", tmp_path / "timings.json")
    assert (code, list(json.loads(out)["results"])) == (0, ["holiday"])
    assert "6.0 s of video" in errors
    assert all(stage in errors for stage in StageTimings.STAGES)
    said = json.loads((tmp_path / "timings.json").read_text(encoding="utf-8"))
    assert set(said["videos"]) == {"holiday"}
    (tmp_path / "text.mp4").write_text("hello", encoding="utf-8")
    code, _, errors = run("detect", bundle, tmp_path / "text.mp4")
    assert (code, errors.count("error: ")) == (1, 1)


def test_the_device_needs_neither_torch_nor_transformers(bundle, video) -> None:
    script = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'onnx', 'tokenizers'): sys.modules[name] = None\n"
        f"sys.argv = ['stale-edge', 'detect', {str(bundle)!r}, {str(video)!r}]\n"
        "from stale_edge.cli.app import main\nmain()\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert list(json.loads(result.stdout)["results"]) == ["holiday"], result.stderr


def test_features_need_no_pyav(bundle, tmp_path) -> None:
    np.save(tmp_path / "v_1.npy", tiny.features(20))
    script = (
        "import sys\n"
        "for name in ('av', 'PIL'): sys.modules[name] = None\n"
        f"sys.argv = ['stale-edge', 'detect', {str(bundle)!r}, {str(tmp_path / 'v_1.npy')!r}]\n"
        "from stale_edge.cli.app import main\nmain()\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert list(json.loads(result.stdout)["results"]) == ["v_1"], result.stderr


def test_a_contract_without_rates_takes_no_videos(tmp_path) -> None:
    from stale_edge.runtime.video_reader import VideoReader

    bundle = tiny.write(tmp_path / "bundle")
    contract = read_bundle(bundle).manifest.feature_contract
    timeless = type(contract)(**{**contract.to_json(), "fps": None})
    with pytest.raises(DataError, match="does not say at which fps and stride"):
        _ = VideoReader(bundle, timeless, encoder=tmp_path).opened


def test_detect_takes_names_and_files_as_the_command_does(bundle, encoder, video, tmp_path) -> None:
    localizer, names = load_bundle(bundle), tiny.NAMES[:2]
    features = extract_features(video, load_encoder(bundle), fps=FPS, stride=STRIDE)
    wanted = localizer.detect(features.features, duration_s=features.span_s, class_bank=names)
    assert wanted
    assert localizer.detect(str(video), classes=names) == wanted
    np.save(tmp_path / "features.npy", features.features)
    assert localizer.detect(tmp_path / "features.npy", classes=names) == wanted, "fps and stride imply the duration"
    with pytest.raises(ValueError, match="classes or class_bank, not both"):
        localizer.detect(video, classes=names, class_bank=names)
    with pytest.raises(ValueError, match="duration_s, video_label and video_score are for features"):
        localizer.detect(video, duration_s=3.0)
    shown = repr(localizer)
    assert f"3 classes, features (T, {tiny.CHANNELS}), {bundle}" in shown
    assert "onnxruntime fp32 on CPUExecutionProvider" in shown
    assert "3 classes (jump, pole vault, Ćwiczenia), width 6" in repr(localizer.class_bank)
    assert "fp32 on CPUExecutionProvider" in repr(load_encoder(encoder))
