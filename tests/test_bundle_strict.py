"""`verify --strict`: parts of a bundle from elsewhere that must not reach an engine."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from stale_edge.bundle import strict, verify_bundle
from stale_edge.bundle.onnx_parts import parts
from stale_edge.bundle.protobuf import field
from stale_edge.bundle.strict import verify_strictly
from stale_edge.cli.app import app
from stale_edge.errors import BundleError, VerificationError
from stale_edge.runtime import load_bundle

GRAPH = "detector-fp32.onnx"


def rewrite(bundle: Path, change: Callable[[onnx.ModelProto], object]) -> Path:
    """Change a graph, and update hashes, sizes and the seal, like an attacker."""
    model = onnx.load(bundle / GRAPH, load_external_data=False)
    change(model)
    (bundle / GRAPH).write_bytes(model.SerializeToString())
    return refit(bundle)


def refit(bundle: Path) -> Path:
    from stale_edge.bundle.files import sha256_of

    def fit(values: dict) -> None:
        for entry in values["files"]:
            path = bundle / entry["path"]
            entry.update(sha256=sha256_of(path), bytes=path.stat().st_size)

    tiny.edit_manifest(bundle, fit)
    return bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tiny.write(tmp_path / "bundle")


def outside(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../secret.bin"


def outside_in_a_body(model: onnx.ModelProto) -> None:
    hidden = numpy_helper.from_array(np.zeros(3, np.float32), "hidden")
    hidden.ClearField("raw_data")
    hidden.data_location = TensorProto.EXTERNAL
    constant = helper.make_node("Constant", [], ["c"], value=hidden)
    body = helper.make_graph([constant], "body", [], [helper.make_tensor_value_info("c", TensorProto.FLOAT, [3])])
    model.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body))


def custom(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("RunThis", ["x"], ["y"], domain="evil.corp"))


def custom_in_a_function(model: onnx.ModelProto) -> None:
    node = helper.make_node("Spawn", ["a"], ["b"], domain="evil.corp")
    model.functions.append(helper.make_function("", "Innocent", ["a"], ["b"], [node], []))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (outside, "the numbers of '.*' lie in another file, which no hash covers"),
        (outside_in_a_body, "the numbers of 'hidden' lie in another file"),
        (custom, r"operators that are not ONNX's own: evil\.corp\.RunThis"),
        (custom_in_a_function, r"operators that are not ONNX's own: evil\.corp\.Spawn"),
    ],
)
def test_graphs_that_bring_more_than_numbers(
    bundle: Path, change: Callable[[onnx.ModelProto], object], says: str
) -> None:
    rewrite(bundle, change)
    with pytest.raises(VerificationError, match=rf"{GRAPH.replace('.', '[.]')}: .*{says}"):
        verify_strictly(bundle)


@pytest.mark.parametrize("read", [verify_bundle, load_bundle])
@pytest.mark.parametrize(("change", "says"), [(outside, "lie in another file"), (custom, "evil.corp.RunThis")])
def test_no_graph_from_elsewhere_reaches_an_engine(
    bundle: Path, read: Callable[[Path], object], change: Callable[[onnx.ModelProto], object], says: str
) -> None:
    rewrite(bundle, change)
    with pytest.raises(VerificationError, match=f"{GRAPH}: .*{says}"):
        read(bundle)


def test_a_graph_cannot_hide_behind_another_suffix(bundle: Path) -> None:
    (bundle / GRAPH).rename(bundle / "detector.bin")
    tiny.edit_manifest(bundle, lambda values: values["files"][0].update(path="detector.bin"))
    with pytest.raises(BundleError, match=r"onnxruntime must end in \.onnx; got 'detector\.bin'"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    ("limit", "says"),
    [
        ("MOST_FILES", "files; at most 1 are allowed"),
        ("MOST_CLASSES", "3 classes; at most 1 are"),
        ("MOST_WIDTH", "6 numbers in an embedding; at most 1 are"),
        ("MOST_NAME_CHARACTERS", "characters in a class name"),
        ("MOST_FILE_BYTES", "bytes in a file"),
        ("MOST_NODES", "nodes; at most 1 are"),
        ("MOST_TENSORS", "tensors; at most 1 are"),
    ],
)
def test_limits(bundle: Path, monkeypatch: pytest.MonkeyPatch, limit: str, says: str) -> None:
    verify_strictly(bundle)
    monkeypatch.setattr(strict, limit, 1)
    with pytest.raises(VerificationError, match=says):
        verify_strictly(bundle)


def test_graphs_in_graphs(tmp_path: Path) -> None:
    graph = b""
    for _ in range(3_000):
        graph = field(1, field(4, b"If") + field(5, field(6, graph)))
    (tmp_path / "deep.onnx").write_bytes(field(7, graph))
    with pytest.raises(BundleError, match="nested more than 32 times"):
        list(parts(tmp_path / "deep.onnx"))


def test_an_archive_that_inflates(tmp_path: Path) -> None:
    bundle = tiny.write(tmp_path / "bundle")
    with zipfile.ZipFile(bundle / "class_bank.npz", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("more", bytes(200 << 20))
    refit(bundle)
    with pytest.raises(VerificationError, match="at most 100 times the packed size"):
        verify_strictly(bundle)


def test_the_command_line(bundle: Path) -> None:
    ran = CliRunner().invoke(app, ["verify", str(bundle), "--strict", "--json", "-"])
    assert ran.exit_code == 0
    assert json.loads(ran.stdout)["verified"] is True
    rewrite(bundle, custom)
    ran = CliRunner().invoke(app, ["verify", str(bundle), "--strict"])
    assert isinstance(ran.exception, VerificationError)
    assert ran.exception.exit_code == 3
