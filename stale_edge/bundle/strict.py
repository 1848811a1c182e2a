"""What `verify --strict` asks beyond the bytes: limits on all that an engine is given, before one sees it.

Torch-free and engine-free: files are walked, nothing is computed. What a graph would do with memory and time while it
runs cannot be seen here (SECURITY.md).
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path

from stale_edge.bundle.onnx_parts import parts
from stale_edge.bundle.store import Bundle, verify_bundle
from stale_edge.errors import BundleError, VerificationError, cut, reason, shown
from stale_edge.paths import check_inflation

MOST_FILES = 1_000
MOST_FILE_BYTES = 4 << 30
"""Of one file: sixteen times the text tower of CLIP ViT-B/32."""
MOST_CLASSES = 100_000
MOST_WIDTH = 65_536
"""Of an embedding or a feature, in numbers."""
MOST_NAME_CHARACTERS = 500
MOST_NOTE_CHARACTERS = 2_000
MOST_NODES = 100_000
MOST_TENSORS = 20_000
DOMAINS = ("", "ai.onnx")
"""Operators of ONNX itself; those of any other domain come out of a library that a bundle cannot vouch for."""


def verify_strictly(path: Path | str) -> Bundle:
    """Check a bundle as `verify_bundle` does, and hold all that an engine would be given against stated limits.

    Raises:
        VerificationError: a limit is broken, a graph uses an operator that is not ONNX's own, or weights lie in
            another file; the first few are named. Others as `verify_bundle`.
    """
    bundle = verify_bundle(Path(path))
    problems = [*_manifest_problems(bundle)]
    for entry in bundle.manifest.files:
        file = bundle.path / entry.path
        try:
            if file.suffix == ".onnx":
                problems += [f"{entry.path}: {problem}" for problem in _graph_problems(file)]
            elif zipfile.is_zipfile(file):
                with zipfile.ZipFile(file) as archive:
                    check_inflation(archive)
        except BundleError as error:
            problems.append(str(error))
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            problems.append(f"{entry.path}: {reason(error)}")
    if problems:
        raise VerificationError(f"{path}: {'; '.join(problems[:5])}")
    return bundle


def _manifest_problems(bundle: Bundle) -> Iterator[str]:
    manifest, bank = bundle.manifest, bundle.class_bank
    counts = {
        "files": (len(manifest.files), MOST_FILES),
        "classes": (len(bank), MOST_CLASSES),
        "numbers in an embedding": (bank.width, MOST_WIDTH),
        "channels": (manifest.feature_contract.channels, MOST_WIDTH),
        "characters in a class name": (max(map(len, bank.names)), MOST_NAME_CHARACTERS),
        "characters in a note": (max(len(entry.note) for entry in manifest.files), MOST_NOTE_CHARACTERS),
        "bytes in a file": (max(entry.bytes for entry in manifest.files), MOST_FILE_BYTES),
    }
    for what, (got, most) in counts.items():
        if got > most:
            yield f"{got:,} {what}; at most {most:,} are allowed"


def _graph_problems(path: Path) -> Iterator[str]:
    nodes = tensors = 0
    foreign: dict[str, None] = {}
    for kind, name in parts(path):
        nodes += kind == "node"
        tensors += kind == "tensor"
        if kind == "external":
            yield f"the numbers of {shown(name)} lie in another file, which no hash covers"
        elif kind == "node" and name.rpartition(".")[0] not in DOMAINS:
            foreign[name] = None
    if foreign:
        yield f"operators that are not ONNX's own: {cut(', '.join(foreign), 200)}"
    for what, got, most in (("nodes", nodes, MOST_NODES), ("tensors", tensors, MOST_TENSORS)):
        if got > most:
            yield f"{got:,} {what}; at most {most:,} are allowed"
