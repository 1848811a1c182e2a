"""The encoder folder: a visual encoder as ONNX files, with its preprocessing. Torch-free.

`manifest.json` is sealed like a bundle's. The folder is separate, or inside a bundle under `ENCODER_FOLDER`.
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from stale_edge.bundle.feature_contract import FeatureContract
from stale_edge.bundle.files import (
    file_problem,
    folder_beside,
    replace_folder,
    sync_file,
    sync_folder,
)
from stale_edge.bundle.json_fields import Json, exact_keys, integer_of, list_of, parse_json, string_of, table_of
from stale_edge.bundle.manifest import (
    MANIFEST_NAME,
    FileEntry,
    Manifest,
    TensorSpec,
    check_inside,
    file_entry,
    is_sealed,
    sealed_text,
)
from stale_edge.bundle.onnx_metadata import FORMAT_KEY, read_onnx_metadata
from stale_edge.bundle.onnx_parts import graph_problems
from stale_edge.config import FeatureSpec, to_dict
from stale_edge.errors import BundleError, VerificationError, shown
from stale_edge.paths import MOST_MANIFEST_BYTES, inside, read_regular

ENCODER_FORMAT = "stale-edge-encoder/1"
ENCODER_FOLDER = "encoder"
"""Subfolder of a bundle with its visual encoder."""
FINGERPRINT_KEY = "stale_edge.fingerprint"
PREPROCESS_KEY = "stale_edge.preprocess"


@dataclass(frozen=True)
class EncoderManifest:
    """The content of an encoder's `manifest.json`.

    Raises:
        BundleError: no file, two files of one precision, or a file without an encoder's inputs and outputs.
    """

    name: str
    """Name of its source, for display: a hub name or the name of a folder."""
    embed_dim: int
    """C, width of a feature, >= 1."""
    image_size: tuple[int, int]
    """Height and width of the graphs' input, in pixels, >= 1."""
    fingerprint: str
    """Hash of everything that affects the features; the `encoder` of a feature contract."""
    preprocess: Json
    """The fields of `stale_edge.video.ClipPreprocess`."""
    files: tuple[FileEntry, ...]
    parity: Json = field(default_factory=dict)
    """The exporter's parity report: comparison of the files with the tower."""
    provenance: Json = field(default_factory=dict)
    description: Json = field(default_factory=dict)
    """How the source is run: the fields of `model.encoder_families.EncoderDescription` but `preprocess`; informative.
    Encoders written before there was more than CLIP have none."""

    def __post_init__(self) -> None:
        precisions = [entry.precision for entry in self.files]
        if not precisions or len(set(precisions)) < len(precisions):
            raise BundleError(f"an encoder holds one file a precision, at least one; got {precisions}")
        inputs, outputs = encoder_inputs(self.image_size), encoder_outputs(self.embed_dim)
        for entry in self.files:
            check_inside(entry.path)
            if entry.role != "visual_encoder" or entry.inputs != inputs or entry.outputs != outputs:
                raise BundleError(
                    f"{entry.path}: a visual encoder for pictures of {self.image_size} takes {inputs} and gives "
                    f"{outputs}; got role {entry.role}, {entry.inputs}, {entry.outputs}"
                )

    def to_text(self) -> str:
        """Return the text of `manifest.json`, sealed."""
        values = to_dict(self)
        if not self.description:
            del values["description"]
        return sealed_text({"format": ENCODER_FORMAT, **values})

    @classmethod
    def from_text(cls, text: str) -> "EncoderManifest":
        """Read the text of `manifest.json`.

        Raises:
            BundleError: not JSON, another format, or a field that is missing, unknown or malformed.
        """
        table = table_of(parse_json(text, "manifest"), "manifest")
        if table.get("format") != ENCODER_FORMAT:
            raise BundleError(
                f"manifest is of format {shown(table.get('format'))}; a visual encoder's is {ENCODER_FORMAT!r}"
            )
        keys = ("format", *cls.__dataclass_fields__, "manifest_sha256")
        exact_keys({"manifest_sha256": "", "description": {}, **table}, keys, "manifest")
        size = [
            integer_of(side, f"image_size[{i}]", least=1)
            for i, side in enumerate(list_of(table["image_size"], "image_size"))
        ]
        if len(size) != 2:
            raise BundleError(f"image_size must be [height, width]; got {size}")
        return cls(
            name=string_of(table["name"], "name"),
            embed_dim=integer_of(table["embed_dim"], "embed_dim", least=1),
            image_size=(size[0], size[1]),
            fingerprint=string_of(table["fingerprint"], "fingerprint"),
            preprocess=dict(table_of(table["preprocess"], "preprocess")),
            files=tuple(file_entry(item, f"files[{i}]") for i, item in enumerate(list_of(table["files"], "files"))),
            parity=dict(table_of(table["parity"], "parity")),
            provenance=dict(table_of(table["provenance"], "provenance")),
            description=dict(table_of(table.get("description", {}), "description")),
        )


