"""Bundles on disk: verification refuses by name, writing is all or nothing, classes are edited in one step."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny

from stale_edge.bundle import (
    ClassBank,
    add_classes,
    describe_bundle,
    list_classes,
    read_bundle,
    read_onnx_metadata,
    remove_classes,
    verify_bundle,
    write_bundle,
)
from stale_edge.bundle.files import replace_folder
from stale_edge.bundle.onnx_metadata import copy_with_metadata
from stale_edge.errors import BundleError, ClassBankError, VerificationError

FILES = ("class_bank.npz", "detector-fp32.onnx", "detector-int8.onnx", "manifest.json")


@pytest.fixture(scope="module")
def master(tmp_path_factory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("store") / "bundle", precisions=("fp32", "int8"))


@pytest.fixture
def bundle(master, tmp_path) -> Path:
    return shutil.copytree(master, tmp_path / "bundle")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# --- verification ----------------------------------------------------------------------------------------------------


def test_a_fresh_bundle_verifies_and_holds_just_its_files(bundle) -> None:
    assert verify_bundle(bundle).path == bundle
    assert tuple(sorted(path.name for path in bundle.iterdir())) == FILES
    assert bundle.stat().st_mode & 0o777 == 0o777 & ~_umask()
    assert all(path.stat().st_mode & 0o777 == 0o666 & ~_umask() for path in bundle.iterdir())


@pytest.mark.parametrize("name", [name for name in FILES if name != "manifest.json"])
def test_one_changed_byte_anywhere_is_refused_by_name(bundle, name) -> None:
    path = bundle / name
    whole = path.read_bytes()
    for position in (0, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(VerificationError, match=rf"{name} has changed: sha256") as caught:
            verify_bundle(bundle)
        assert caught.value.exit_code == 3


def test_one_changed_byte_of_the_manifest_is_refused(bundle) -> None:
    path = bundle / "manifest.json"
    whole = path.read_bytes()
    for position in range(0, len(whole), 61):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(VerificationError):
            verify_bundle(bundle)
    path.write_bytes(whole.replace(b'"flipped_snippets": 0', b'"flipped_snippets": 1'))
    with pytest.raises(VerificationError, match=r"manifest\.json has changed"):
        verify_bundle(bundle)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused_by_name(bundle, name) -> None:
    (bundle / name).unlink()
    with pytest.raises(VerificationError, match=f"{name} is missing"):
        verify_bundle(bundle)


def test_a_cut_file_a_folder_and_several_at_once(bundle) -> None:
    onnx_file = bundle / "detector-fp32.onnx"
    onnx_file.write_bytes(onnx_file.read_bytes()[:-1])
    (bundle / "class_bank.npz").unlink()
    (bundle / "class_bank.npz").mkdir()
    with pytest.raises(VerificationError, match=r"detector-fp32.onnx has \d+ bytes.*class_bank.npz is not a file"):
        verify_bundle(bundle)


def test_a_wrong_version_and_no_bundle_at_all(bundle, tmp_path) -> None:
    tiny.edit_manifest(bundle, lambda values: values.update(format="stale-edge-bundle/9"))
    with pytest.raises(VerificationError, match=r"format 'stale-edge-bundle/9'.* reads 'stale-edge-bundle/2'"):
        verify_bundle(bundle)
    with pytest.raises(BundleError, match="does not exist") as caught:
        verify_bundle(tmp_path / "nowhere")
    assert caught.value.exit_code == 1, "a mistyped name is the user's mistake, not a failed verification"


def test_paths_that_leave_the_folder(bundle, tmp_path) -> None:
    stolen = tmp_path / "detector-fp32.onnx"
    shutil.move(bundle / "detector-fp32.onnx", stolen)
    (bundle / "detector-fp32.onnx").symlink_to(stolen)
    with pytest.raises(VerificationError, match=r"'detector-fp32\.onnx' leads out of"):
        verify_bundle(bundle)
    tiny.edit_manifest(bundle, lambda values: values["files"][0].update(path="../detector-fp32.onnx"))
    with pytest.raises(VerificationError, match="names a path outside the bundle"):
        verify_bundle(bundle)


def test_a_link_inside_the_folder_is_fine_and_a_loop_is_not(bundle) -> None:
    os.rename(bundle / "detector-fp32.onnx", bundle / "real")
    (bundle / "detector-fp32.onnx").symlink_to("real")
    verify_bundle(bundle)
    (bundle / "real").unlink()
    (bundle / "real").symlink_to("detector-fp32.onnx")
    with pytest.raises(VerificationError, match=r"detector-fp32\.onnx"):
        verify_bundle(bundle)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: v["feature_contract"].update(fps=30.0), "metadata stale_edge.feature_contract"),
        (lambda v: v["decode"].update(sigma=0.9), "metadata stale_edge.decode"),
        (
            lambda v: v.update(architecture="release"),
            "architecture is paper; the bundle says release",
        ),
        (lambda v: v["feature_contract"].update(channels=9), "takes 8 channels; the feature contract says 9"),
        (
            lambda v: v["files"][0]["inputs"][1].update(shape=["K", 7]),
            "bank is 6 wide; detector-fp32.onnx takes 7",
        ),
        (lambda v: v["files"][0]["inputs"][1].update(name="text"), "has no input class_embeddings"),
    ],
)
def test_a_manifest_that_contradicts_its_files(bundle, change, said) -> None:
    tiny.edit_manifest(bundle, change)
    with pytest.raises(VerificationError, match=said):
        verify_bundle(bundle)


def test_class_names_of_the_graph_must_be_those_of_the_bank(tmp_path) -> None:
    with (
        pytest.raises(VerificationError, match=r"class_names is \[\"a\"\]; the bundle says \[\"jump\"\]"),
        write_bundle(tmp_path / "bundle") as writer,
    ):
        _fill(writer, graph_names=("a",), bank_names=("jump",))
    assert list(tmp_path.iterdir()) == [], "what contradicts itself is not written"


# --- writing ---------------------------------------------------------------------------------------------------------


def test_a_failure_inside_the_block_writes_nothing(tmp_path) -> None:
    def interrupted() -> None:
        with write_bundle(tmp_path / "bundle") as writer:
            _fill(writer)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_block_without_commit_is_a_mistake(tmp_path) -> None:
    with pytest.raises(RuntimeError, match="without commit"), write_bundle(tmp_path / "bundle"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_old_bundle_is_replaced_only_when_asked(bundle) -> None:
    before = contents(bundle)
    with pytest.raises(BundleError, match="a bundle is already there"):
        tiny.write(bundle)
    assert contents(bundle) == before
    tiny.write(bundle, names=("chess",), overwrite=True)
    assert list_classes(bundle) == ("chess",)
    assert not (bundle / "detector-int8.onnx").exists(), "nothing of the old bundle stays"
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


def test_a_folder_that_is_not_a_bundle_is_never_replaced(tmp_path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "1.jpg").write_bytes(b"x")
    with pytest.raises(BundleError, match="not replaced"):
        tiny.write(photos, overwrite=True)
    (tmp_path / "file").write_bytes(b"y")
    with pytest.raises(BundleError, match="it is a file"):
        tiny.write(tmp_path / "file", overwrite=True)
    assert (photos / "1.jpg").read_bytes() == b"x"
    assert (tmp_path / "file").read_bytes() == b"y"


def test_a_bundle_with_foreign_files_is_never_replaced(bundle) -> None:
    (bundle / "notes").mkdir()
    (bundle / "notes" / "mine.txt").write_text("keep")
    for edit in (lambda: tiny.write(bundle, overwrite=True), lambda: add_classes(bundle, tiny.bank(("golf",)))):
        with pytest.raises(BundleError, match=r"notes/mine\.txt"):
            edit()
    assert (bundle / "notes" / "mine.txt").read_text() == "keep"
    verify_bundle(bundle)


def test_targets_that_work(tmp_path, monkeypatch) -> None:
    (tmp_path / "empty").mkdir()
    verify_bundle(tiny.write(tmp_path / "empty"))
    monkeypatch.chdir(tmp_path)
    verify_bundle(tiny.write(Path("relative")))
    (tmp_path / "link").symlink_to("relative")
    tiny.write(tmp_path / "link", names=("chess",), overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert list_classes(tmp_path / "relative") == ("chess",)
    with pytest.raises(BundleError, match="does not exist"):
        tiny.write(tmp_path / "no" / "parent")


def test_commit_needs_a_bank_a_detector_and_plain_json(tmp_path) -> None:
    with pytest.raises(BundleError, match="needs a class bank"), write_bundle(tmp_path / "b") as writer:
        writer.commit(architecture="paper", feature_contract=tiny.contract(), decode=tiny.DECODE)
    with pytest.raises(BundleError, match="no such file was written"), write_bundle(tmp_path / "b") as writer:
        writer.add_file("no.onnx", role="detector", runtime="onnxruntime", precision="fp32", inputs=(), outputs=())
    for parity in ({"difference": float("nan")}, {"difference": np.float32(1)}):
        with pytest.raises(BundleError, match="not plain JSON"), write_bundle(tmp_path / "b") as writer:
            _fill(writer, parity=parity)
    assert list(tmp_path.iterdir()) == []


def test_where_two_folders_cannot_be_exchanged(bundle, monkeypatch) -> None:
    """Other systems move the old folder aside first; when the second move fails, it comes back."""
    monkeypatch.setattr("stale_edge.bundle.files._exchange", lambda _first, _second: False)
    tiny.write(bundle, names=("chess",), overwrite=True)
    assert list_classes(bundle) == ("chess",)
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]
    before = contents(bundle)
    with pytest.raises(FileNotFoundError):
        replace_folder(bundle.parent / "gone", bundle)
    assert contents(bundle) == before


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
import numpy, onnx, secrets, zipfile  # what the children need, imported once
import tiny
from stale_edge.bundle import add_classes, verify_bundle

bundle, master, how = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]

def act():
    if how == "export":
        tiny.write(bundle, names=("chess", "golf"), overwrite=True)
    else:
        add_classes(bundle, tiny.bank(("golf",)))

def act_until(limit):
    lines = 0
    def tracer(frame, event, _argument):
        nonlocal lines
        if "stale_edge" not in frame.f_code.co_filename:
            return None
        if event == "line":
            lines += 1
            if lines == limit:
                os.kill(os.getpid(), signal.SIGKILL)
        return tracer
    sys.settrace(tracer)
    act()
    sys.settrace(None)
    return lines

def fresh():
    shutil.rmtree(bundle.parent, ignore_errors=True)
    shutil.copytree(master, bundle)

for _ in range(2):  # the first time also runs what is only run once
    fresh()
    total = act_until(-1)
for limit in sorted({*range(1, total, total // 20), *range(total - 24, total, 2)}):
    fresh()
    child = os.fork()
    if child == 0:
        act_until(limit)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    print("|".join(verify_bundle(bundle).class_bank.names))
"""


