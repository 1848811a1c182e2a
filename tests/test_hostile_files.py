"""Damaged and hostile files: one line names the file, nothing hangs, and other files are still processed."""

import csv
import io
import json
import os
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import vision_encoder
from fuzz import LONGEST_LINE, READERS, json_mutations, make_data, make_features, mutations, refused_in_one_line, reseal
from typer.testing import CliRunner

from stale_edge.bundle import ClassBank, Manifest, add_classes, list_classes, verify_bundle
from stale_edge.bundle.encoder_folder import verify_encoder
from stale_edge.bundle.json_fields import parse_json
from stale_edge.bundle.onnx_graph import Graph
from stale_edge.bundle.protobuf import field
from stale_edge.cli.app import app
from stale_edge.config import load_config
from stale_edge.data import open_data_set, read_annotations, read_features
from stale_edge.data.check import check
from stale_edge.errors import BundleError, ConfigError, DataError, InferenceError, StaleEdgeError, reason, shown
from stale_edge.jobs.detection import detect_many
from stale_edge.model.architectures import ARCHITECTURES
from stale_edge.model.public_file import read_public_file
from stale_edge.report.formats import to_csv, to_html, to_srt
from stale_edge.runtime import load_bundle
from stale_edge.runtime.detect import detect_files
from stale_edge.runtime.detect_settings import DetectSettings
from stale_edge.segments import Detection


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5", ".tar", ".parquet"])
def test_damaged_features_are_refused_in_one_line(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip({".h5": "h5py", ".parquet": "pyarrow"}.get(suffix, "numpy"))
    path = make_features(tmp_path, suffix)
    rng = np.random.default_rng(0)
    refused = 0
    for content in mutations(path.read_bytes(), 120, rng):
        path.write_bytes(content)
        refused += refused_in_one_line(lambda: read_features(path), path.name)
    assert refused > 20


@pytest.mark.parametrize("kind", READERS)
def test_damaged_text_and_graphs_are_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    read, text = READERS[kind]
    rng = np.random.default_rng(1)
    path = tmp_path / f"file.{'toml' if kind == 'toml' else 'json'}"
    if kind == "class bank":
        contents = mutations(tiny.bank().to_bytes(), 150, rng)
    elif text:
        contents = json_mutations(text, rng, 100)
    else:
        contents = mutations(tiny.model().SerializeToString(), 150, rng)
    named = "" if kind == "toml" else path.name  # a setting out of range is named by its key
    refused = 0
    for content in contents:
        path.write_bytes(content)
        refused += refused_in_one_line(lambda: read(path), named)
    assert refused > 10


@pytest.mark.parametrize("sealed", [False, True])
def test_a_hostile_manifest_is_refused_in_one_line(tmp_path: Path, sealed: bool) -> None:
    bundle = tiny.write(tmp_path / "bundle")
    original = (bundle / "manifest.json").read_text()
    rng = np.random.default_rng(2)
    refused = 0
    for content in json_mutations(original, rng, 60):
        text = content.decode(errors="replace")
        (bundle / "manifest.json").write_text(reseal(text) if sealed else text)
        refused += refused_in_one_line(
            lambda: load_bundle(bundle).detect(tiny.features(12), duration_s=20.0), bundle.name if not sealed else ""
        )
        refused_in_one_line(lambda: verify_bundle(bundle), bundle.name)
    assert refused > (20 if sealed else 100)


def test_a_hostile_encoder_manifest_is_refused_in_one_line(tmp_path: Path) -> None:
    folder = vision_encoder.write(tmp_path / "encoder")
    rng = np.random.default_rng(3)
    for content in json_mutations((folder / "manifest.json").read_text(), rng, 40):
        (folder / "manifest.json").write_text(reseal(content.decode(errors="replace")))
        refused_in_one_line(lambda: verify_encoder(folder), folder.name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.parametrize(
    "what", ["manifest.json", "class_bank.npz", "annotations.json", "split", "config", "v.npy", "v.mp4"]
)
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, what: str) -> None:
    bundle = tiny.write(tmp_path / "bundle")
    path = bundle / what if (bundle / what).exists() else tmp_path / what
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    commands = {
        "manifest.json": ("verify", bundle),
        "class_bank.npz": ("inspect", bundle),
        "annotations.json": ("score", "--truth", path, "--predictions", path),
        "split": ("evaluate", bundle, "--data", tmp_path, "--split", path),
        "config": ("train", path, "--data", tmp_path, "--out", tmp_path / "run"),
    }
    ran = run(*commands.get(what, ("detect", bundle, path, "--duration", "9")))
    assert ran.exit_code in (1, 3)
    assert isinstance(ran.exception, StaleEdgeError)


def test_a_manifest_that_is_a_link_out_of_the_folder(tmp_path: Path) -> None:
    bundle = tiny.write(tmp_path / "bundle")
    (bundle / "manifest.json").rename(tmp_path / "elsewhere.json")
    (bundle / "manifest.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(BundleError, match="leads out of"):
        load_bundle(bundle)


def test_duplicate_keys_are_found_in_linear_time(tmp_path: Path) -> None:
    text = "{" + ", ".join(f'"{i % 40_000}": 1' for i in range(80_000)) + "}"
    began = time.perf_counter()
    with pytest.raises(BundleError, match="the key '0' stands twice"):
        parse_json(text, "it")
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match="duplicate"):
        read_annotations(tmp_path / "a.json")
    assert time.perf_counter() - began < 5, "it took 14 s for half of this"


def test_an_archive_that_inflates_is_not_unpacked(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "v.npz", features=np.zeros((600_000, 64), np.float32))
    with pytest.raises(DataError, match="at most 100 times the packed size"):
        read_features(tmp_path / "v.npz")
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, names=np.array(["a"]), embeddings=np.zeros((1, 30_000_000), np.float32), fingerprint="x"
    )
    with pytest.raises(BundleError, match="at most 100 times the packed size"):
        ClassBank.from_bytes(buffer.getvalue())