@dataclass(frozen=True)
class EncoderBundle:
    """An encoder folder whose manifest has been read; a file is checked when its path is requested."""

    path: Path
    manifest: EncoderManifest

    def checked_path(self, precision: str) -> Path:
        """Return the path of a precision's file, after checking size, sha256 and metadata against the manifest.

        Raises:
            BundleError: there is no such precision; the message lists the existing ones.
            VerificationError: the file is missing, or differs from the manifest.
        """
        entry = next((entry for entry in self.manifest.files if entry.precision == precision), None)
        if entry is None:
            held = ", ".join(str(entry.precision) for entry in self.manifest.files)
            raise BundleError(f"{self.path}: the encoder has no {precision} file; it has: {held}")
        problem = self._problem(entry)
        if problem:
            raise VerificationError(f"{self.path}: {problem}")
        return self.path / entry.path

    def _problem(self, entry: FileEntry) -> str | None:
        damage = file_problem(self.path, entry.path, size=entry.bytes, sha256=entry.sha256)
        if damage:
            return damage
        try:
            metadata = read_onnx_metadata(self.path / entry.path)
        except BundleError as error:
            return str(error)
        for key, wanted in encoder_metadata(self.manifest.fingerprint, self.manifest.preprocess).items():
            if metadata.get(key) != wanted:
                return f"{entry.path}: metadata {key} is {metadata.get(key)}; the manifest says {wanted}"
        return next(iter(graph_problems(self.path, entry.path)), None)


def encoder_inputs(image_size: tuple[int, int]) -> tuple[TensorSpec]:
    """List the input of every visual encoder: prepared pictures [N, 3, height, width], float32."""
    return (TensorSpec("pixel_values", "float32", ("N", 3, *image_size)),)


def encoder_outputs(embed_dim: int) -> tuple[TensorSpec]:
    """List the output of every visual encoder: the tower's features, not normalised, [N, C] float32."""
    return (TensorSpec("image_embeds", "float32", ("N", embed_dim)),)


def encoder_metadata(fingerprint: str, preprocess: Json) -> dict[str, str]:
    """Return a graph's `metadata_props`, which every program must know before it runs the graph."""
    return {
        FORMAT_KEY: ENCODER_FORMAT,
        FINGERPRINT_KEY: fingerprint,
        PREPROCESS_KEY: json.dumps(preprocess, ensure_ascii=False),
    }


def engine_problem(manifest: EncoderManifest, runtime: str, precision: str) -> str:
    """Describe why a runtime and precision failed the parity check at export; empty if it passed or was not compared.

    Raises:
        BundleError: the parity report is malformed.
    """
    for i, item in enumerate(list_of(manifest.parity.get("engines", []), "parity.engines")):
        engine = table_of(item, f"parity.engines[{i}]")
        if (engine.get("runtime"), engine.get("precision")) == (runtime, precision) and engine.get("passed") is False:
            return (
                f"the encoder in {runtime} {precision} gave other features than its tower when it was exported "
                f"({'; '.join(map(str, engine.get('failures', [])))}); use another precision"
            )
    return ""


def read_encoder(path: Path | str) -> EncoderBundle:
    """Read an encoder folder's manifest; its files are checked when they are opened.

    Raises:
        BundleError: there is no such folder, no encoder in it, or its manifest is malformed or was changed.
    """
    folder = Path(path)
    try:
        content = read_regular(inside(folder, MANIFEST_NAME, error=BundleError), most=MOST_MANIFEST_BYTES)
    except OSError as error:
        reason = "no such folder" if not folder.is_dir() else f"{MANIFEST_NAME} is missing or cannot be read"
        raise BundleError(f"{path}: not a visual encoder: {reason}; `stale-edge encoder export` makes one") from error
    try:
        manifest = EncoderManifest.from_text(content.decode())
    except (BundleError, UnicodeDecodeError) as error:
        raise BundleError(f"{path}: {error}") from error
    if not is_sealed(content):
        raise VerificationError(f"{path}: {MANIFEST_NAME} has changed: it is not, byte by byte, what was written")
    return EncoderBundle(folder, manifest)


