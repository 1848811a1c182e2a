"""The command line: exit codes, one-line errors, JSON on standard output, and an example in every help."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny

Run = Callable[..., tuple[int, str, str]]

COMMANDS = [
    ["demo"],
    ["data"],
    ["data", "simulate"],
    ["data", "check"],
    ["train"],
    ["import"],
    ["evaluate"],
    ["score"],
    ["export"],
    ["verify"],
    ["inspect"],
    ["classes"],
    ["classes", "list"],
    ["classes", "add"],
    ["classes", "remove"],
    ["detect"],
    ["watch"],
    ["serve"],
    ["push"],
    ["pull"],
    ["convert"],
    ["bench"],
    ["scores"],
    ["scores", "train"],
    ["scores", "predict"],
    ["scores", "convert"],
    ["study"],
    ["study", "data-efficiency"],
    ["study", "open-set"],
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("cli") / "bundle")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_help_ends_with_an_example(run: Run, command: list[str]) -> None:
    code, out, _ = run(*command, "--help")
    assert code == 0
    lines = [line.strip() for line in out.strip().splitlines() if line.strip()]
    tail = " ".join(lines[-3:])
    assert "Example:" in tail
    assert f"stale-edge {' '.join(command)}" in tail


def test_inspect_fits_80_columns(run: Run, bundle: Path) -> None:
    code, out, _ = run("inspect", bundle)
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "format: stale-edge-bundle/2"
    assert "  names        jump, pole vault, Ćwiczenia" in lines
    assert any(line.split() == ["path", "bytes", "role", "runtime", "precision"] for line in lines)
    assert [line for line in lines if len(line) > 80 and str(bundle) not in line] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["score"],
        ["bench"],
        ["nonsense"],
        ["verify"],
        ["export", "run", "--out", "bundle", "--formats", "tflite"],
        ["export", "run", "--out", "bundle", "--precisions", "fp8"],
        ["export", "run", "--out", "bundle", "--formats", ""],
        ["data", "simulate", "--out", "data", "--classes", "100000"],
        ["detect", "bundle", "v.npy", "--duration", "inf"],
        ["detect", "bundle", "v.npy", "--overlap", "5"],
        ["evaluate", "bundle", "--data", "data", "--window", "10", "--overlap", "6"],
        ["bench", "--device", "tpu"],
        ["bench", "--device", "cpu", "--threads", "0"],
        ["bench", "--device", "cpu", "--lengths", "100,abc"],
        ["bench", "BUNDLE", "--device", "cpu", "--architecture", "paper"],
        ["score", "--truth", "a.json", "--predictions", "b.json", "--tiou", "0.9:0.5:0.1"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(run: Run, arguments: list[str]) -> None:
    code, out, err = run(*arguments)
    assert code == 2
    assert out == ""
    assert err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["score", "--truth", "absent.json", "--predictions", "absent.json"], "absent.json"),
        (["verify", "absent"], "absent"),
        (["inspect", "absent"], "absent"),
        (["import", "absent.pth.tar", "--out", "checkpoint"], "absent.pth.tar"),
        (["evaluate", "absent", "--data", "absent"], "absent"),
        (["export", "absent", "--out", "bundle"], "absent"),
        (["data", "check", "absent"], "absent"),
        (["train", "--data", "absent", "--out", "run", "--set", "train.epoch=3"], "train.epochs"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_one_line_and_exit_code_1(run: Run, arguments: list[str], named: str) -> None:
    code, _, err = run(*arguments)
    assert code == 1
    lines = err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert named in lines[0]


def test_score_writes_the_contract_to_standard_output(run: Run, tmp_path: Path) -> None:
    truth = {
        "version": "1",
        "taxonomy": [],
        "database": {
            "v": {"duration": 10.0, "subset": "validation", "annotations": [{"segment": [0.0, 5.0], "label": "jump"}]}
        },
    }
    found = {
        "version": "1",
        "results": {"v": [{"label": "jump", "score": 0.9, "segment": [0.0, 4.0]}]},
        "external_data": {},
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "found.json").write_text(json.dumps(found))
    code, out, err = run(
        "score", "--truth", tmp_path / "truth.json", "--predictions", tmp_path / "found.json", "--json", "-"
    )
    result = json.loads(out)
    assert code == 0
    # tIoU is 0.8: found at 0.50 ... 0.80, missed at 0.85, 0.90 and 0.95.
    assert result["mAP"] == pytest.approx([100.0] * 7 + [0.0] * 3)
    assert result["average_mAP"] == pytest.approx(70.0)
    assert set(result) == {"average_mAP", "mAP", "tiou_thresholds", "per_class"}
    assert "average" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--data", "data", "--out", "run"],
        ["evaluate", "run/best", "--data", "data"],
        ["export", "run/best", "--out", "bundle"],
        ["import", "release.pth.tar", "--out", "run"],
        ["demo"],
    ],
    ids=" ".join,
)
def test_without_torch_the_extra_is_named(arguments: list[str]) -> None:
    script = "import sys; sys.modules['torch'] = None; from stale_edge.cli.app import main; main()"
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == ("error: this command needs torch, which is not installed: pip install 'stale-edge[train]'\n")


def test_evaluate_takes_the_thresholds_of_thumos(run: Run, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "features").mkdir()
    np.save(tmp_path / "features" / "v.npy", tiny.features(20))
    action = {"segment": [0.0, 5.0], "label": tiny.NAMES[0]}
    database = {"v": {"duration": 10.0, "subset": "validation", "annotations": [action]}}
    (tmp_path / "annotations.json").write_text(json.dumps({"version": "1", "taxonomy": [], "database": database}))
    (tmp_path / "feature_spec.json").write_text(json.dumps({"channels": tiny.CHANNELS}))
    code, out, _ = run("evaluate", bundle, "--data", tmp_path, "--tiou", "0.3:0.7:0.1", "--json", "-")
    assert code == 0
    assert json.loads(out)["tiou_thresholds"] == pytest.approx([0.3, 0.4, 0.5, 0.6, 0.7])
    assert run("evaluate", bundle, "--data", tmp_path, "--tiou", "0")[0] == 2


def test_verify_says_yes_and_refuses_a_changed_byte_with_3(run: Run, bundle: Path, tmp_path: Path) -> None:
    code, out, _ = run("verify", bundle, "--json", "-")
    assert code == 0
    said = json.loads(out)
    assert (said["verified"], said["format"]) == (True, "stale-edge-bundle/2")
    broken = tmp_path / "broken"
    shutil.copytree(bundle, broken)
    file = next(broken.glob("*.onnx"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    code, _, err = run("verify", broken)
    assert code == 3
    assert file.name in err


def test_detect_writes_every_format(run: Run, bundle: Path, tmp_path: Path) -> None:
    features = tiny.features()
    np.save(tmp_path / "v_one.npy", features)
    code, out, _ = run("detect", bundle, tmp_path / "v_one.npy", "--duration", "30")
    assert code == 0
    detections = json.loads(out)["results"]["v_one"]
    assert detections
    assert all(0 <= d["segment"][0] <= d["segment"][1] <= 30 for d in detections)
    for name, start in (("csv", "video,label,score,start_s,end_s"), ("srt", "1\n"), ("html", "<!doctype html>")):
        target = tmp_path / f"out.{name}"
        code, out, _ = run(
            "detect", bundle, tmp_path / "v_one.npy", "--duration", "30", "--format", name, "--out", target
        )
        assert (code, out) == (0, "")
        assert target.read_text(encoding="utf-8").lower().startswith(start)


def test_detect_writes_what_a_reader_asks_for_and_says_what_is_left_out(run: Run, bundle: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "v_one.npy", tiny.features())
    every = ("detect", bundle, tmp_path / "v_one.npy", "--duration", "30")
    scores = sorted((d["score"] for d in json.loads(run(*every)[1])["results"]["v_one"]), reverse=True)
    assert len(scores) > 3
    limit = (scores[2] + scores[3]) / 2 if scores[2] > scores[3] else scores[2]
    for options in (("--top-k", 3), ("--min-score", limit)):
        code, out, err = run(*every, "--format", "csv", *options)
        rows = out.splitlines()[1:]
        assert (code, len(rows)) == (0, 3)
        assert sorted((float(row.split(",")[2]) for row in rows), reverse=True) == scores[:3]
        assert f"1 video, 3 detections, {len(scores) - 3} left out (written: " in err
    page = run(*every, "--format", "html", "--top-k", 3)[1]
    assert f"{len(scores) - 3} detections with lower scores are not in this page" in page


def test_detect_goes_on_after_a_bad_file_and_says_so(run: Run, bundle: Path, tmp_path: Path) -> None:
    features = tiny.features()
    np.save(tmp_path / "v_good.npy", features)
    np.save(tmp_path / "v_bad.npy", np.full_like(features, np.nan))
    code, out, err = run("detect", bundle, tmp_path / "v_good.npy", tmp_path / "v_bad.npy", "--duration", "30")
    assert code == 1
    assert list(json.loads(out)["results"]) == ["v_good"]
    assert "v_bad.npy" in err


def test_classes_are_listed_and_removed(run: Run, tmp_path: Path) -> None:
    bundle = tiny.write(tmp_path / "bundle")
    _, out, _ = run("classes", "list", bundle, "--json", "-")
    names = json.loads(out)["classes"]
    code, out, _ = run("classes", "remove", bundle, names[0], "--json", "-")
    assert code == 0
    assert json.loads(out)["classes"] == names[1:]
    assert run("verify", bundle)[0] == 0


def test_help_is_light() -> None:
    """`--help` must not load what it does not need: numpy, onnxruntime, torch."""
    script = (
        "import sys; import stale_edge.cli.app\n"
        "found = sorted({'numpy', 'onnxruntime', 'torch', 'matplotlib'} & set(sys.modules))\n"
        "sys.exit(f'imported: {found}' if found else 0)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_bench_on_a_gpu_that_is_not_there_is_one_line(run: Run) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    code, _, err = run("bench", "--device", "cuda", "--lengths", "100")
    assert code == 1
    assert "CUDA" in err
