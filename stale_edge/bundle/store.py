"""Reading bundles: the manifest, its files, checks of their bytes, and a description."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from stale_edge.bundle.class_bank import ClassBank
from stale_edge.bundle.encoder_folder import encoder_problems
from stale_edge.bundle.files import file_problem
from stale_edge.bundle.generations import in_one_generation
from stale_edge.bundle.json_fields import Json, parse_json
from stale_edge.bundle.manifest import (
    MANIFEST_NAME,
    VOCABULARY_ROLES,
    FileEntry,
    Manifest,
    Role,
    is_sealed,
)
from stale_edge.bundle.onnx_metadata import graph_metadata, read_onnx_metadata
from stale_edge.bundle.onnx_parts import graph_problems
from stale_edge.bundle.text_contract import text_encoder_problems
from stale_edge.config import to_dict
from stale_edge.errors import BundleError, VerificationError
from stale_edge.paths import MOST_MANIFEST_BYTES, inside, read_regular


@dataclass(frozen=True)
class Bundle:
    """A bundle whose manifest has been read and whose paths stay inside its folder.

    A file is checked when it is requested (`checked_path`, `class_bank`); `verify_bundle` checks all.
    """

    path: Path
    manifest: Manifest

    def detector(self, *, runtime: str, precision: str) -> FileEntry:
        """Find the detector for a runtime and precision.

        Raises:
            BundleError: there is none; the message lists the existing ones.
        """
        return self.file("detector", runtime=runtime, precision=precision)

    def file(self, role: Role, *, runtime: str | None = None, precision: str | None = None) -> FileEntry:
        """Find the first file of a role, with the given runtime and precision.

        Raises:
            BundleError: there is none; the message lists the role's existing files.
        """
        of_role = self.manifest.of_role(role)
        for entry in of_role:
            if runtime in (None, entry.runtime) and precision in (None, entry.precision):
                return entry
        said = role.replace("_", " ")
        asked = " ".join(part for part in (runtime, precision) if part is not None)
        held = ", ".join(f"{entry.runtime} {entry.precision}" if entry.precision else entry.path for entry in of_role)
        raise BundleError(
            f"{self.path}: the bundle has no {asked}{' ' if asked else ''}{said}; it has: {held or f'no {said}'}"
        )

    def checked_path(self, entry: FileEntry) -> Path:
        """Return a file's path, after checking that its size and sha256 equal the manifest's.

        Raises:
            VerificationError: the file is missing, outside the folder, or its bytes changed; or it is a graph that
                needs another file, or operators that are not ONNX's own.
        """
        problem = _file_problem(self.path, entry)
        problems = [problem] if problem else graph_problems(self.path, entry.path)
        if problems:
            raise VerificationError(f"{self.path}: {'; '.join(problems)}")
        return self.path / entry.path

    @cached_property
    def class_bank(self) -> ClassBank:
        """Read the class bank, after checking its bytes.

        Raises:
            VerificationError: the file is missing or its bytes changed.
            BundleError: it is not a class bank, or has another width than the detectors take.
        """
        return _checked_bank(self)


def read_bundle(path: Path) -> Bundle:
    """Read a bundle's manifest.

    Raises:
        BundleError: no such folder, no manifest, another format version, or a malformed manifest.
        VerificationError: the manifest is well-formed but was changed: its seal is missing or wrong.
    """
    folder = Path(path)
    if not folder.is_dir():
        kind = "is a file" if folder.exists() else "does not exist"
        raise BundleError(f"{path}: not a bundle: it {kind}; a bundle is a folder with a {MANIFEST_NAME}")
    try:
        content = read_regular(inside(folder, MANIFEST_NAME, error=BundleError), most=MOST_MANIFEST_BYTES)
        text = content.decode()
    except FileNotFoundError as error:
        raise BundleError(f"{path}: not a bundle: {MANIFEST_NAME} is missing") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{path}: cannot read {MANIFEST_NAME}: {error}") from error
    try:
        manifest = Manifest.from_text(text)
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from error
    if not is_sealed(content):
        raise VerificationError(f"{path}: {MANIFEST_NAME} has changed: it is not, byte by byte, what was written")
    return Bundle(folder, manifest)


def verify_bundle(path: Path) -> Bundle:
    """Check all of a bundle: every file, every byte, the graphs' metadata, the class bank.

    Raises:
        VerificationError: something differs from the manifest; the message names every bad file.
        BundleError: there is no such folder.
    """
    return in_one_generation(path, lambda: _verified(path))


def _verified(path: Path) -> Bundle:
    try:
        bundle = read_bundle(path)
    except BundleError as error:
        if not Path(path).is_dir():
            raise
        raise VerificationError(str(error)) from error
    # Reading adds default settings that an older kit did not have; a whole bundle has all of them.
    written = parse_json(read_regular(bundle.path / MANIFEST_NAME, most=MOST_MANIFEST_BYTES).decode(), MANIFEST_NAME)
    lacking = [key for key in type(bundle.manifest.decode).__dataclass_fields__ if key not in written["decode"]]
    problems = [f"{MANIFEST_NAME}: decode lacks {', '.join(lacking)}; export the bundle again"] if lacking else []
    problems += [problem for entry in bundle.manifest.files if (problem := _file_problem(bundle.path, entry))]
    if not problems:
        problems = _content_problems(bundle)
    if problems:
        raise VerificationError(f"{path}: {'; '.join(problems)}")
    return bundle


def describe_bundle(path: Path) -> Json:
    """Describe a bundle for display: contract, classes, files with sizes and quantized weights, parity, provenance.

    Files are not hashed; `verify_bundle` does that.

    Returns:
        JSON-able values: `format`, `path`, `architecture`, `feature_contract`, `decode`, `classes` (`n`, `names`,
        `embed_dim`, `fingerprint`, `space`), `files` (as in the manifest, with `weights`: "x of y weights quantized" or
        null), `total_bytes`, `parity`, `provenance`.

    Raises:
        BundleError: as in `read_bundle`. VerificationError: the class bank's bytes changed.
    """
    return in_one_generation(path, lambda: _described(path))


def _described(path: Path) -> Json:
    bundle = read_bundle(path)
    manifest, bank = bundle.manifest, bundle.class_bank
    files = [{**to_dict(entry), "weights": quantized_weights(entry)} for entry in manifest.files]
    return {
        "format": manifest.format,
        "path": str(path),
        "architecture": manifest.architecture,
        "feature_contract": manifest.feature_contract.to_json(manifest.format),
        "decode": to_dict(manifest.decode),
        "classes": {
            "n": len(bank),
            "names": list(bank.names),
            "embed_dim": bank.width,
            "fingerprint": bank.fingerprint,
            "space": bank.space,
        },
        "files": files,
        "total_bytes": sum(entry.bytes for entry in manifest.files),
        "parity": manifest.parity,
        "provenance": manifest.provenance,
    }


def metadata_problems(bundle: Bundle, entry: FileEntry, metadata: Mapping[str, str]) -> list[str]:
    """Compare the `metadata_props` of one ONNX file with manifest and class bank; returns one line per difference."""
    expected = graph_metadata(
        format=bundle.manifest.format,
        architecture=bundle.manifest.architecture,
        feature_contract=bundle.manifest.feature_contract,
        decode=bundle.manifest.decode,
        class_names=bundle.class_bank.names,
    )
    problems = []
    for key, wanted in expected.items():
        got = metadata.get(key)
        if got is None:
            problems.append(f"{entry.path}: metadata_props lack {key}")
        elif got != wanted and not _equal_json(got, wanted, f"{entry.path}: metadata {key}"):
            problems.append(f"{entry.path}: metadata {key} is {got}; the bundle says {wanted}")
    return problems


def quantized_weights(entry: FileEntry) -> str | None:
    """Return "x of y weights quantized" for a quantized file, None for others."""
    if entry.weights_quantized is None:
        return None
    return f"{entry.weights_quantized} of {entry.weights_total} weights quantized"


def _file_problem(folder: Path, entry: FileEntry) -> str | None:
    """Describe what is wrong with one file; None: nothing."""
    return file_problem(folder, entry.path, size=entry.bytes, sha256=entry.sha256)


def _content_problems(bundle: Bundle) -> list[str]:
    """Compare the content of files with the manifest: class bank width and the metadata of ONNX graphs."""
    manifest = bundle.manifest
    try:
        _ = bundle.class_bank
    except BundleError as error:
        return [str(error)]
    problems = []
    for entry in manifest.of_role(*VOCABULARY_ROLES):
        features = next((spec for spec in entry.inputs if spec.name == "features"), None)
        if features is not None and features.shape[-1] != manifest.feature_contract.channels:
            problems.append(
                f"{entry.path} takes {features.shape[-1]} channels; the feature contract says "
                f"{manifest.feature_contract.channels}"
            )
        if Path(entry.path).suffix != ".onnx":
            continue
        try:
            metadata = read_onnx_metadata(bundle.path / entry.path)
            problems += metadata_problems(bundle, entry, metadata)
        except BundleError as error:
            problems.append(str(error))
    for entry in manifest.files:
        problems += graph_problems(bundle.path, entry.path)
    problems += text_encoder_problems(bundle.path, manifest, bundle.class_bank)
    return problems + encoder_problems(bundle.path, manifest)


def _checked_bank(bundle: Bundle) -> ClassBank:
    bank = ClassBank.load(bundle.checked_path(bundle.manifest.class_bank))
    for entry in bundle.manifest.of_role(*VOCABULARY_ROLES):
        problem = _bank_problem(entry, bank)
        if problem:
            raise BundleError(f"{bundle.path}: {problem}")
    return bank


def _equal_json(text: str, other: str, where: str) -> bool:
    return text[:1] in "[{" and bool(parse_json(text, where) == parse_json(other, where))


def _bank_problem(entry: FileEntry, bank: ClassBank) -> str | None:
    spec = next((spec for spec in entry.inputs if spec.name == "class_embeddings"), None)
    if spec is None:
        return f"{entry.path} has no input class_embeddings; it has {[item.name for item in entry.inputs]}"
    if spec.shape[-1] != bank.width:
        return f"the class bank is {bank.width} wide; {entry.path} takes {spec.shape[-1]}"
    return None
