"""The manifest: what a bundle is, which files it holds, and what they promise. `manifest.json` <-> dataclasses."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, get_args

from stale_edge.bundle.json_fields import Json, exact_keys, integer_of, list_of, parse_json, string_of, table_of
from stale_edge.config import (
    DecodeConfig,
    DecodeSettings,
    FeatureSpec,
    Resampling,
    from_dict,
    from_plain,
    to_dict,
)
from stale_edge.errors import BundleError, ConfigError, shown
from stale_edge.paths import folded, name_problem

FORMAT = "stale-edge-bundle/2"
"""What is written."""
FORMAT_1 = "stale-edge-bundle/1"
"""What is read besides: STALE's two architectures and policies, no `num_frames` and `normalize` in the contract."""
FORMAT_1_ARCHITECTURES = ("paper", "release")
MANIFEST_NAME = "manifest.json"
CLASS_BANK_NAME = "class_bank.npz"

Role = Literal["detector", "localizer", "class_bank", "text_encoder", "tokenizer", "visual_encoder", "model_repository"]
VOCABULARY_ROLES: tuple[Role, ...] = ("detector", "localizer")
"""Graphs that take class embeddings, and say in their metadata whose."""
_GRAPH_ROLES: tuple[Role, ...] = ("detector", "localizer", "text_encoder")
"""Files that run: they name runtime and precision, inputs and outputs."""
_PLAIN_ROLES: tuple[Role, ...] = ("class_bank", "tokenizer")
"""Files that do not. What the other roles' folders hold may run or not."""

_SEAL = "manifest_sha256"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class FeatureContract:
    """What features must be for the detector to mean anything; checked by every runtime before it runs."""

    encoder: str
    """Name or fingerprint of the visual encoder."""
    channels: int
    """C, >= 1."""
    fps: float | None
    """Frames per second that were sampled from the video, > 0; None: unspecified."""
    stride: int | None
    """Frames per snippet, >= 1; None: unspecified."""
    length: int | None
    """T that the graph is made for, >= 1; None: any T."""
    resampling: Resampling
    """What `detect` does with a video's features: `linear` interpolates to `resample_to` snippets, `none` nothing."""
    resample_to: int | None = None
    """Snippets that `linear` resamples to, >= 1; given by `length` where that is fixed."""
    num_frames: int | None = None
    """Frames that one feature was computed from, >= 1; None: unspecified."""
    normalize: str = "none"
    """What the network does to features before anything else; for people, since it is inside the graph."""

    def __post_init__(self) -> None:
        FeatureSpec(self.encoder, self.channels, self.fps, self.stride)  # the same rules hold here
        if self.length is not None and self.length < 1:
            raise ConfigError(f"feature_contract.length must be an integer >= 1 or null; got {self.length}")
        if self.num_frames is not None and self.num_frames < 1:
            raise ConfigError(f"feature_contract.num_frames must be an integer >= 1 or null; got {self.num_frames}")
        if self.resampling == "none":
            if self.resample_to is not None:
                raise ConfigError(
                    f"feature_contract.resample_to must be null without resampling; got {self.resample_to}"
                )
            return
        target = self.resample_to if self.resample_to is not None else self.length
        if target is None or target < 1 or (self.length is not None and target != self.length):
            raise ConfigError(
                "feature_contract.resample_to must be an integer >= 1 for linear resampling, and equal to length where "
                f"that is fixed; got {self.resample_to} with length {self.length}"
            )
        object.__setattr__(self, "resample_to", target)

    @classmethod
    def from_spec(
        cls,
        spec: FeatureSpec,
        *,
        length: int | None,
        resampling: Resampling,
        resample_to: int | None = None,
        normalize: str = "none",
    ) -> "FeatureContract":
        """Extend a data set's feature spec by what the detector demands of the temporal axis."""
        return cls(
            spec.encoder,
            spec.channels,
            spec.fps,
            spec.stride,
            length,
            resampling,
            resample_to,
            num_frames=spec.num_frames,
            normalize=normalize,
        )

    def to_json(self, format: str = FORMAT) -> Json:
        """Plain JSON values, one key a field that the format has."""
        return {key: value for key, value in to_dict(self).items() if key in contract_keys(format)}


def contract_keys(format: str) -> tuple[str, ...]:
    """List the keys of a feature contract in a format."""
    later = ("num_frames", "normalize") if format == FORMAT_1 else ()
    return tuple(key for key in FeatureContract.__dataclass_fields__ if key not in later)


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a file that runs: numpy's dtype name, and a shape of sizes and symbolic names.

    Symbols: B videos, T snippets, P points, K classes, D the width of a class embedding; `K+1` with background.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class FileEntry:
    """One file of a bundle. What does not run, such as a class bank, has neither runtime nor precision nor tensors."""

    path: str
    """Relative to the bundle, with forward slashes, never leaving it."""
    sha256: str
    bytes: int
    role: Role
    runtime: str | None = None
    """What runs it: `onnxruntime`, `torchscript`, `torch-export`, `triton`."""
    precision: str | None = None
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    weights_quantized: int | None = None
    """x of "x of y weights quantized", counted in numbers; None for a file that is not quantized."""
    weights_total: int | None = None
    """y: all numbers of all weights."""
    note: str = ""
    """What whoever runs this file should know, for example that it is slower on a CPU."""


