"""The manifest: description of a bundle and of its files. `manifest.json` <-> dataclasses."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, get_args

from stale_edge.bundle.feature_contract import FORMAT, FORMAT_1, OPTIONAL_KEYS, FeatureContract, contract_keys
from stale_edge.bundle.json_fields import Json, exact_keys, integer_of, list_of, parse_json, string_of, table_of
from stale_edge.config import (
    DecodeConfig,
    DecodeSettings,
    from_dict,
    from_plain,
    to_dict,
)
from stale_edge.config.runtimes import MANIFEST_RUNTIMES
from stale_edge.errors import BundleError, ConfigError, shown
from stale_edge.paths import folded, name_problem

FORMAT_1_ARCHITECTURES = ("paper", "release")
MANIFEST_NAME = "manifest.json"
CLASS_BANK_NAME = "class_bank.npz"

Role = Literal["detector", "localizer", "class_bank", "text_encoder", "tokenizer", "visual_encoder", "model_repository"]
VOCABULARY_ROLES: tuple[Role, ...] = ("detector", "localizer")
"""Graphs that take class embeddings; their metadata names the classes."""
_GRAPH_ROLES: tuple[Role, ...] = ("detector", "localizer", "text_encoder")
"""Runnable files: their entries have runtime and precision, inputs and outputs."""
_PLAIN_ROLES: tuple[Role, ...] = ("class_bank", "tokenizer")
"""Files that do not run. Files of the other roles may run or not."""

_SEAL = "manifest_sha256"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a runnable file: numpy's dtype name, and a shape of sizes and symbols.

    Symbols: B videos, T snippets, P points, K classes, D the width of a class embedding; `K+1` with background.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class FileEntry:
    """One file of a bundle. A file that does not run, such as a class bank, has no runtime, precision or tensors."""

    path: str
    """Path relative to the bundle and inside it, with forward slashes."""
    sha256: str
    bytes: int
    role: Role
    runtime: str | None = None
    """Runtime that runs it: `onnxruntime`, `torchscript`, `torch-export`, `triton`."""
    precision: str | None = None
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    weights_quantized: int | None = None
    """Numbers in quantized weights, x of "x of y weights quantized"; None for a file that is not quantized."""
    weights_total: int | None = None
    """Numbers in all weights, y of "x of y weights quantized"."""
    note: str = ""
    """Advice for users of this file, for example that it is slower on a CPU."""


@dataclass(frozen=True)
class Manifest:
    """The content of `manifest.json`.

    Raises:
        BundleError: a path leaves the folder or is listed twice, two files of one role have the same runtime and
            precision, or there is not exactly one class bank.
    """

    architecture: str
    """Name for display and tools; a program only has to support the policy in `decode`."""
    feature_contract: FeatureContract
    decode: DecodeSettings
    files: tuple[FileEntry, ...]
    parity: Json = field(default_factory=dict)
    """The parity report, as the exporter wrote it."""
    provenance: Json = field(default_factory=dict)
    """Checkpoint hash, resolved config, versions, machine; `class_edits` when classes were added or removed."""
    format: str = FORMAT
    """`FORMAT`, or the format of an older bundle, which stays when its classes are edited."""

    def __post_init__(self) -> None:
        seen: dict[str, str] = {}
        made: dict[tuple[Role, str | None, str], str] = {}
        for entry in self.files:
            check_inside(entry.path)
            if entry.runtime == MANIFEST_RUNTIMES["onnx"] and not entry.path.endswith(".onnx"):
                raise BundleError(f"the path of a file for {entry.runtime} must end in .onnx; got {shown(entry.path)}")
            key = folded(entry.path)  # some file systems ignore case
            if key in seen:
                raise BundleError(f"manifest lists a file twice: {shown(seen[key])} and {shown(entry.path)}")
            seen[key] = entry.path
            if entry.precision is None:
                continue
            kind = (entry.role, entry.runtime, entry.precision)
            if kind in made:
                raise BundleError(
                    f"manifest has two files of role {entry.role} for {entry.runtime} {entry.precision}: "
                    f"{made[kind]} and {entry.path}"
                )
            made[kind] = entry.path
        banks = [entry.path for entry in self.of_role("class_bank")]
        if len(banks) != 1:
            raise BundleError(f"a bundle holds exactly one class bank; the manifest lists {banks or 'none'}")

    def of_role(self, *roles: Role) -> tuple[FileEntry, ...]:
        """List the files of these roles, in the manifest's order."""
        return tuple(entry for entry in self.files if entry.role in roles)

    @property
    def detectors(self) -> tuple[FileEntry, ...]:
        return self.of_role("detector")

    @property
    def class_bank(self) -> FileEntry:
        return self.of_role("class_bank")[0]

    def to_json(self) -> Json:
        """Plain JSON values, as `manifest.json` holds them."""
        values = {"format": self.format, **to_dict(self)}
        return {**values, "feature_contract": self.feature_contract.to_json(self.format)}

    def to_text(self) -> str:
        """Return the indented text of `manifest.json`; its last key seals all others (`is_sealed`)."""
        return sealed_text(self.to_json())

    @classmethod
    def from_text(cls, text: str) -> "Manifest":
        """Read the text of `manifest.json`.

        Raises:
            BundleError: not JSON, another format version, or a field that is missing, unknown or malformed.
        """
        return cls.from_json(parse_json(text, "manifest"))

    @classmethod
    def from_json(cls, values: object) -> "Manifest":
        """Read the JSON values of a manifest; errors as in `from_text`."""
        table = table_of(values, "manifest")
        got = table.get("format")
        if got not in (FORMAT, FORMAT_1):
            raise BundleError(
                f"manifest is of format {shown(got)}; this version of stale-edge reads {FORMAT!r} and {FORMAT_1!r}"
            )
        format = str(got)
        keys = ("format", "architecture", "feature_contract", "decode", "files", "parity", "provenance", _SEAL)
        exact_keys({_SEAL: "", **table}, keys, "manifest")
        architecture = string_of(table["architecture"], "architecture")
        if format == FORMAT_1 and architecture not in FORMAT_1_ARCHITECTURES:
            raise BundleError(f"architecture must be one of {FORMAT_1_ARCHITECTURES}; got {shown(architecture)}")
        try:
            contract_table = table_of(table["feature_contract"], "feature_contract")
            given = tuple(key for key in OPTIONAL_KEYS if key in contract_table)
            exact_keys(contract_table, contract_keys(format) + given, "feature_contract")
            contract = from_dict(FeatureContract, contract_table, where="feature_contract.")
            settings = DecodeConfig if format == FORMAT_1 else DecodeSettings
            decode: DecodeSettings = from_plain(settings, table_of(table["decode"], "decode"), "decode")
        except ConfigError as error:
            raise BundleError(f"manifest: {error}") from error
        files = tuple(file_entry(item, f"files[{i}]") for i, item in enumerate(list_of(table["files"], "files")))
        parity, provenance = table_of(table["parity"], "parity"), table_of(table["provenance"], "provenance")
        return cls(architecture, contract, decode, files, dict(parity), dict(provenance), format)


