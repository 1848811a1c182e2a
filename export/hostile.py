"""Write bundles that an attacker could make; every program of this folder must refuse each of them.

Each is a copy of a good bundle that differs in one thing. Sizes, hashes and the seal fit what was changed, so nothing
but the check in question can refuse it. A case is what `conformance.py` reads: `why`, `bundle`, and where needed
`graph` (only programs that run this graph can notice) or `opens_files` (only programs that open files themselves can).
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hostile_files
import hostile_networks
import numpy as np

from stale_edge.bundle.manifest import CLASS_BANK_NAME, MANIFEST_NAME, sealed_text

Case = dict[str, Any]
Values = dict[str, Any]

HUGE_FILE = 1 << 36
"""Bytes of a sparse file that takes no room on the disk and more memory than a device has."""
TOO_LARGE = (2**61, 2**63, 2**64, 10**400)
"""2**61 rows of float32 wrap around 64 bits; the others do not fit int64, uint64 and double."""
NO_SIZES = (-1, 0, 1.5, "30", True)
GRAPHS = {"detector": "detector", "pipeline": "localizer"}
"""What a program runs, and the role of its file."""


def hostile_bundles(good: Path, folder: Path) -> Iterator[Case]:
    """Write hostile copies of a bundle into a folder and describe each; `bundle` is relative to the folder."""
    writer = _Writer(good, folder)
    for make in (_paths, _links, _files, _numbers, _decode_settings, _texts, _class_banks, _outputs):
        yield from make(writer)


def _nothing(_: Values) -> None:
    """Leave the manifest as it is."""


class _Writer:
    """Copies of a good bundle: files are hard links, the manifest is written anew."""

    def __init__(self, good: Path, folder: Path) -> None:
        self.good, self.folder = good, folder
        self.text = (good / MANIFEST_NAME).read_text(encoding="utf-8")

    def values(self) -> Values:
        values: Values = json.loads(self.text)
        del values["manifest_sha256"]
        return values

    def networks(self, values: Values) -> list[Values]:
        return [entry for entry in values["files"] if entry["role"] in GRAPHS.values()]

    def empty(self, why: str) -> Path:
        """Make the bundle's folder, with all files but the manifest."""
        bundle = self.folder / why
        bundle.mkdir()
        for entry in self.values()["files"]:
            target = bundle / entry["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(self.good / entry["path"], target)
        return bundle

    def edited(self, why: str, edit: Callable[[Values], None], **more: Any) -> Case:
        """Write a bundle whose manifest differs."""
        values = self.values()
        edit(values)
        return self.texted(why, sealed_text(values).encode(), **more)

    def texted(self, why: str, text: bytes, **more: Any) -> Case:
        """Write a bundle whose manifest has these bytes."""
        (self.empty(why) / MANIFEST_NAME).write_bytes(text)
        return {"why": why, "bundle": why, **more}

    def replaced(self, why: str, contents: dict[str, bytes], **more: Any) -> Case:
        """Write a bundle in which files, by path, have other bytes, with their right sizes and hashes."""
        bundle, values = self.empty(why), self.values()
        for entry in values["files"]:
            content = contents.get(entry["path"])
            if content is None:
                continue
            (bundle / entry["path"]).unlink()
            (bundle / entry["path"]).write_bytes(content)
            entry.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        (bundle / MANIFEST_NAME).write_text(sealed_text(values), encoding="utf-8")
        return {"why": why, "bundle": why, **more}


def _paths(writer: _Writer) -> Iterator[Case]:
    """Name the networks by paths that a bundle must not have; where such a path leads, the right file lies."""
    names = [entry["path"] for entry in writer.networks(writer.values())]
    for name in names:
        os.link(writer.good / name, writer.folder / name)
    outside = str(writer.folder.resolve())
    paths = {
        "a path that climbs": "../{}",
        "a path that climbs out of a folder": "sub/../../{}",
        "an absolute path": outside.replace("{", "{{") + "/{}",
        "a drive letter": "C:{}",
        "a backslash": "sub\\{}",
        "a NUL in a path": "{}\0.onnx",
        "a dot in a path": "./{}",
        "two slashes in a path": "sub//{}",
        "an empty path": "",
        "a path that is the manifest": "Manifest.json",
        "a path of 100,000 characters": "a" * 100_000,
        "line breaks and colours in a path": "a\n\x1b[31mb",
        "a number as path": 1,
    }
    for why, path in paths.items():

        def name_so(values: Values, path: Any = path) -> None:
            for entry in writer.networks(values):
                entry["path"] = path.format(entry["path"]) if isinstance(path, str) else path

        yield writer.edited(why, name_so)
        bundle = writer.folder / why
        (bundle / "sub").mkdir()
        for name in names:
            for copy in (f"C:{name}", f"sub\\{name}", f"sub/{name}"):
                os.link(writer.good / name, bundle / copy)

    def twice(values: Values) -> None:
        values["files"] += writer.networks(values)

    def bank_outside(values: Values) -> None:
        next(e for e in values["files"] if e["role"] == "class_bank")["path"] = f"../{CLASS_BANK_NAME}"

    os.link(writer.good / CLASS_BANK_NAME, writer.folder / CLASS_BANK_NAME)
    yield writer.edited("networks listed twice", twice)
    yield writer.edited("a class bank outside", bank_outside)


def _links(writer: _Writer) -> Iterator[Case]:
    """Lead out of the folder by links, and put what is no regular file in the place of files."""
    names = [entry["path"] for entry in writer.networks(writer.values())]

    def changed(why: str, change: Callable[[Path, str], None], files: list[str]) -> Case:
        case = writer.edited(why, _nothing, opens_files=True)
        for name in files:
            path = writer.folder / why / name
            path.unlink()
            change(path, name)
        return case

    def link(path: Path, name: str) -> None:
        path.symlink_to(Path("..") / name)

    yield changed("networks that are links out of the folder", link, names)
    yield changed("a class bank that is a link out of the folder", link, [CLASS_BANK_NAME])
    shutil.copyfile(writer.good / MANIFEST_NAME, writer.folder / MANIFEST_NAME)
    yield changed("a manifest that is a link out of the folder", link, [MANIFEST_NAME])
    yield changed("networks that are pipes", lambda path, _: os.mkfifo(path), names)
    yield changed("a class bank that is a pipe", lambda path, _: os.mkfifo(path), [CLASS_BANK_NAME])
    yield changed("a manifest that is a pipe", lambda path, _: os.mkfifo(path), [MANIFEST_NAME])
    yield changed("networks that are folders", lambda path, _: path.mkdir(), names)
    yield changed("a manifest that is a folder", lambda path, _: path.mkdir(), [MANIFEST_NAME])

    def below(values: Values) -> None:
        for entry in writer.networks(values):
            entry["path"] = f"sub/{entry['path']}"

    case = writer.edited("a folder that is a link out of the bundle", below, opens_files=True)
    (writer.folder / case["bundle"] / "sub").symlink_to("..")
    yield case


def _files(writer: _Writer) -> Iterator[Case]:
    """Grow files without end: sizes are known before anything is read."""

    def claim(values: Values) -> None:
        for entry in writer.networks(values):
            entry["bytes"] = HUGE_FILE

    for why, edit in (("networks of 64 GiB", _nothing), ("networks of 64 GiB that are promised", claim)):
        case = writer.edited(why, edit, opens_files=True)
        for entry in writer.networks(writer.values()):
            path = writer.folder / why / entry["path"]
            path.unlink()
            path.touch()
            os.truncate(path, HUGE_FILE)
        yield case
    case = writer.edited("a manifest of 64 GiB", _nothing, opens_files=True)
    os.truncate(writer.folder / case["bundle"] / MANIFEST_NAME, HUGE_FILE)
    yield case
    garbage = np.random.default_rng(0).bytes(5000)
    names = [entry["path"] for entry in writer.networks(writer.values())]
    yield writer.replaced("networks of random bytes", dict.fromkeys(names, garbage))
    yield writer.replaced("networks without a byte", dict.fromkeys(names, b""))


def _numbers(writer: _Writer) -> Iterator[Case]:
    """Give sizes that are none, or that no type holds."""

    def contract(key: str, value: Any) -> Callable[[Values], None]:
        return lambda values: values["feature_contract"].update({key: value})

    def said(value: Any) -> str:
        return {2**61: "2^61", 2**63: "2^63", 2**64: "2^64", 10**400: "10^400"}.get(value, repr(value))

    for value in (*TOO_LARGE, *NO_SIZES, None):
        yield writer.edited(f"resample_to {said(value)}", contract("resample_to", value))
    channels = writer.values()["feature_contract"]["channels"]
    for value in (channels + 2**64, -channels, channels + 0.5, str(channels), None):
        yield writer.edited(f"channels {value}", contract("channels", value))
    yield writer.edited("resampling to nothing known", contract("resampling", "cubic"))
    for value in (*TOO_LARGE, *NO_SIZES):

        def fix(values: Values, value: Any = value) -> None:
            values["feature_contract"].update(resampling="none", resample_to=None, length=value)

        yield writer.edited(f"length {said(value)}", fix)
    for surplus in (2**64, -0.5, -(2**31)):

        def size(values: Values, surplus: float = surplus) -> None:
            for entry in writer.networks(values):
                entry["bytes"] += surplus

        yield writer.edited(f"bytes off by {surplus:.3g}", size)


def _decode_settings(writer: _Writer) -> Iterator[Case]:
    """Set what decoding reads to what it cannot use."""
    settings = {
        "max_detections": (*TOO_LARGE, *NO_SIZES, None),
        "top_snippets": (2**63, 10**400, 0, 1.5),
        "min_snippets": (2**63, 10**400, 0, 1.5),
        "mask_thresholds": ([], ["0.1"], [0.1, 2], [-1], 0.1, [0.1] * 100_000),
        "sigma": (0, -1, "0.5", None),
        "tiou_threshold": (-0.1, 1.1),
        "min_score": (-1, "0"),
        "class_threshold": (-1, 1, True),
        "regions": ("holes", 0, None),
        "soft_nms": ("soft", 0),
        "policy": ("haruspicy", "", 0, None, ["paper"]),
    }
    for key, values in settings.items():
        for i, value in enumerate(values):

            def put(manifest: Values, key: str = key, value: Any = value) -> None:
                manifest["decode"][key] = value

            yield writer.edited(f"decode {key} {i}", put, graph="detector")

    def drop(manifest: Values) -> None:
        for entry in manifest["files"]:
            entry["outputs"] = [output for output in entry["outputs"] if output["name"] != "masks"]

    yield writer.edited("a detector without masks", drop, graph="detector")


def _texts(writer: _Writer) -> Iterator[Case]:
    """Write manifests that are no JSON, or JSON that readers understand differently."""
    text = sealed_text(writer.values())
    for why, old, new in hostile_files.TEXT_EDITS:
        assert old in text, old
        yield writer.texted(why, text.replace(old, new, 1).encode())
    for why, content in hostile_files.texts(text).items():
        yield writer.texted(why, content)


def _class_banks(writer: _Writer) -> Iterator[Case]:
    """Replace the class bank by archives that are damaged, lie about their sizes, or hold what is no class bank."""
    for why, content in hostile_files.class_banks((writer.good / CLASS_BANK_NAME).read_bytes()).items():
        yield writer.replaced(f"class bank: {why}", {CLASS_BANK_NAME: content})


def _outputs(writer: _Writer) -> Iterator[Case]:
    """Replace networks by such whose outputs are not those of the manifest."""
    values = writer.values()
    with np.load(writer.good / CLASS_BANK_NAME) as bank:
        n_classes, width = bank["embeddings"].shape
    sizes = hostile_networks.Sizes(
        n_classes=n_classes,
        width=width,
        channels=values["feature_contract"]["channels"],
        length=values["feature_contract"]["resample_to"],
    )
    for graph, role in GRAPHS.items():
        entries = [(e["path"], e["runtime"]) for e in values["files"] if e["role"] == role]
        for why, outputs in hostile_networks.outputs_of(graph, sizes).items():
            contents = {path: hostile_networks.network(runtime, outputs, sizes, graph) for path, runtime in entries}
            yield writer.replaced(f"{graph}: {why}", contents, graph=graph)
