"""The recommendation: choice, reasons, and storage. No test depends on how long anything takes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from typer.testing import CliRunner

from stale_edge.benchmarking import decisions
from stale_edge.benchmarking.decisions import ComparedRuntime, compare_runtimes
from stale_edge.benchmarking.recommend import choose, recommendation_lines, recommendation_rows, run_with_recommendation
from stale_edge.benchmarking.several_networks import join_networks
from stale_edge.bundle import FeatureContract, read_bundle
from stale_edge.cli.app import app
from stale_edge.config import BenchConfig
from stale_edge.errors import BundleError, ConfigError, DataError
from stale_edge.runtime import load_bundle
from stale_edge.runtime.recommendation import (
    Choice,
    Recommendation,
    read_recommendation,
    recommendation_path,
    write_recommendation,
)
from stale_edge.runtime.recommended_localizer import RecommendedLocalizer
from stale_edge.segments import Detection


def _silent(stage: str, done: int, total: int, note: str = "") -> None:
    del stage, done, total, note


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tiny.write(tmp_path / "bundle", precisions=("fp32", "int8"), resample_to=None)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Ten validation videos of 100 s with one action each, where the fakes below find it, and one video to train on."""
    root = tmp_path / "data"
    (root / "features").mkdir(parents=True)
    database = {}
    for i in range(11):
        np.save(root / "features" / f"v{i}.npy", tiny.features(12, seed=i))
        subset = "validation" if i < 10 else "training"
        action = {"label": "jump", "segment": [10.0, 60.0]}
        database[f"v{i}"] = {"duration": 100.0, "subset": subset, "annotations": [action]}
    (root / "annotations.json").write_text(json.dumps({"database": database}))
    spec = {"encoder": "tiny-encoder", "channels": tiny.CHANNELS, "fps": 25.0, "stride": 5}
    (root / "feature_spec.json").write_text(json.dumps(spec))
    return root


class Finds:
    """Finds the action of every video, moved by `shift` seconds in the first `n_moved` of them."""

    def __init__(self, contract: FeatureContract, shift: float, n_moved: int, score: float) -> None:
        self.feature_contract, self.shift, self.n_moved, self.score = contract, shift, n_moved, score

    def detect(self, features: Any, *, duration_s: float) -> list[Detection]:
        assert features.shape == (12, tiny.CHANNELS)
        assert duration_s == 100.0
        self.n_moved -= 1
        shift = self.shift if self.n_moved >= 0 else 0.0
        best = Detection("jump", 0.9, 10.0 + shift, 60.0 + shift)
        tail = Detection("jump", self.score, 70.0 + 5 * shift, 80.0 + 5 * shift)
        return [best, tail] if self.score else [best]


def _fake(monkeypatch: pytest.MonkeyPatch, contract: FeatureContract, **finders: tuple[float, int, float]) -> None:
    def load(path: Path, *, runtime: str, precision: str, threads: int) -> Finds:
        del path, runtime, threads
        if precision not in finders:
            raise BundleError(f"no {precision} here")
        return Finds(contract, *finders[precision])

    monkeypatch.setattr(decisions, "load_bundle", load)


