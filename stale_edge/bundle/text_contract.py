"""The contract in a text encoder file: how to turn a class name into token ids, the input of the file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stale_edge.bundle.class_bank import ClassBank
from stale_edge.bundle.feature_contract import FORMAT, FORMAT_1
from stale_edge.bundle.json_fields import exact_keys, integer_of, parse_json, string_of, table_of
from stale_edge.bundle.manifest import Manifest, TensorSpec
from stale_edge.bundle.onnx_metadata import FORMAT_KEY, read_onnx_metadata
from stale_edge.errors import BundleError, shown

TEXT_ENCODER_NAME = "text_encoder.onnx"
TOKENIZER_NAME = "tokenizer.json"
FINGERPRINT_KEY = "stale_edge.fingerprint"
TEXT_KEY = "stale_edge.text"
_OPTIONAL = ("has_start", "pads_to_full")
_NUMBERS = ("n_contexts", "context_length", "start_id", "end_id", "pad_id")


@dataclass(frozen=True)
class TextContract:
    """Rules that turn names into prompts and prompts into rows of token ids; stored as JSON under `stale_edge.text`.

    A row is [start_id] [ids of the prompt with the name] [end_id], at most `max_tokens` long. Shorter rows of a batch
    are padded with `pad_id` at the end, which changes no output. The learned context vectors are inside the graph.
    """

    prompt: str
    """Prompt template, with one `{}` for the name; `{}` alone for bare names. Several stand on lines of their own."""
    n_contexts: int
    """Number of learned context vectors that the graph inserts after the start token, >= 0."""
    context_length: int
    """Number of positions in the text tower, including contexts (CLIP: 77)."""
    start_id: int
    end_id: int
    pad_id: int
    tokenizer: str
    """Tokenizer file in the bundle, in the format of the `tokenizers` library; used without special tokens."""
    has_start: bool = True
    """Whether a row begins with `start_id`."""
    pads_to_full: bool = False
    """Whether every row is padded to `max_tokens`, since the tower reads padding; else padding changes no output."""

    def __post_init__(self) -> None:
        if any(prompt.count("{}") != 1 for prompt in self.prompts):
            raise BundleError(f"a prompt holds {{}} once, where the class name goes; got {shown(self.prompt)}")
        if self.max_tokens < 3:
            raise BundleError(
                f"{self.n_contexts} contexts leave no room for a name in {self.context_length} places of the text tower"
            )

    @property
    def prompts(self) -> tuple[str, ...]:
        """The templates, at least one; of several the embedding of a name is the mean of their unit vectors."""
        return tuple(self.prompt.split("\n"))

    @property
    def max_tokens(self) -> int:
        """Length of the longest row of token ids, including start and end."""
        return self.context_length - self.n_contexts

    def to_metadata(self, *, fingerprint: str) -> dict[str, str]:
        """Return the `metadata_props` of the text encoder's file."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        for name in _OPTIONAL:  # as in CLIP's, which older readers know
            if values[name] == getattr(type(self), name):
                del values[name]
        text = json.dumps(values, ensure_ascii=False)
        return {FORMAT_KEY: FORMAT, FINGERPRINT_KEY: fingerprint, TEXT_KEY: text}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], *, where: str) -> tuple["TextContract", str]:
        """Read contract and fingerprint from `metadata_props`.

        Raises:
            BundleError: another format version, incomplete or malformed; the message names `where`.
        """
        missing = [key for key in (FORMAT_KEY, FINGERPRINT_KEY, TEXT_KEY) if not metadata.get(key)]
        if missing:
            raise BundleError(f"{where}: not a text encoder of this kit: metadata_props lack {', '.join(missing)}")
        if metadata[FORMAT_KEY] not in (FORMAT, FORMAT_1):  # a text encoder is the same in both
            raise BundleError(
                f"{where} is of format {shown(metadata[FORMAT_KEY])}; this version reads {FORMAT!r} and {FORMAT_1!r}"
            )
        name = f"{where}: {TEXT_KEY}"
        values = table_of(parse_json(metadata[TEXT_KEY], name), name)
        for key in _OPTIONAL:
            if not isinstance(values.get(key, True), bool):
                raise BundleError(f"{name}.{key} must be true or false; got {shown(values[key])}")
        exact_keys({**dict.fromkeys(_OPTIONAL), **values}, tuple(cls.__dataclass_fields__), name)
        contract = cls(
            prompt=string_of(values["prompt"], f"{name}.prompt"),
            tokenizer=string_of(values["tokenizer"], f"{name}.tokenizer"),
            **{key: integer_of(values[key], f"{name}.{key}", least=0) for key in _NUMBERS},
            has_start=bool(values.get("has_start", cls.has_start)),
            pads_to_full=bool(values.get("pads_to_full", cls.pads_to_full)),
        )
        return contract, metadata[FINGERPRINT_KEY]


def text_encoder_inputs() -> tuple[TensorSpec]:
    """List the input of every text encoder: token_ids [K, L], int64."""
    return (TensorSpec("token_ids", "int64", ("K", "L")),)


def text_encoder_outputs(*, embed_dim: int) -> tuple[TensorSpec]:
    """List the output of every text encoder: class_embeddings [K, D], float32, as detectors take them."""
    return (TensorSpec("class_embeddings", "float32", ("K", embed_dim)),)


def text_encoder_problems(bundle: Path, manifest: Manifest, bank: ClassBank) -> list[str]:
    """Compare the text encoders of a bundle with its class bank and tokenizer; returns one line per difference."""
    problems = []
    tokenizers = [entry.path for entry in manifest.of_role("tokenizer")]
    for entry in manifest.of_role("text_encoder"):
        try:
            contract, fingerprint = TextContract.from_metadata(
                read_onnx_metadata(bundle / entry.path), where=entry.path
            )
        except BundleError as error:
            problems.append(str(error))
            continue
        if fingerprint != bank.fingerprint:
            problems.append(
                f"{entry.path} has fingerprint {fingerprint}; the class bank was made by {bank.fingerprint}"
            )
        if contract.tokenizer not in tokenizers:
            problems.append(
                f"{entry.path} needs {contract.tokenizer}; tokenizers in the manifest: {tokenizers or 'none'}"
            )
        if entry.outputs[0].shape[-1] != bank.width:
            problems.append(
                f"{entry.path} gives embeddings {entry.outputs[0].shape[-1]} wide; the class bank is {bank.width} wide"
            )
    return problems
