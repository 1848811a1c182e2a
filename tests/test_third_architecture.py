"""An architecture from outside, `tiny_points`, goes through all stages without a change of the package."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tiny_points
import training_data
from typer.testing import CliRunner

from stale_edge import load_bundle
from stale_edge.bundle import verify_bundle
from stale_edge.cli.app import app
from stale_edge.config import Config, PointsConfig, config_from_dict
from stale_edge.data import open_data_set
from stale_edge.decoding import POLICIES
from stale_edge.errors import StaleEdgeError
from stale_edge.exporting import export_checkpoint
from stale_edge.model.architectures import ARCHITECTURES, Architecture
from stale_edge.runtime.evaluate import evaluate_bundle
from stale_edge.training import train
from stale_edge.training.train_result import TrainResult


def test_it_takes_fewer_than_150_lines() -> None:
    assert len(Path(tiny_points.__file__).read_text(encoding="utf-8").splitlines()) < 150


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training_data.write_data_set(tmp_path_factory.mktemp("data") / "set", n_videos=24)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, data: Path) -> TrainResult:
    with _with_row() as architectures:
        config: Config = config_from_dict(
            {
                "model": {"architecture": "tiny-points"},
                "train": {"epochs": 60, "batch_size": 4, "n_snippets": 24, "learning_rate": 2e-2, "device": "cpu",
                          "validate_every": 60},
            },
            architectures,
        )  # fmt: skip
        return train(config, data, tmp_path_factory.mktemp("run") / "run")


@pytest.fixture(scope="module")
def bundle(trained: TrainResult, data: Path) -> Path:
    path = trained.last.parent / "bundle"
    with _with_row():
        export_checkpoint(trained.last, path, formats=["onnx", "torchscript", "triton"], data=data)
    return path


@contextmanager
def _with_row() -> Iterator[dict[str, Architecture]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "tiny-points", tiny_points.ROW)
        yield ARCHITECTURES


def test_it_learns(trained: TrainResult) -> None:
    assert trained.average_mAP is not None
    assert trained.average_mAP > 20


def test_the_bundle_verifies_and_names_its_policy(bundle: Path) -> None:
    manifest = verify_bundle(bundle).manifest
    assert (manifest.format, manifest.architecture) == ("stale-edge-bundle/2", "tiny-points")
    assert manifest.decode.policy == "points"
    assert [spec.name for spec in manifest.detectors[0].outputs] == list(POLICIES["points"].reads)
    parities = manifest.parity["artifacts"]
    assert {parity["passed"] for parity in parities.values()} == {True}
    served = next(entry for entry in manifest.of_role("model_repository") if entry.path.endswith(".onnx"))
    assert [spec.shape for spec in served.outputs] == [("B", "P", 4), ("B", "P", 2), ("B", "P")]


@pytest.mark.parametrize(
    ("runtime", "precision"), [("onnxruntime", "fp32"), ("onnxruntime", "int8"), ("torchscript", "fp32")]
)
def test_it_detects_without_its_row(
    bundle: Path, trained: TrainResult, data: Path, runtime: str, precision: str
) -> None:
    """A bundle needs no row in the table: the manifest is enough."""
    assert "tiny-points" not in ARCHITECTURES
    report = evaluate_bundle(bundle, data, runtime=runtime, precision=precision)
    assert report.result.average_mAP == pytest.approx(trained.average_mAP, abs=0.01 if precision == "fp32" else 5)


def test_lengths_that_were_not_traced(bundle: Path) -> None:
    localizer = load_bundle(bundle)
    for length in (1, 7, 50):
        outputs = localizer.forward(np.ones((2, length, 16), np.float32))
        assert outputs["class_logits"].shape == (2, length, 4)


@pytest.mark.parametrize(
    ("n_levels", "says"),
    [
        (2, "by its decode settings the detector's outputs are those of 16 snippets, but it was given 24"),
        (4, "outputs do not fit its decode settings: no video has 24 points on 4 levels"),
        (33, "an integer from 1 to 32; got 33"),
    ],
)
def test_a_wrong_number_of_levels_is_noticed(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, n_levels: int, says: str
) -> None:
    localizer = load_bundle(bundle)

    def detect() -> None:
        monkeypatch.setattr(type(localizer), "decode_config", PointsConfig(n_levels=n_levels))
        localizer.detect(np.ones((24, 16), np.float32), duration_s=36.0)

    with pytest.raises(StaleEdgeError, match=says):
        detect()


def test_windows_find_what_the_whole_video_has(bundle: Path, data: Path) -> None:
    localizer, data_set = load_bundle(bundle), open_data_set(data)
    features = np.concatenate([data_set.load(video) for video in data_set.videos("validation")])
    found = localizer.detect(features, duration_s=1.5 * len(features), window=24)
    assert found
    assert all(0 <= d.start_s < d.end_s <= 1.5 * len(features) for d in found)


def test_it_is_timed(bundle: Path, tmp_path: Path) -> None:
    arguments = ["bench", str(bundle), "--device", "cpu", "--lengths", "30", "--repeats", "2", "--precisions", "fp32"]
    result = CliRunner().invoke(app, [*arguments, "--json", str(tmp_path / "bench.json")])
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert {row["variant"] for row in rows} >= {"detector", "localizer"}
