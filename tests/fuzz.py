"""Give damaged and hostile files to readers: each must succeed or raise one line of an error of the package.

    python -m tests.fuzz [--seconds 10] [--seed 0]

`make fuzz` runs every target for this many seconds, and those of the C++ core (`tests/fuzz_core.py`), and prints the
number of inputs. An input with any other result is written to `build/fuzz/`; add it to `tests/test_hostile_files.py`,
or to `csrc/fuzz/seeds/`, as a case.
"""

import argparse
import hashlib
import json
import re
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import tiny
import torch
import training_data
import video_files
import vision_encoder
from fuzz_core import run_core

from stale_edge.bundle import ClassBank, read_onnx_metadata, verify_bundle
from stale_edge.bundle.encoder_folder import verify_encoder
from stale_edge.bundle.manifest import sealed_text
from stale_edge.bundle.onnx_graph import Graph
from stale_edge.bundle.onnx_parts import parts
from stale_edge.config import load_config
from stale_edge.data import read_annotations, read_features, read_scores
from stale_edge.data.shard import shard_data_set
from stale_edge.data.splits import read_split
from stale_edge.errors import StaleEdgeError
from stale_edge.evaluation import score_files
from stale_edge.model import read_checkpoint
from stale_edge.model.architectures import ARCHITECTURES
from stale_edge.model.public_file import read_public_file
from stale_edge.runtime import load_bundle
from stale_edge.training import train
from stale_edge.training.run_folder import read_state_file
from stale_edge.video import open_video

LONGEST_LINE = 2_000
NUMBERS = ["1e999", "1" + "0" * 400, str(2**63), str(2**64), str(2**61), "9" * 5_000, "-1", "NaN", "0", "1e-320", '"1"']


def refused_in_one_line(read: Callable[[], object], where: str) -> bool:
    """Tell whether reading was refused; it must succeed, or raise an error of the package with one line."""
    try:
        read()
    except StaleEdgeError as error:
        text = str(error)
        assert "\n" not in text.strip(), text[:500]
        assert len(text) < LONGEST_LINE, text[:500]
        assert where in text, text[:500]
        return True
    return False


def mutations(content: bytes, n: int, rng: np.random.Generator) -> list[bytes]:
    """Flip bits, cut, repeat, and insert bytes that have a meaning in one of the formats."""
    made = []
    tokens = [b"\0", b"\xff" * 8, b"(" * 50, b"[" * 200, b'"', b"1e999", b"\n", b"PK\x05\x06", b"'", b"{", b"\x80\x02."]
    for _ in range(n):
        changed = bytearray(content)
        kind, place = int(rng.integers(5)), int(rng.integers(len(content)))
        if kind < 2:
            for spot in rng.integers(0, min(len(content), 400 if kind else len(content)), 3):
                changed[spot] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            del changed[place:]
        elif kind == 3:
            changed[place:place] = changed[max(0, place - 30) : place]
        else:
            changed[place : place + 4] = tokens[int(rng.integers(len(tokens)))]
        made.append(bytes(changed))
    return made


def make_data(root: Path, shard_format: str | None = None) -> Path:
    (root / "features").mkdir(parents=True)
    np.save(root / "features" / "v.npy", tiny.features(9))
    entry = {"duration": 9.0, "subset": "training", "annotations": [{"label": "jump", "segment": [1, 2]}]}
    (root / "annotations.json").write_text(json.dumps({"database": {"v": entry}}))
    if shard_format is None:
        return root
    shard_data_set(root, root.with_name("out"), shard_format=shard_format)
    return root.with_name("out")


def make_features(folder: Path, suffix: str) -> Path:
    path = folder / f"v{suffix}"
    if suffix == ".npy":
        np.save(path, tiny.features(9))
    elif suffix == ".npz":
        np.savez_compressed(path, features=tiny.features(9), other=np.arange(3))
    elif suffix == ".h5":
        import h5py

        with h5py.File(path, "w") as file:
            file["features"] = tiny.features(9)
    else:
        made = make_data(folder / "data", suffix[1:])
        path = next((made / "features").iterdir())
    return path


def json_mutations(text: str, rng: np.random.Generator, n: int) -> list[bytes]:
    places = [match.span() for match in re.finditer(r"-?\d+(\.\d+)?(e-?\d+)?", text)]
    numbers = []
    for _ in range(n):
        start, end = places[int(rng.integers(len(places)))]
        numbers.append((text[:start] + NUMBERS[int(rng.integers(len(NUMBERS)))] + text[end:]).encode())
    return [*numbers, *mutations(text.encode(), n, rng)]


ACTIONS = '"annotations": [{"label": "j", "segment": [1, 2]}]'
FOUND = '{"v": [{"label": "j", "score": 0.5, "segment": [1, 2]}]}'
SETTINGS = "[train]\nepochs = 3\nlearning_rate = 0.5\n[model]\nembed_dim = 16\n"
READERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "annotations": (read_annotations, f'{{"database": {{"v": {{"duration": 9.0, "subset": "t", {ACTIONS}}}}}}}'),
    "scores": (read_scores, '{"v": {"class": "jump", "score": 0.5}}'),
    "truth": (lambda p: score_files(p, p, subset=None), f'{{"database": {{"v": {{{ACTIONS}}}}}, "results": {FOUND}}}'),
    "split": (read_split, "jump\nrun 2\n"),
    "toml": (lambda p: load_config(p, architectures=ARCHITECTURES), SETTINGS),
    "class bank": (ClassBank.load, ""),
    "onnx": (read_onnx_metadata, ""),
    "graph": (Graph, ""),
    "parts": (lambda p: list(parts(p)), ""),
}  # fmt: skip