@pytest.mark.skipif(os.name == "nt", reason="fork and SIGKILL are POSIX")
@pytest.mark.parametrize("how", ["export", "classes"])
def test_a_kill_at_any_moment_leaves_the_old_bundle_or_the_new_one(master, tmp_path, how) -> None:
    """Children are killed after so many lines of the package: evenly over the work, and closely around the exchange."""
    paths = os.pathsep.join(str(Path(__file__).resolve().parents[up]) for up in (0, 1))
    result = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "work" / "bundle"), str(master), how],
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={**os.environ, "PYTHONPATH": paths, "PYTHONIOENCODING": "utf-8"},
    )
    assert result.returncode == 0, result.stderr[-2000:]
    outcomes = result.stdout.splitlines()
    old = "|".join(tiny.NAMES)
    new = "chess|golf" if how == "export" else f"{old}|golf"
    n_old = outcomes.count(old)
    assert n_old >= 20
    assert len(outcomes) > n_old, "no child was killed after the exchange"
    assert outcomes == [old] * n_old + [new] * (len(outcomes) - n_old), "once the new bundle is there, it stays"


# --- classes ---------------------------------------------------------------------------------------------------------


def test_added_classes_are_in_the_bank_the_graphs_and_the_manifest(bundle) -> None:
    new = add_classes(bundle, tiny.bank(("golf", "日本")))
    assert new == tiny.bank((*tiny.NAMES, "golf", "日本"))
    assert verify_bundle(bundle).class_bank == new
    for name in ("detector-fp32.onnx", "detector-int8.onnx"):
        assert read_onnx_metadata(bundle / name)["stale_edge.class_names"].endswith('"golf", "日本"]')
    assert remove_classes(bundle, ["jump", "日本"]).names == ("pole vault", "Ćwiczenia", "golf")
    manifest = verify_bundle(bundle).manifest
    assert manifest.provenance["class_edits"] == [{"added": ["golf", "日本"]}, {"removed": ["jump", "日本"]}]
    assert manifest.provenance["checkpoint_sha256"] == "0" * 64
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


