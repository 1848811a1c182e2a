"""Devices: a GPU that is asked for and absent is one line, never a silent CPU; what computes is named."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from typer.testing import CliRunner

from stale_edge import load_bundle
from stale_edge.cli.app import app
from stale_edge.errors import BundleError, DeviceError, MissingExtraError
from stale_edge.runtime import devices
from stale_edge.runtime.onnx_session import open_session
from stale_edge.runtime.onnxruntime_backend import run_bound


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("devices") / "bundle")


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build of ONNX Runtime for the CPU, also where these tests run on a machine with a GPU."""
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_gpu_that_is_absent_is_one_line_and_exit_code_1(bundle: Path, device: str, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=rf"device {device}: .*has no \w+ExecutionProvider.*--device cpu.*\[gpu\]"):
        load_bundle(bundle, device=device)
    features = tmp_path / "features.npy"
    np.save(features, tiny.features(40))
    for command in (
        ["detect", str(bundle), str(features), "--duration", "30"],
        ["watch", str(bundle), str(features), "--snippet", "0.75", "--speed", "0"],
    ):
        ran = CliRunner().invoke(app, [*command, "--device", device])
        assert isinstance(ran.exception, DeviceError)
        assert ran.exception.exit_code == 1


@pytest.mark.usefixtures("no_gpu")
def test_auto_is_the_cpu_where_there_is_no_gpu_and_the_provider_is_said(bundle: Path, tmp_path: Path) -> None:
    localizer = load_bundle(bundle, device="auto")
    assert localizer.provider == "CPUExecutionProvider"
    assert not localizer.on_gpu
    np.save(tmp_path / "features.npy", tiny.features(40))
    timings = tmp_path / "timings.json"
    shown = ["--timings", str(timings)]
    ran = CliRunner().invoke(
        app,
        ["detect", str(bundle), str(tmp_path / "features.npy"), "--duration", "30", "--device", "auto", *shown],
    )
    assert ran.exit_code == 0, ran.output
    assert "--device auto: runs on CPUExecutionProvider" in ran.stderr
    assert json.loads(timings.read_text())["providers"] == ["CPUExecutionProvider"]


def test_a_session_that_fell_back_to_the_cpu_is_refused() -> None:
    """ONNX Runtime only logs that CUDA's libraries are missing, and runs on the CPU."""
    fallen = SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])
    with pytest.raises(DeviceError, match="could not start its CUDAExecutionProvider and would run on CPU"):
        devices.require_provider(fallen, "cuda")
    devices.require_provider(fallen, "auto")
    devices.require_provider(SimpleNamespace(get_providers=lambda: ["CUDAExecutionProvider"]), "cuda")


def test_devices_that_do_not_exist_or_do_not_fit(bundle: Path) -> None:
    with pytest.raises(ValueError, match=r"device must be one of cpu, cuda, tensorrt, auto; got 'gpu'"):
        load_bundle(bundle, device="gpu")
    with pytest.raises(BundleError, match=r"onnxruntime does not run int8 on a GPU; these do: onnxruntime in fp32"):
        load_bundle(bundle, precision="int8", device="cuda")
    with pytest.raises(BundleError, match=r"tensorrt is a part of onnxruntime; got runtime 'torchscript'"):
        load_bundle(bundle, runtime="torchscript", device="tensorrt")
    assert devices.checked_device("auto", runtime="onnxruntime", precision="int8") == "cpu"


def test_bound_inputs_and_outputs_give_what_a_plain_run_gives(bundle: Path) -> None:
    """The calls that a GPU gets, with the CPU as the device."""
    session = open_session(bundle / "detector-fp32.onnx", threads=1)
    inputs = {
        "features": tiny.features(12)[None].astype(np.float32),
        "class_embeddings": load_bundle(bundle).class_bank.embeddings,
    }
    names = [node.name for node in session.get_outputs()]
    bound = run_bound(session, inputs, names, device="cpu")
    for name, ours, theirs in zip(names, bound, session.run(names, inputs), strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=name)


def test_without_onnxruntime_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, bundle: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r'pip install "stale-edge\[cpu\]", or "stale-edge\[gpu\]"'):
        load_bundle(bundle)
