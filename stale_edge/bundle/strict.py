"""Checks of `verify --strict` beyond the bytes: limits on all files for an engine, before an engine reads them.

No torch and no engine: files are parsed, nothing is computed. The memory and time that a graph would need at run time
are not checked (SECURITY.md).
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path

from stale_edge.bundle.onnx_parts import parts
from stale_edge.bundle.store import Bundle, verify_bundle
from stale_edge.errors import BundleError, VerificationError, reason
from stale_edge.paths import check_members

MOST_FILES = 1_000
MOST_FILE_BYTES = 4 << 30
"""Largest size of one file, in bytes: sixteen times the text tower of CLIP ViT-B/32."""
MOST_CLASSES = 100_000
MOST_WIDTH = 65_536
"""Largest width of an embedding or a feature, in numbers."""
MOST_NAME_CHARACTERS = 500
MOST_NOTE_CHARACTERS = 2_000
MOST_NODES = 100_000
MOST_TENSORS = 20_000


def verify_strictly(path: Path | str) -> Bundle:
    """Check a bundle as `verify_bundle` does, and check the limits above on all files for an engine.

    Raises:
        VerificationError: a limit is exceeded; the message names the first few. Others as in `verify_bundle`.
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
                    check_members(archive)
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
    for kind, _ in parts(path):
        nodes += kind == "node"
        tensors += kind == "tensor"
    for what, got, most in (("nodes", nodes, MOST_NODES), ("tensors", tensors, MOST_TENSORS)):
        if got > most:
            yield f"{got:,} {what}; at most {most:,} are allowed"
