"""`detect --results`: many inputs, resumable."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
import video_files
import vision_encoder

from stale_edge.errors import BundleError, ClassBankError, DataError
from stale_edge.jobs.detection import detect_many
from stale_edge.jobs.pool import ERROR, run_all
from stale_edge.runtime.detect import detect_files
from stale_edge.runtime.detect_settings import DetectSettings, OutputSettings


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    encoder = vision_encoder.write(folder / "encoder", fingerprint="tiny-encoder")
    return tiny.write(folder / "bundle", encoder=encoder)


@pytest.fixture
def inputs(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "inputs"
    folder.mkdir()
    pictures = list(np.random.default_rng(0).integers(0, 255, (30, 40, 56, 3), np.uint8))
    video = video_files.write(folder / "holiday.mp4", times_ms=range(0, 3000, 100), pictures=pictures)
    np.save(folder / "v_1.npy", tiny.features(20))
    np.savez(folder / "v_2.npz", features=tiny.features(12, seed=3))
    return [video, folder / "v_1.npy", folder / "v_2.npz"]


def begun(results: Path) -> dict[str, int]:
    return {path.stem: path.stat().st_mtime_ns for path in results.glob("*.json")}


@pytest.mark.parametrize("output_format", ["json", "csv"])
def test_results_are_those_of_detect(bundle, inputs, tmp_path, output_format) -> None:
    many = detect_many(DetectSettings(bundle), inputs, tmp_path / "results", output=OutputSettings(output_format))
    assert many.text == detect_files(bundle, inputs, output=OutputSettings(output_format)).text
    again = detect_many(DetectSettings(bundle), inputs, tmp_path / "results", output=OutputSettings(output_format))
    assert (again.text, again.timings) == (many.text, many.timings)


def test_a_second_start_does_only_what_is_missing_or_changed(bundle, inputs, tmp_path) -> None:
    settings, results = DetectSettings(bundle), tmp_path / "results"
    detect_many(settings, inputs, results)
    before = begun(results)
    assert set(before) == {"holiday", "v_1", "v_2"}
    os.utime(inputs[0], ns=(1, 1))  # touched, not changed
    np.save(inputs[1], tiny.features(21))  # changed
    (results / "v_2.json").unlink()  # lost
    detect_many(settings, inputs, results)
    after = begun(results)
    assert {video for video in after if after[video] != before[video]} == {"v_1", "v_2"}


@pytest.mark.parametrize("change", [{"classes": (tiny.NAMES[0],)}, {"window": 8}, {"duration_s": 9.0}], ids=str)
def test_other_settings_are_other_work(bundle, inputs, tmp_path, change) -> None:
    results = tmp_path / "results"
    detect_many(DetectSettings(bundle), inputs, results)
    before = begun(results)
    run = detect_many(DetectSettings(bundle, **change), inputs, results)
    assert all(after != before[video] for video, after in begun(results).items())
    assert run.text == detect_files(DetectSettings(bundle, **change), inputs).text


def test_another_bundle_is_other_work_and_more_threads_are_not(bundle, inputs, tmp_path) -> None:
    results = tmp_path / "results"
    detect_many(DetectSettings(bundle), inputs, results)
    before = begun(results)
    detect_many(DetectSettings(bundle, threads=2), inputs, results)
    assert begun(results) == before
    other = tiny.write(tmp_path / "other", seed=5, encoder=bundle / "encoder")
    run = detect_many(DetectSettings(other), inputs, results)
    assert run.text == detect_files(other, inputs).text


def test_a_bad_input_costs_one_line_and_is_tried_again(bundle, inputs, tmp_path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_text("hello", encoding="utf-8")
    run = detect_many(DetectSettings(bundle), [*inputs, bad], tmp_path / "results")
    assert len(run.errors) == 1
    lines = (tmp_path / "results" / "errors.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["video"] for line in lines] == ["bad"]
    shutil.copy(inputs[0], bad)
    assert detect_many(DetectSettings(bundle), [*inputs, bad], tmp_path / "results").errors == ()
    assert not (tmp_path / "results" / "errors.jsonl").exists()


def test_what_no_input_is_to_blame_for_stops_the_run(bundle, inputs, tmp_path) -> None:
    with pytest.raises(ClassBankError, match="not in the class bank"):
        detect_many(DetectSettings(bundle, classes=("jmp",)), inputs, tmp_path / "results")
    with pytest.raises(BundleError, match="holds no visual encoder"):
        detect_many(DetectSettings(tiny.write(tmp_path / "without")), inputs, tmp_path / "results")
    with pytest.raises(DataError, match="cannot be made"):
        detect_many(DetectSettings(bundle), inputs, inputs[0] / "below")


def test_many_videos_of_one_file(bundle, tmp_path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "all.h5", "w") as file:
        for i in range(3):
            file[f"v_{i}"] = tiny.features(10 + i)
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.move(tmp_path / "all.h5", folder / "all.h5")
    run = detect_many(DetectSettings(bundle), [folder], tmp_path / "results")
    assert run.text == detect_files(bundle, [folder]).text
    assert set(begun(tmp_path / "results")) == {"v_0", "v_1", "v_2"}


def test_work_goes_on_after_a_bad_input() -> None:
    def make():
        def work(row):
            if row["video"] == "b":
                raise DataError("two\nlines")
            return {**row, "n": 1}

        return work

    rows = [{"video": name, "path": name} for name in "abc"]
    assert list(run_all(make, rows)) == [
        {"video": "a", "path": "a", "n": 1},
        {"video": "b", "path": "b", ERROR: "two lines"},
        {"video": "c", "path": "c", "n": 1},
    ]


def test_the_command_line(run, bundle, inputs, tmp_path) -> None:
    results = tmp_path / "results"
    code, first, _ = run("detect", bundle, *inputs, "--results", results, "--format", "csv")
    assert (code, len(begun(results))) == (0, 3)
    code, again, _ = run("detect", bundle, *inputs, "--results", results, "--format", "csv")
    assert (code, again) == (0, first)
    code, _, errors = run("detect", bundle, *inputs, "--ray")
    assert (code, "--results DIR" in errors) == (2, True)