ZIP_KINDS = {"encrypted": (0x1, 6), "packed by zip method 99": (99, 8), "needs zip 6.3": (63, 4)}


@pytest.mark.parametrize("says", ZIP_KINDS)
@pytest.mark.parametrize("suffix", [".npz", ".pth.tar"])
def test_zip_archives_of_other_kinds(tmp_path: Path, suffix: str, says: str) -> None:
    path = tmp_path / f"v{suffix}"
    if suffix == ".npz":
        np.savez(path, features=tiny.features(3))
    else:
        torch.save({"epoch": 1, "state_dict": {"a": torch.ones(2)}}, path)
    content = bytearray(path.read_bytes())
    value, offset = ZIP_KINDS[says]
    for signature, shift in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
        at = content.index(signature) + offset + shift
        content[at : at + 2] = value.to_bytes(2, "little")
    path.write_bytes(content)
    with pytest.raises(StaleEdgeError, match=rf"{path.name}.*{says}"):
        (read_features if suffix == ".npz" else read_public_file)(path)


def test_a_zip_archive_on_several_disks(tmp_path: Path) -> None:
    path = tmp_path / "v.pth.tar"
    torch.save({"epoch": 1, "state_dict": {"a": torch.ones(2)}}, path)
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x06\x07")  # found by `make fuzz`: zipfile raises while it looks whether this is an archive
    content[at + 16] = 2
    path.write_bytes(content)
    assert refused_in_one_line(lambda: read_public_file(path), "v.pth.tar")