def test_edits_that_are_refused_change_nothing(bundle) -> None:
    before = contents(bundle)
    with pytest.raises(ClassBankError, match="another text encoder"):
        add_classes(bundle, tiny.bank(("golf",), fingerprint="another"))
    with pytest.raises(ClassBankError, match="already has 'jump'"):
        add_classes(bundle, tiny.bank(("jump",)))
    wide = ClassBank(("golf",), np.zeros((1, 7), np.float32), tiny.FINGERPRINT)
    with pytest.raises(ClassBankError, match="7 wide"):
        add_classes(bundle, wide)
    with pytest.raises(ClassBankError, match="did you mean 'pole vault'"):
        remove_classes(bundle, ["polevault"])
    with pytest.raises(ClassBankError, match="keep at least one"):
        remove_classes(bundle, list(tiny.NAMES))
    assert contents(bundle) == before


def test_a_damaged_bundle_is_not_edited(bundle) -> None:
    (bundle / "detector-int8.onnx").write_bytes(b"x")
    with pytest.raises(VerificationError, match=r"detector-int8\.onnx"):
        add_classes(bundle, tiny.bank(("golf",)))
    with pytest.raises(VerificationError, match=r"detector-int8\.onnx"):
        remove_classes(bundle, ["jump"])


def test_files_that_do_not_change_are_not_copied(tmp_path) -> None:
    path = tiny.write(tmp_path / "bundle", torchscript=True)
    inode = (path / "detector-fp32.torchscript.pt").stat().st_ino
    add_classes(path, tiny.bank(("golf",)))
    assert (path / "detector-fp32.torchscript.pt").stat().st_ino == inode


