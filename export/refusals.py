"""Write what every program must refuse, and describe it as `conformance.py` reads it."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hostile import hostile_bundles

from stale_edge.bundle import FileEntry, read_bundle
from stale_edge.bundle.manifest import MANIFEST_NAME, sealed_text
from stale_edge.config import to_dict

HUGE_FILE_BYTES = 1 << 36


def refusals(out: Path) -> list[dict[str, Any]]:
    """Write what every program must refuse into `out / "refusals"`: each differs in one thing from what is accepted."""
    good_bundle, good_features = "bundles/paper-network-paper-policy", "features/paper-network-paper-policy-0.npy"
    features = np.load(out / good_features)
    not_a_number, infinite = features.copy(), features.copy()
    not_a_number[7, 3] = np.nan
    infinite[0, 0] = -np.inf
    arrays = {
        "C + 1 channels": np.concatenate([features, features[:, :1]], axis=1),
        "C - 1 channels": features[:, 1:].copy(),
        "no snippet": features[:0],
        "three axes": features[None],
        "one axis": features[0].copy(),
        "not a number": not_a_number,
        "an infinity": infinite,
        "integers": np.rint(features).astype(np.int32),
    }
    cases = []

    def add(why: str, *, bundle: str = good_bundle, features: str = good_features, **more: Any) -> None:
        cases.append({"why": why, "bundle": bundle, "features": features, **more})

    for why, array in arrays.items():
        np.save(out / "refusals" / f"{why}.npy", array)
        add(why, features=f"refusals/{why}.npy")
    (out / "refusals" / "no array.npy").write_text("these are no features\n", encoding="utf-8")
    (out / "refusals" / "cut short.npy").write_bytes((out / good_features).read_bytes()[:-100])
    huge = (out / good_features).read_bytes().replace(b"(30, 16), }", b"(1152921504606846976, 16), }")  # 2**64 numbers
    surplus = len(huge) - (out / good_features).stat().st_size
    (out / "refusals" / "huge shape.npy").write_bytes(huge.replace(b" " * surplus + b"\n", b"\n", 1)[:128])
    add("a shape whose product overflows", features="refusals/huge shape.npy")
    add("no array", features="refusals/no array.npy")
    add("features cut short", features="refusals/cut short.npy")
    add("no such features", features="refusals/absent.npy")
    with (out / "refusals" / "64 GiB.npy").open("wb") as file:  # sparse: it takes no room on the disk
        header = {"descr": "<f4", "fortran_order": False, "shape": (HUGE_FILE_BYTES // 64, 16)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + HUGE_FILE_BYTES)
    add("features of 64 GiB", features="refusals/64 GiB.npy", opens_files=True)
    os.mkfifo(out / "refusals" / "pipe.npy")
    add("features that are a pipe", features="refusals/pipe.npy", opens_files=True)
    add("features that never end", features="/dev/zero", opens_files=True)
    for duration in ("0", "-3", "nan", "inf"):
        add(f"a duration of {duration}", duration=duration)

    add("another T than the fixed one", bundle="bundles/fixed-length")  # the features have T of the paper network
    for why, bundle in _damaged(out / good_bundle, out / "refusals"):
        more = {"precision": "int8"} if why == "a precision that is not there" else {}
        add(why, bundle=f"refusals/{bundle.name}", **more)
    add("no such bundle", bundle="refusals/absent")
    (out / "hostile").mkdir()
    hostile = hostile_bundles(out / good_bundle, out / "hostile")
    return cases + [{"features": good_features, **case, "bundle": f"hostile/{case['bundle']}"} for case in hostile]


def _damaged(good: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """Write copies of a bundle, each broken in one way."""

    def copy(why: str) -> Path:
        return Path(shutil.copytree(good, folder / why))

    entries = read_bundle(good).manifest.files

    def flip(bundle: Path, chosen: Sequence[FileEntry]) -> Path:
        for entry in chosen:
            content = bytearray((bundle / entry.path).read_bytes())
            content[len(content) // 2] ^= 1
            (bundle / entry.path).write_bytes(content)
        return bundle

    def edit(bundle: Path, **changes: Any) -> Path:
        values = {**json.loads((bundle / MANIFEST_NAME).read_text(encoding="utf-8")), **changes}
        del values["manifest_sha256"]
        (bundle / MANIFEST_NAME).write_text(sealed_text(values), encoding="utf-8")
        return bundle

    networks = [entry for entry in entries if entry.role != "class_bank"]
    bank = [entry for entry in entries if entry.role == "class_bank"]
    fp32 = [to_dict(entry) for entry in entries if entry.precision != "int8"]
    yield "changed networks", flip(copy("changed networks"), networks)
    yield "a changed class bank", flip(copy("changed class bank"), bank)
    missing = copy("missing networks")
    for entry in networks:
        (missing / entry.path).unlink()
    yield "missing networks", missing
    longer = copy("longer networks")
    for entry in networks:
        with (longer / entry.path).open("ab") as file:
            file.write(b"\0")
    yield "networks that grew", longer
    yield "another format version", edit(copy("version 3"), format="stale-edge-bundle/3")
    yield "a precision that is not there", edit(copy("without int8"), files=fp32)
    no_manifest = copy("without manifest")
    (no_manifest / MANIFEST_NAME).unlink()
    yield "no manifest", no_manifest
    garbled = copy("garbled manifest")
    (garbled / MANIFEST_NAME).write_bytes((good / MANIFEST_NAME).read_bytes()[:200])
    yield "half a manifest", garbled