def test_hdf5_data_in_another_file_are_not_followed(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    secret = tmp_path / "secret.bin"
    secret.write_bytes(tiny.features(4).tobytes())
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_dataset("v", (4, tiny.CHANNELS), "f4", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])
    with pytest.raises(DataError, match="lies in another file, which is not followed"):
        read_features(tmp_path / "v.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["features"] = tiny.features(4)
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["features"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "features")
    with pytest.raises(DataError, match="it is not clear which array"):
        read_features(tmp_path / "link.h5")
    layout = h5py.VirtualLayout((4, tiny.CHANNELS), "f4")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "features", (4, tiny.CHANNELS))
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file.create_virtual_dataset("features", layout)
    with pytest.raises(DataError, match="lies in another file"):
        read_features(tmp_path / "virtual.h5")
    with h5py.File(tmp_path / "huge.h5", "w") as file:
        file.create_dataset("features", (10**12, 512), "f4", chunks=(1, 512))
        file.create_dataset("strings", data=["a", "b"])
    with pytest.raises(DataError, match="which this file cannot hold"):
        read_features(tmp_path / "huge.h5")
    with pytest.raises(DataError, match="must hold numbers"):
        read_features(tmp_path / "huge.h5", "strings")


def test_control_flow_in_control_flow(tmp_path: Path) -> None:
    graph = b""
    for _ in range(3_000):
        graph = field(1, field(4, b"If") + field(5, field(6, graph)))
    (tmp_path / "deep.onnx").write_bytes(field(7, graph))
    with pytest.raises(BundleError, match=r"deep\.onnx: control flow is nested more than 32 times"):
        Graph(tmp_path / "deep.onnx")
    (tmp_path / "bytes.onnx").write_bytes(field(7, field(1, field(4, b"\xff\xfe"))))
    with pytest.raises(BundleError, match=r"bytes\.onnx: .* is not UTF-8"):
        Graph(tmp_path / "bytes.onnx")


def test_one_bad_file_does_not_end_the_others(tmp_path: Path) -> None:
    bundle, folder = tiny.write(tmp_path / "bundle"), tmp_path / "inputs"
    folder.mkdir()
    for name in ("a", "b", "c"):
        np.save(folder / f"{name}.npy", tiny.features(12))
    content = (folder / "b.npy").read_bytes()
    (folder / "b.npy").write_bytes(content.replace(b"'descr'", b"((descr"))
    (folder / os.fsdecode(b"bad\xffname.npy")).write_bytes(content)
    for results in (None, tmp_path / "results"):
        ran = run("detect", bundle, folder, *([] if results is None else ["--results", results]))
        assert ran.exit_code == 1
        assert set(json.loads(ran.stdout)["results"]) == {"a", "c"}
        errors = [line for line in ran.stderr.splitlines() if line.startswith("error: ")]
        assert len(errors) == 2
        assert any("b.npy" in line for line in errors)
        assert any("bytes that are no text" in line for line in errors)


def test_a_runtime_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    localizer = load_bundle(tiny.write(tmp_path / "bundle"))

    def fail(*_: object) -> None:
        raise RuntimeError("[ONNXRuntimeError] : 6 : Failed to allocate memory\nfor requested buffer")

    monkeypatch.setattr(localizer._decoding, "_session", type("Session", (), {"run": staticmethod(fail)}))
    with pytest.raises(
        InferenceError, match=r"failed on features of shape \(1, 16, 8\).*Failed to allocate memory for"
    ):
        localizer.detect(tiny.features(12), duration_s=3.0)


@pytest.mark.parametrize("damage", ['"score": 1', "[[", '"detections": 7, "x": [[', "\\ud800"])
def test_a_damaged_result_is_made_again(tmp_path: Path, damage: str) -> None:
    bundle = tiny.write(tmp_path / "bundle")
    np.save(tmp_path / "v.npy", tiny.features(12))
    whole = detect_many(DetectSettings(bundle), [tmp_path / "v.npy"], tmp_path / "results").text
    record = tmp_path / "results" / "v.json"
    text = record.read_text()
    record.write_text(text.replace('"detections": [\n', f'"detections": [{damage},\n', 1))
    assert detect_many(DetectSettings(bundle), [tmp_path / "v.npy"], tmp_path / "results").text == whole
    values = json.loads(text)
    values["detections"][0][1] = 0.123
    record.write_text(json.dumps(values, indent=2))  # another score, and the seal of the old one
    assert detect_many(DetectSettings(bundle), [tmp_path / "v.npy"], tmp_path / "results").text == whole
    values = {key: value for key, value in values.items() if key != "record_sha256"}
    values["detections"] = [["jump", 1, 2]]
    record.write_text(json.dumps(values))
    assert detect_many(DetectSettings(bundle), [tmp_path / "v.npy"], tmp_path / "results").text == whole