def reseal(text: str) -> str:
    """Make a manifest with a valid seal, like an attacker; text that is not JSON is kept."""
    try:
        values = json.loads(text)
        del values["manifest_sha256"]
        return sealed_text(values)
    except (ValueError, KeyError, RecursionError, OverflowError):
        return text


def watch(path: Path) -> int:
    """Decode every picture of a video."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with open_video(path) as source:
            return sum(1 for _ in source)


def binary_files(folder: Path) -> Iterator[tuple[str, Path, Callable[[], object]]]:
    """Make checkpoints, a training state and videos; gives name, the file that is changed, and reader."""
    data = training_data.write_data_set(folder / "training", n_videos=3)
    train(training_data.small_config(epochs=1), data, folder / "run")
    checkpoint = folder / "run" / "last"
    for path in sorted(checkpoint.iterdir()):
        yield f"checkpoint {path.name}", path, lambda: read_checkpoint(checkpoint)
    yield "training state", folder / "run" / "state.pt", lambda: read_state_file(folder / "run" / "state.pt")
    public = folder / "public.pth.tar"
    torch.save({"epoch": 1, "state_dict": {"a": torch.ones(4, 4)}}, public)
    yield "public checkpoint", public, lambda: read_public_file(public)
    for suffix in (".mkv", ".mp4"):
        video = video_files.write(folder / f"video{suffix}")
        yield f"video {suffix}", video, lambda video=video: watch(video)


def targets(
    folder: Path, rng: np.random.Generator
) -> Iterator[tuple[str, Callable[[], list[bytes]], Path, Callable[[], object]]]:
    """List the targets: name, maker of inputs, file they are written to, and reader."""
    for suffix in (".npy", ".npz", ".h5", ".tar", ".parquet"):
        (folder / suffix).mkdir()
        path = make_features(folder / suffix, suffix)
        content = path.read_bytes()
        yield suffix, lambda c=content: mutations(c, 50, rng), path, lambda p=path: read_features(p)
    for kind, (read, text) in READERS.items():
        path = folder / f"{kind}.{'toml' if kind == 'toml' else 'json'}"
        if text:
            yield kind, lambda t=text: json_mutations(t, rng, 25), path, lambda r=read, p=path: r(p)
        else:
            content = tiny.bank().to_bytes() if kind == "class bank" else tiny.model().SerializeToString()
            yield kind, lambda c=content: mutations(c, 50, rng), path, lambda r=read, p=path: r(p)
    for kind, path, read_file in binary_files(folder):
        content = path.read_bytes()
        yield kind, lambda c=content: mutations(c, 20, rng), path, read_file
        path.write_bytes(content)
    bundle, encoder = tiny.write(folder / "bundle"), vision_encoder.write(folder / "encoder")
    readers: dict[str, tuple[Path, Callable[[], object]]] = {
        "manifest": (bundle, lambda: verify_bundle(bundle)),
        "bundle": (bundle, lambda: load_bundle(bundle).detect(tiny.features(12), duration_s=20.0)),
        "encoder": (encoder, lambda: verify_encoder(encoder)),
    }
    for kind, (root, read_folder) in readers.items():
        text = (root / "manifest.json").read_text()

        def make(text: str = text) -> list[bytes]:
            return [reseal(content.decode(errors="replace")).encode() for content in json_mutations(text, rng, 25)]

        yield kind, make, root / "manifest.json", read_folder
        (root / "manifest.json").write_text(text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10, help="for each target")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    total, found = run_core(arguments.seconds, seed=arguments.seed)
    with tempfile.TemporaryDirectory(prefix="fuzz.") as folder:
        for name, make, path, read in targets(Path(folder), np.random.default_rng(arguments.seed)):
            count = refused = 0
            until = time.monotonic() + arguments.seconds
            while time.monotonic() < until:
                for content in make():
                    path.write_bytes(content)
                    count += 1
                    try:
                        refused += refused_in_one_line(read, "")
                    except Exception:
                        found += 1
                        kept = (
                            Path("build/fuzz")
                            / f"{name.strip('.').replace(' ', '-')}-{hashlib.sha256(content).hexdigest()[:12]}"
                        )
                        kept.parent.mkdir(parents=True, exist_ok=True)
                        kept.write_bytes(content)
                        print(f"{kept}: {traceback.format_exc().splitlines()[-1][:200]}", flush=True)
            total += count
            print(f"{name}: {count} inputs, {refused} refused", flush=True)
    print(f"{total} inputs, {found} that ended in anything but one line")
    return min(found, 1)


if __name__ == "__main__":
    sys.exit(main())