# --- description -----------------------------------------------------------------------------------------------------


def test_description(bundle) -> None:
    found = describe_bundle(bundle)
    assert found["classes"] == {
        "n": 3,
        "names": list(tiny.NAMES),
        "embed_dim": 6,
        "fingerprint": tiny.FINGERPRINT,
        "space": "text",
    }
    assert [(file["path"], file["precision"], file["weights"]) for file in found["files"]] == [
        ("detector-fp32.onnx", "fp32", None),
        ("detector-int8.onnx", "int8", "48 of 55 weights quantized"),
        ("class_bank.npz", None, None),
    ]
    assert found["total_bytes"] == sum((bundle / name).stat().st_size for name in FILES if name != "manifest.json")
    assert found["feature_contract"] == tiny.contract().to_json()
    assert found["parity"] == {"fp32": {"flipped_snippets": 0}}


def test_a_bundle_says_what_it_has(bundle) -> None:
    opened = read_bundle(bundle)
    assert opened.detector(runtime="onnxruntime", precision="int8").path == "detector-int8.onnx"
    with pytest.raises(BundleError, match="no onnxruntime fp16 detector; it has: onnxruntime fp32, onnxruntime int8"):
        opened.detector(runtime="onnxruntime", precision="fp16")


# --- metadata of ONNX files ------------------------------------------------------------------------------------------


def test_metadata_as_onnx_and_onnxruntime_read_it(tmp_path) -> None:
    import onnxruntime as ort

    wanted = {"a": "1", "empty": "", "ünïcode": "日本" * 200, "stale_edge.class_names": "[]"}
    source, target = tmp_path / "a.onnx", tmp_path / "b.onnx"
    onnx.save(tiny.model(metadata=wanted), source)
    assert read_onnx_metadata(source) == wanted
    copy_with_metadata(source, target, {"a": "2", "new": "x" * 1000})
    changed = {**wanted, "a": "2", "new": "x" * 1000}
    assert read_onnx_metadata(target) == changed
    loaded = onnx.load(target)
    assert {item.key: item.value for item in loaded.metadata_props} == changed
    session = ort.InferenceSession(target, providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map == changed
    assert loaded.graph == tiny.model().graph, "nothing but the metadata changed"


def test_files_that_are_not_onnx(tmp_path) -> None:
    path = tmp_path / "a.onnx"
    whole = tiny.model(metadata={"a": "1"}).SerializeToString()
    for content, said in (
        (b"", "holds no graph"),
        (b"\x07", "wire type 7"),
        (b"\x08" + b"\xff" * 11, "more than ten bytes"),
        (whole[:-1], "cut short"),
        (whole[: len(whole) // 2], "cut short"),
    ):
        path.write_bytes(content)
        with pytest.raises(BundleError, match=said):
            read_onnx_metadata(path)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _fill(writer, *, graph_names=("jump",), bank_names=("jump",), parity=None) -> None:
    """Fill a bundle writer with the tiny detector and commit."""
    from stale_edge.bundle import detector_inputs, graph_metadata, mask_detector_outputs

    metadata = graph_metadata(
        architecture="paper", feature_contract=tiny.contract(), decode=tiny.DECODE, class_names=graph_names
    )
    onnx.save(tiny.model(metadata=metadata), writer.folder / "d.onnx")
    writer.add_file(
        "d.onnx",
        role="detector",
        runtime="onnxruntime",
        precision="fp32",
        inputs=detector_inputs(channels=tiny.CHANNELS, embed_dim=tiny.EMBED_DIM, length=None),
        outputs=mask_detector_outputs(length=None),
    )
    writer.set_class_bank(tiny.bank(bank_names))
    writer.commit(architecture="paper", feature_contract=tiny.contract(), decode=tiny.DECODE, parity=parity)


def test_a_changed_byte_of_the_manifest_is_found_when_a_bundle_is_read(bundle) -> None:
    content = bytearray((bundle / "manifest.json").read_bytes())
    for place in range(0, len(content), 5):
        content[place] ^= 1 << place % 8
        (bundle / "manifest.json").write_bytes(content)
        with pytest.raises(BundleError):  # thresholds of a TorchScript detector stand nowhere else
            read_bundle(bundle)
        content[place] ^= 1 << place % 8