def test_a_very_long_video_has_a_page(tmp_path: Path) -> None:
    for seconds in (1e9, 1e12):
        page = to_html({"v": [Detection("jump", 0.5, 0.0, seconds / 2)]}, durations={"v": seconds})
        assert len(page) < 60_000
    assert "-->" in to_srt({"v": [Detection("jump", 0.5, 0.0, 1e9)]}, durations={"v": 1e9})
    bundle = tiny.write(tmp_path / "bundle")
    np.save(tmp_path / "v.npy", tiny.features(12))
    assert run("detect", bundle, tmp_path / "v.npy", "--duration", "1e8", "--format", "html").exit_code == 0
    assert run("detect", bundle, tmp_path / "v.npy", "--duration", "1e12").exit_code == 2


def test_values_in_messages_are_cut() -> None:
    assert len(shown("x" * 100_000)) == 80
    assert len(shown(10**5_000)) <= 80
    assert len(reason(ValueError("a\nb" * 100_000))) == 200
    assert shown("short") == "'short'"
    for text in ("[" * 100_000, '{"format": "' + "x" * 100_000 + '"}', '{"' + "k" * 100_000 + '": 1}'):
        with pytest.raises(BundleError) as caught:
            Manifest.from_text(text)
        assert len(str(caught.value)) < LONGEST_LINE
    with pytest.raises(ConfigError) as config:
        load_config(None, [f"train.epochs={'9' * 100_000}"], architectures=ARCHITECTURES)
    assert len(str(config.value)) < LONGEST_LINE


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_spreadsheet_runs_no_cell(name: str) -> None:
    text = to_csv({name: [Detection(name, 0.5, 0.0, 1.0)]})
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[1][:2] == [f"'{name}", f"'{name}"]
    assert float(rows[1][2]) == 0.5
    plain = to_csv({"v-1": [Detection("a=b", 0.5, 0.0, 1.0)]})
    assert "'" not in plain


@pytest.mark.parametrize("name", ["[/b]", "[red]x", "[bold"])
def test_markup_in_class_names_is_shown_as_it_is(tmp_path: Path, name: str) -> None:
    bundle = tiny.write(tmp_path / "bundle")
    add_classes(bundle, tiny.bank((name,)))
    assert list_classes(bundle)[-1] == name
    for command in (("classes", "list", bundle), ("inspect", bundle), ("classes", "remove", bundle, "jump")):
        ran = run(*command)
        assert ran.exit_code == 0, ran.output
        assert name in ran.output or command[1] == "remove"
    np.save(tmp_path / "v.npy", tiny.features(12))
    assert run("detect", bundle, tmp_path / "v.npy", "--format", "csv").exit_code == 0


def test_a_full_disk_is_named_and_leaves_no_half_output(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    bundle = tiny.write(tmp_path / "bundle")
    np.save(tmp_path / "v.npy", tiny.features(12))
    ran = run("detect", bundle, tmp_path / "v.npy", "--out", "/dev/full")
    assert isinstance(ran.exception, OSError)
    assert ran.exception.filename == "/dev/full"
    assert Path("/dev/full").is_char_device()


def test_data_check_lists_hostile_features_beside_the_good(tmp_path: Path) -> None:
    root = make_data(tmp_path / "data")
    (root / "features" / "w.npy").write_bytes(b"\x93NUMPY\x01\x00\x10\x00((((((((((((((((")
    problems = check(root)
    assert any(problem.file == "features/w.npy" and "not a readable" in problem.reason for problem in problems)
    assert all("\n" not in problem.reason for problem in problems)
    assert open_data_set(root).load("v").shape == (9, tiny.CHANNELS)
    text = detect_files(DetectSettings(tiny.write(tmp_path / "bundle"), duration_s=9.0), [root / "features"])
    assert len(text.errors) == 1
    assert zipfile.is_zipfile(root / "features" / "v.npy") is False
