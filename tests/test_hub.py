"""Bundles by name, against a hub of our own on loopback."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
from hub_server import Hub

from stale_edge import load_bundle
from stale_edge.bundle import read_bundle
from stale_edge.errors import BundleError, VerificationError
from stale_edge.hub import is_hub_name, pull, push
from stale_edge.hub.card import model_card

hf = pytest.importorskip("huggingface_hub")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    server = Hub()
    make, download = hf.HfApi, hf.snapshot_download
    monkeypatch.setattr(hf, "HfApi", lambda: make(endpoint=server.endpoint, token="hf_test"))
    monkeypatch.setattr(
        hf, "snapshot_download", lambda *a, **k: download(*a, endpoint=server.endpoint, token=False, **k)
    )
    monkeypatch.setenv("STALE_EDGE_CACHE", str(tmp_path / "cache"))
    yield server
    server.close()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tiny.write(tmp_path / "bundle")


def test_what_is_pushed_is_loaded_by_name_also_without_a_network(hub: Hub, bundle: Path) -> None:
    commit = push(bundle, "org/tiny")
    localizer = load_bundle("org/tiny")
    wanted = load_bundle(bundle).detect(tiny.features(30), duration_s=30.0)
    assert wanted
    assert localizer.detect(tiny.features(30), duration_s=30.0) == wanted
    assert commit in str(localizer.path)
    hub.close()
    assert load_bundle("org/tiny").path == localizer.path, "the cache knows what the name meant last"
    with pytest.raises(BundleError, match=r"org/other: the hub gives no such bundle, and the cache has none"):
        pull("org/other")


@pytest.mark.usefixtures("hub")
def test_revisions(bundle: Path, tmp_path: Path) -> None:
    first = push(bundle, "org/tiny")
    push(tiny.write(tmp_path / "second", seed=1), "org/tiny")
    out = pull(f"org/tiny@{first}", out=tmp_path / "out")
    assert (out / "manifest.json").read_bytes() == (bundle / "manifest.json").read_bytes()
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in bundle.iterdir()), "nothing lies beside it"
    assert (pull("org/tiny") / "manifest.json").read_bytes() != (out / "manifest.json").read_bytes()
    with pytest.raises(BundleError, match="exists; name a folder that does not"):
        pull("org/tiny", out=out)


def test_bytes_that_changed_on_the_hub_are_refused_and_not_kept(hub: Hub, bundle: Path, tmp_path: Path) -> None:
    push(bundle, "org/tiny")
    files = hub.newest("org/tiny")
    files["detector-fp32.onnx"] = files["detector-fp32.onnx"][:-1] + b"\x00"
    with pytest.raises(VerificationError, match=r"detector-fp32\.onnx"):
        pull("org/tiny")
    assert not list((tmp_path / "cache").rglob("manifest.json"))


def test_the_card_says_what_the_manifest_says(bundle: Path) -> None:
    bench = {
        "machine": {"cpu": "A | B"},
        "rows": [
            {"variant": "detector", "runtime": "onnxruntime", "precision": "fp32", "threads": 1, "length": 100}
            | {"seconds": {"median": 0.0125}}
        ],
    }
    card = model_card(read_bundle(bundle), bench=bench)
    assert card.startswith("---\nlibrary_name:")
    assert "jump, pole vault, Ćwiczenia" in card
    assert f"(T, {tiny.CHANNELS}) of the encoder `tiny-encoder`, 25.0 frames per second" in card
    assert "| detector | onnxruntime fp32, 1 thread(s) | 100 | 12.5 |" in card
    assert "A \\| B" in card


@pytest.mark.parametrize("name", ["bundle", "../x", "a/b/c", "/a/b", "a/..", "a/b@..", ""])
def test_names_that_are_none(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not is_hub_name(name)
    with pytest.raises(BundleError, match="is named ORG/NAME or ORG/NAME@REVISION"):
        pull(name)


def test_a_folder_that_exists_is_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("org").mkdir()
    tiny.write(Path("org/tiny"))
    assert load_bundle("org/tiny").path == Path("org/tiny")
    assert is_hub_name("org/absent")
    assert json.loads(Path("org/tiny/manifest.json").read_text())["architecture"]