@dataclass(frozen=True)
class Manifest:
    """All of `manifest.json`.

    Raises:
        BundleError: a path leaves the folder or is listed twice, two files of one role claim the same runtime and
            precision, or there is not exactly one class bank.
    """

    architecture: str
    """For people and tools; what a program must be able to do stands in `decode`."""
    feature_contract: FeatureContract
    decode: DecodeSettings
    files: tuple[FileEntry, ...]
    parity: Json = field(default_factory=dict)
    """The parity report, as the exporter wrote it."""
    provenance: Json = field(default_factory=dict)
    """Checkpoint hash, resolved config, versions, machine; `class_edits` when classes were added or removed."""
    format: str = FORMAT
    """`FORMAT`, or that of an older bundle, which it keeps when its classes are edited."""

    def __post_init__(self) -> None:
        seen: dict[str, str] = {}
        made: dict[tuple[Role, str | None, str], str] = {}
        for entry in self.files:
            check_inside(entry.path)
            key = folded(entry.path)  # some file systems do not tell case apart
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
        """The text of `manifest.json`, for people too; its last key seals all others (`is_sealed`)."""
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
            exact_keys(contract_table, contract_keys(format), "feature_contract")
            contract = from_dict(FeatureContract, contract_table, where="feature_contract.")
            settings = DecodeConfig if format == FORMAT_1 else DecodeSettings
            decode: DecodeSettings = from_plain(settings, table_of(table["decode"], "decode"), "decode")
        except ConfigError as error:
            raise BundleError(f"manifest: {error}") from error
        files = tuple(file_entry(item, f"files[{i}]") for i, item in enumerate(list_of(table["files"], "files")))
        parity, provenance = table_of(table["parity"], "parity"), table_of(table["provenance"], "provenance")
        return cls(architecture, contract, decode, files, dict(parity), dict(provenance), format)


def detector_inputs(*, channels: int, embed_dim: int, length: int | None) -> tuple[TensorSpec, TensorSpec]:
    """Inputs of a detector graph: features [B, T, C] and class_embeddings [K, D], float32."""
    T: int | str = "T" if length is None else length
    return (
        TensorSpec("features", "float32", ("B", T, channels)),
        TensorSpec("class_embeddings", "float32", ("K", embed_dim)),
    )


def mask_detector_outputs(length: int | None) -> tuple[TensorSpec, TensorSpec, TensorSpec]:
    """Outputs of both networks of STALE: class_logits [B, K+1, T], masks [B, T, T] and foreground [B, T], float32.

    Args:
        length: T where it is fixed, None where it is free.
    """
    T: int | str = "T" if length is None else length
    return (
        TensorSpec("class_logits", "float32", ("B", "K+1", T)),
        TensorSpec("masks", "float32", ("B", T, T)),
        TensorSpec("foreground", "float32", ("B", T)),
    )


def localizer_inputs(*, channels: int, embed_dim: int, length: int | None) -> tuple[TensorSpec, ...]:
    """Inputs of every localizer graph: those of a detector with one video, and its duration_s [1], float32."""
    T: int | str = "T" if length is None else length
    return (
        TensorSpec("features", "float32", (1, T, channels)),
        TensorSpec("class_embeddings", "float32", ("K", embed_dim)),
        TensorSpec("duration_s", "float32", (1,)),
    )


def localizer_outputs() -> tuple[TensorSpec, ...]:
    """Outputs of every localizer graph, best first: segments [N, 2] in seconds, scores [N], labels [N]."""
    return (
        TensorSpec("segments", "float32", ("N", 2)),
        TensorSpec("scores", "float32", ("N",)),
        TensorSpec("labels", "int64", ("N",)),
    )


def is_sealed(content: bytes, *, seal: str = _SEAL) -> bool:
    """Say whether the bytes of `manifest.json` are those that were written.

    `manifest_sha256` is the sha256 of the other keys as compact JSON with sorted keys. It finds damage; it is no
    signature, whoever can write the file can seal it again. Other sealed files give the key another name.
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
    """Refuse a manifest path that is absolute, climbs, or means different things on different systems.

    Raises:
        BundleError: the path is named.
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
    plain = json.loads(json.dumps(values, allow_nan=False))  # what a reader will find, for example keys as strings
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