def test_what_decides_alike_is_kept_and_what_does_not_is_refused(
    bundle: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = read_bundle(bundle).manifest.feature_contract
    _fake(monkeypatch, contract, fp32=(0, 0, 0.1), bf16=(0.5, 10, 0.1), int8=(2.0, 1, 0.1), fp16=(20.0, 10, 0.0))
    pairs = [("onnxruntime", "fp32"), ("openvino", "bf16"), ("onnxruntime", "int8"), ("onnxruntime", "fp16")]
    pairs.append(("openvino", "int8-static"))
    fp32, bf16, int8, fp16, static = compare_runtimes(bundle, data, pairs, threads=1, progress=_silent)
    assert (fp32.kept, fp32.change, fp32.average_mAP) == (True, 0.0, pytest.approx(100.0))
    # All moved by half a second of fifty: tIoU 0.98 with what fp32 finds. The tail, below 0.3 of 0.9, is nobody's.
    assert (bf16.kept, bf16.n_detections, bf16.matched) == (True, 10, 10)
    # One of ten moved by two seconds: tIoU 48 / 52 < 0.95.
    assert (int8.kept, int8.matched) == (False, 9)
    assert "90.0% of 10 detections found again, at least 98% must be" in int8.reason
    # All moved by twenty seconds: tIoU 30 / 70 with the annotations too.
    assert fp16.change == pytest.approx(-100.0)
    assert "average mAP changes by -100.00 points, allowed 0.3" in fp16.reason
    assert (static.kept, static.average_mAP) == (False, None)
    assert "cannot be run: no int8-static here" in static.reason


def test_a_baseline_that_finds_nothing_compares_nothing(
    bundle: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Finds, "detect", lambda *_, **__: [])
    _fake(monkeypatch, read_bundle(bundle).manifest.feature_contract, fp32=(0, 0, 0))
    with pytest.raises(DataError, match="onnxruntime fp32 finds nothing in its validation videos"):
        compare_runtimes(bundle, data, [], threads=1, progress=_silent)


def _row(runtime: str, precision: str, length: int, median: float, **changes: Any) -> dict[str, Any]:
    row = {"variant": "detector", "device": "cpu", "runtime": runtime, "precision": precision, "length": length}
    return row | {"seconds": {"median": median}, "speedup": 2.0 / median, "speedup_as_trained": 0.5 / median} | changes


def test_the_fastest_kept_one_is_chosen_for_each_length() -> None:
    compared = [
        ComparedRuntime("onnxruntime", "fp32", True, ""),
        ComparedRuntime("onnxruntime", "int8", True, ""),
        ComparedRuntime("openvino", "bf16", False, "decides differently"),
    ]
    rows = [
        _row("onnxruntime", "fp32", 100, 0.2),
        _row("onnxruntime", "int8", 100, 0.1),
        _row("openvino", "bf16", 100, 0.01),
        _row("onnxruntime", "int8", 100, 0.001, variant="localizer"),
        _row("onnxruntime", "fp32", 1000, 1.0),
        _row("onnxruntime", "int8", 1000, 4.0),
        _row("pytorch", "fp32", 1000, 0.1),
    ]
    short, long = choose(rows, compared)
    assert (short["length"], short["runtime"], short["precision"], short["median"]) == (100, "onnxruntime", "int8", 0.1)
    assert (short["speedup"], short["fp32_speedup"], short["int8_speedup"]) == (20.0, 10.0, 20.0)
    assert (long["length"], long["precision"]) == (1000, "fp32")
    described = {
        "lengths": [short, long],
        "runtimes": [one.to_json() for one in compared],
        "rule": "r",
        "judged_on": "d",
    }
    assert recommendation_rows(described)[0][:5] == ["100", "2.5 x", "5 x", "5 x", "onnxruntime int8"]
    lines = recommendation_lines(described | {"written": None})
    assert "  openvino bf16: REFUSED: decides differently" in lines
    assert choose(rows, compared[2:]) == []


def test_the_nearest_length_by_ratio_decides() -> None:
    recommendation = Recommendation((Choice(100, "a", "x"), Choice(1000, "b", "y")))
    assert [recommendation.choose(t)[0] for t in (1, 100, 316, 317, 1000, 5000)] == ["a", "a", "a", "b", "b", "b"]


def test_a_choice_is_found_again_and_only_for_what_it_was_made(bundle: Path, cache: Path, tmp_path: Path) -> None:
    opened = read_bundle(bundle)
    before = sorted(path.name for path in bundle.iterdir())
    choice = Recommendation((Choice(20, "onnxruntime", "int8"), Choice(10, "onnxruntime", "fp32")))
    path = write_recommendation(opened, choice, threads=1, reasons={"rule": "r"})
    assert path == recommendation_path(opened, threads=1)
    assert path.is_relative_to(cache / "stale-edge" / "recommendations")
    assert sorted(p.name for p in bundle.iterdir()) == before  # a bundle is sealed
    assert [c.length for c in read_recommendation(opened, threads=1).choices] == [10, 20]
    with pytest.raises(BundleError, match=r"with 2 threads: run stale-edge bench .* --recommend --data DIR"):
        read_recommendation(opened, threads=2)
    other = tiny.write(tmp_path / "other", seed=3)
    with pytest.raises(BundleError, match="nothing is recommended for this bundle on this machine"):
        load_bundle(other, runtime="auto")
    for damaged in ("{", '{"format": "else"}', '{"format": "stale-edge-recommendation/1", "choices": []}'):
        path.write_text(damaged)
        with pytest.raises(BundleError, match="not a readable recommendation"):
            read_recommendation(opened, threads=1)


def test_a_relative_cache_folder_is_ignored(bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "somewhere")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert recommendation_path(read_bundle(bundle), threads=1).is_relative_to(tmp_path / ".cache")


def test_auto_runs_what_was_chosen_for_the_length(bundle: Path) -> None:
    choices = (Choice(10, "onnxruntime", "fp32"), Choice(40, "onnxruntime", "int8"))
    write_recommendation(read_bundle(bundle), Recommendation(choices), threads=1, reasons={})
    localizer = load_bundle(bundle, runtime="auto")
    assert isinstance(localizer, RecommendedLocalizer)
    assert localizer.runtime == "auto"
    assert [localizer.chosen(t).precision for t in (5, 60)] == ["fp32", "int8"]
    for length in (5, 60):
        features = tiny.features(length)
        expected = load_bundle(bundle).detect(features, duration_s=9.0)
        assert localizer.detect(features, duration_s=9.0) == expected
        np.testing.assert_allclose(
            localizer.forward(features)["masks"],
            tiny.outputs(features[None], tiny.bank().embeddings)["masks"][0],
            atol=1e-5,
        )
    with pytest.raises(ValueError, match="chooses the precision; got precision='int8'"):
        load_bundle(bundle, runtime="auto", precision="int8")


def test_from_measuring_to_detecting(bundle: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way with real processes; an int8 that is fp32 under another name is kept."""
    monkeypatch.setattr("stale_edge.benchmarking.row_plan.is_installed", lambda runtime: runtime != "openvino")
    config = BenchConfig(lengths=(12,), repeats=1, variants=("detector",), runtimes=("onnxruntime",), peak_tmacs=1.0)
    result = run_with_recommendation(config, bundle=bundle, data=data, progress=_silent)
    chosen = result["recommendation"]
    assert [(one["precision"], one["kept"], one["change"]) for one in chosen["runtimes"]] == [
        ("fp32", True, 0.0),
        ("int8", True, 0.0),
    ]
    fastest = min(result["rows"], key=lambda row: row["seconds"]["median"])
    assert [(one["length"], one["precision"]) for one in chosen["lengths"]] == [(12, fastest["precision"])]
    json.dumps(result, allow_nan=False)
    assert json.loads(Path(chosen["written"]).read_text())["reasons"]["rule"] == chosen["rule"]
    out = tmp_path / "found.json"
    arguments = ["detect", str(bundle), str(data / "features" / "v0.npy"), "--runtime", "auto", "--out", str(out)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert json.loads(out.read_text())["results"]["v0"]
    assert CliRunner().invoke(app, [*arguments, "--precision", "int8"]).exit_code == 2


def test_a_bundle_is_compared_and_measured_without_torch(bundle: Path, data: Path) -> None:
    script = """
import sys
from pathlib import Path
sys.modules["torch"] = None
from stale_edge.benchmarking.recommend import run_with_recommendation
from stale_edge.config import BenchConfig
bundle, data = map(Path, sys.argv[1:])
config = BenchConfig(lengths=(12,), repeats=1, variants=("detector",), precisions=("fp32",), peak_tmacs=1.0)
chosen = run_with_recommendation(config, bundle=bundle, data=data, progress=lambda *_: None)["recommendation"]
assert chosen["written"] and chosen["lengths"][0]["precision"] == "fp32", chosen
"""
    result = subprocess.run([sys.executable, "-c", script, bundle, data], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_a_bundle_and_data_belong_together(bundle: Path, data: Path) -> None:
    with pytest.raises(ConfigError, match="needs --data DIR"):
        run_with_recommendation(BenchConfig(), bundle=bundle, progress=_silent)
    with pytest.raises(ConfigError, match="takes --data for a bundle"):
        run_with_recommendation(BenchConfig(), data=data, progress=_silent)
    with pytest.raises(ConfigError, match="use --device cpu"):
        run_with_recommendation(BenchConfig(device="all"), bundle=bundle, data=data, progress=_silent)


def _compared(change: float, matched: int, *, kept: bool) -> ComparedRuntime:
    return ComparedRuntime("onnxruntime", "int8", kept, "", 50.0 + change, change, 1000, matched)


@pytest.mark.parametrize(
    ("networks", "kept", "sure"),
    [
        # One of three lies beyond the limit of 0.3 points, the mean does not.
        ([(0.1, 990, True), (-0.4, 990, False), (0.0, 990, True)], True, False),
        ([(0.1, 990, True), (-0.2, 990, True), (0.0, 990, True)], True, True),
        # More than twice the limit away: refused whatever the mean is.
        ([(0.4, 990, False), (-0.7, 990, False), (0.0, 990, True)], False, False),
        ([(0.1, 990, True), (0.0, 955, False), (0.0, 999, True)], False, False),
        ([(0.5, 990, False), (0.4, 990, False), (0.5, 970, False)], False, True),
    ],
)
def test_the_mean_of_several_networks_decides(networks, kept: bool, sure: bool) -> None:
    by_network = [[_compared(change, matched, kept=alone)] for change, matched, alone in networks]
    (joined,) = join_networks(by_network)
    assert (joined.kept, joined.sure, joined.n_detections) == (kept, sure, 3000)
    assert joined.change == pytest.approx(sum(change for change, _, _ in networks) / 3)
    assert [one["change"] for one in joined.by_network] == [change for change, _, _ in networks]
    worst = min(matched for _, matched, _ in networks) / 10
    assert f"(worst {worst:.1f}%); {'sure' if sure else 'not sure'}: " in joined.reason


def test_what_cannot_be_run_with_one_network_is_refused() -> None:
    broken = ComparedRuntime("onnxruntime", "int8", kept=False, reason="cannot be run: no such file")
    (joined,) = join_networks([[_compared(0.0, 1000, kept=True)], [broken]])
    assert (joined.kept, joined.reason) == (False, broken.reason)


def test_networks_are_trained_alike_on_every_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    from stale_edge.benchmarking.torch_rows import trained_network

    class Trained(Exception):  # noqa: N818 - no error
        pass

    def train(config: Any, *_: Any, **__: Any) -> None:
        raise Trained(config.train.precision, torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())

    monkeypatch.setattr(trained_network, "train", train)
    monkeypatch.setattr(trained_network, "N_VIDEOS", 60)
    threads = torch.get_num_threads()
    with pytest.raises(Trained) as caught:
        trained_network.make_trained_bundle(tmp_path, [], architecture="release", seed=0, progress=_silent)
    assert caught.value.args == ("fp32", 1, True)
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == (threads, False)