def detector_inputs(*, channels: int, embed_dim: int, length: int | None) -> tuple[TensorSpec, TensorSpec]:
    """List the inputs of a detector graph: features [B, T, C] and class_embeddings [K, D], float32."""
    T: int | str = "T" if length is None else length
    return (
        TensorSpec("features", "float32", ("B", T, channels)),
        TensorSpec("class_embeddings", "float32", ("K", embed_dim)),
    )


def mask_detector_outputs(length: int | None) -> tuple[TensorSpec, TensorSpec, TensorSpec]:
    """List the outputs of both STALE networks: class_logits [B, K+1, T], masks [B, T, T], foreground [B, T], float32.

    Args:
        length: fixed T; None: any T.
    """
    T: int | str = "T" if length is None else length
    return (
        TensorSpec("class_logits", "float32", ("B", "K+1", T)),
        TensorSpec("masks", "float32", ("B", T, T)),
        TensorSpec("foreground", "float32", ("B", T)),
    )


def point_detector_outputs() -> tuple[TensorSpec, TensorSpec, TensorSpec]:
    """List the outputs of a pyramid: class_logits [B, P, K], offsets [B, P, 2], valid [B, P], float32."""
    return (
        TensorSpec("class_logits", "float32", ("B", "P", "K")),
        TensorSpec("offsets", "float32", ("B", "P", 2)),
        TensorSpec("valid", "float32", ("B", "P")),
    )


def localizer_inputs(*, channels: int, embed_dim: int, length: int | None) -> tuple[TensorSpec, ...]:
    """List the inputs of every pipeline: those of a detector with one video, and its duration_s [1], float32."""
    T: int | str = "T" if length is None else length
    return (
        TensorSpec("features", "float32", (1, T, channels)),
        TensorSpec("class_embeddings", "float32", ("K", embed_dim)),
        TensorSpec("duration_s", "float32", (1,)),
    )


def localizer_outputs() -> tuple[TensorSpec, ...]:
    """List the outputs of every pipeline, best first: segments [N, 2] in seconds, scores [N], labels [N]."""
    return (
        TensorSpec("segments", "float32", ("N", 2)),
        TensorSpec("scores", "float32", ("N",)),
        TensorSpec("labels", "int64", ("N",)),
    )