def is_encoder(path: Path | str) -> bool:
    """Check whether a folder is an encoder folder, by the format that its manifest names."""
    try:
        values = json.loads(read_regular(Path(path) / MANIFEST_NAME, most=MOST_MANIFEST_BYTES))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(values, dict) and values.get("format") == ENCODER_FORMAT


def describe_encoder(path: Path | str) -> Json:
    """Describe an encoder for display, with the JSON values of its manifest; files are not hashed."""
    encoder = read_encoder(path)
    return {"format": ENCODER_FORMAT, "path": str(path), **to_dict(encoder.manifest)}


def find_encoder(path: Path | str) -> EncoderBundle:
    """Read the encoder of an encoder folder, or the one inside a bundle; errors as in `read_encoder`."""
    inside = Path(path) / ENCODER_FOLDER
    return read_encoder(inside if (inside / MANIFEST_NAME).is_file() else path)


def verify_encoder(path: Path | str) -> EncoderBundle:
    """Check every file of an encoder folder.

    Raises:
        BundleError: as in `read_encoder`.
        VerificationError: a file is missing or differs from the manifest; the message names the first.
    """
    encoder = read_encoder(path)
    for entry in encoder.manifest.files:
        encoder.checked_path(str(entry.precision))
    return encoder


@contextlib.contextmanager
def write_encoder(path: Path | str) -> Iterator[Path]:
    """Write an encoder folder so that it appears whole or not at all; an older encoder at the path is replaced.

    Yields:
        The folder to write to: first the files, last `manifest.json`.

    Raises:
        BundleError: the path holds something else than an encoder, or the file system refuses.
    """
    target = Path(path).resolve()
    _check_target(target)
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(folder_beside(target))
        except OSError as error:
            raise BundleError(f"{path}: cannot write beside the encoder: {error}") from error
        yield folder
        verify_encoder(folder)
        _check_target(target)
        try:
            for file in folder.iterdir():
                sync_file(file)
            sync_folder(folder)
            replace_folder(folder, target)
        except OSError as error:
            raise BundleError(f"{path}: cannot put the encoder in place: {error}") from error


def _check_target(target: Path) -> None:
    if not target.parent.is_dir():
        raise BundleError(f"{target}: cannot write the encoder: the folder {target.parent} does not exist")
    if target.exists() and not target.is_dir():
        raise BundleError(f"{target}: will not be replaced: it is a file")
    if not target.exists() or not any(target.iterdir()):
        return
    try:
        named = {MANIFEST_NAME, *(entry.path for entry in read_encoder(target).manifest.files)}
    except BundleError as error:
        raise BundleError(f"the folder is not empty and no encoder, so it is not replaced: {error}") from error
    strange = sorted(item.name for item in target.iterdir() if item.name not in named)
    if strange:
        raise BundleError(f"{target}: will not be replaced, it holds what no manifest names: {', '.join(strange[:5])}")


def encoder_problems(bundle: Path, manifest: Manifest) -> list[str]:
    """Compare a bundle's visual encoder, if there is one, with the bundle's manifest; returns one line per problem."""
    if not manifest.of_role("visual_encoder"):
        return []
    try:
        encoder = verify_encoder(bundle / ENCODER_FOLDER).manifest
    except BundleError as error:
        return [str(error)]
    problems = contract_problems(encoder, manifest.feature_contract)
    return [f"{ENCODER_FOLDER}/: {problems}"] if problems else []


def contract_problems(encoder: EncoderManifest, contract: FeatureContract) -> str:
    """Describe how an encoder's features differ from a contract, with both values; empty if they do not."""
    problems = []
    if encoder.embed_dim != contract.channels:
        problems.append(f"C is {encoder.embed_dim}, the contract says {contract.channels}")
    if contract.encoder not in (FeatureSpec().encoder, encoder.fingerprint):
        problems.append(f"encoder is {shown(encoder.fingerprint)}, the contract says {shown(contract.encoder)}")
    return "; ".join(problems)