def is_sealed(content: bytes, *, seal: str = _SEAL) -> bool:
    """Check whether the bytes of `manifest.json` are unchanged since it was written.

    `manifest_sha256` is the sha256 of the other keys as compact JSON with sorted keys. It finds damage; it is not a
    signature: anybody who can write the file can seal it again. Other sealed files have another name for the key.
    """
    try:
        text = content.decode()
        values = parse_json(text, "manifest")
        if not isinstance(values, dict) or seal not in values:
            return False
        del values[seal]
        return text == sealed_text(values, seal=seal)
    except (UnicodeDecodeError, RecursionError, BundleError):
        return False


def check_inside(path: str) -> None:
    """Refuse a manifest path that is absolute, contains `..`, or has different meanings on different systems.

    Raises:
        BundleError: the path is refused; the message names it.
    """
    problem = "has a colon" if ":" in path else name_problem(path, nested=True)
    if problem:
        raise BundleError(
            f"manifest names a path outside the bundle: {shown(path)} {problem}; only relative paths inside are allowed"
        )
    if folded(path) == MANIFEST_NAME:
        raise BundleError(f"manifest names {shown(path)}, which no file of a bundle can be called")


def sealed_text(values: Json, *, seal: str = _SEAL) -> str:
    """Write a manifest's values as text, with the seal as their last key.

    Raises:
        TypeError, ValueError: not plain JSON.
    """
    plain = json.loads(json.dumps(values, allow_nan=False))  # the values as a reader gets them, e.g. string keys
    compact = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    sealed = {**plain, seal: hashlib.sha256(compact.encode()).hexdigest()}
    return json.dumps(sealed, indent=2, ensure_ascii=False) + "\n"


def file_entry(values: object, where: str) -> FileEntry:
    """Read one entry of a manifest's list of files; BundleError names the field that is wrong."""
    table = table_of(values, where)
    exact_keys(table, tuple(FileEntry.__dataclass_fields__), where)
    sha256 = string_of(table["sha256"], f"{where}.sha256")
    if not _SHA256.fullmatch(sha256):
        raise BundleError(f"{where}.sha256 must be 64 lower-case hexadecimal digits; got {shown(sha256)}")
    role = table["role"]
    if role not in get_args(Role):
        raise BundleError(f"{where}.role must be one of {get_args(Role)}; got {shown(role)}")
    inputs, outputs = (
        tuple(_tensors(table["inputs"], f"{where}.inputs")),
        tuple(_tensors(table["outputs"], f"{where}.outputs")),
    )
    runs = role not in _PLAIN_ROLES and (role in _GRAPH_ROLES or bool(inputs or outputs))
    said = f"a {role.replace('_', ' ')}" if runs or role in _PLAIN_ROLES else "a file without inputs and outputs"
    for key in ("runtime", "precision"):
        if runs:
            string_of(table[key], f"{where}.{key}")
        elif table[key] is not None:
            raise BundleError(f"{where}.{key} must be null for {said}; got {shown(table[key])}")
    if runs and not (inputs and outputs):
        raise BundleError(f"{where}: {said} needs inputs and outputs")
    if not runs and (inputs or outputs):
        raise BundleError(f"{where}: {said} has neither inputs nor outputs")
    quantized, total = (
        None if table[key] is None else integer_of(table[key], f"{where}.{key}", least=0)
        for key in ("weights_quantized", "weights_total")
    )
    if quantized is not None and (total is None or quantized > total):
        raise BundleError(f"{where}: {quantized} weights quantized of {total} weights is impossible")
    if not isinstance(table["note"], str):
        raise BundleError(f"{where}.note must be a string; got {shown(table['note'])}")
    return FileEntry(
        path=string_of(table["path"], f"{where}.path"),
        sha256=sha256,
        bytes=integer_of(table["bytes"], f"{where}.bytes", least=0),
        role=role,
        runtime=table["runtime"],
        precision=table["precision"],
        inputs=inputs,
        outputs=outputs,
        weights_quantized=quantized,
        weights_total=total,
        note=table["note"],
    )


def _tensors(values: object, where: str) -> Iterator[TensorSpec]:
    for i, item in enumerate(list_of(values, where)):
        table = table_of(item, f"{where}[{i}]")
        exact_keys(table, ("name", "dtype", "shape"), f"{where}[{i}]")
        shape = list_of(table["shape"], f"{where}[{i}].shape")
        for size in shape:
            if not (isinstance(size, str) and size) and not (type(size) is int and size >= 1):
                raise BundleError(f"{where}[{i}].shape must hold sizes >= 1 and symbolic names; got {shown(shape)}")
        name, dtype = (string_of(table[key], f"{where}[{i}].{key}") for key in ("name", "dtype"))
        yield TensorSpec(name, dtype, tuple(shape))
