"""Class names to class embeddings with a bundle's own text encoder, without torch."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stale_edge.bundle import ClassBank, read_bundle
from stale_edge.bundle.generations import in_one_generation
from stale_edge.bundle.text_contract import TextContract, text_encoder_inputs
from stale_edge.errors import BundleError, ClassBankError, MissingExtraError
from stale_edge.runtime.onnx_session import open_session
from stale_edge.segments import FloatArray

NAMES_PER_BATCH = 64
_LEAST_NORM = 1e-6


def load_text_encoder(path: Path | str, *, threads: int = 1) -> "BundleTextEncoder":
    """Open the text encoder of a bundle; its files are checked byte by byte first.

    Args:
        path: the bundle's folder.
        threads: CPU threads, >= 1.

    Raises:
        BundleError: no bundle, a bundle without a text encoder, or a class bank made by another encoder.
        VerificationError: a file is missing or its bytes changed.
        MissingExtraError: the `tokenizers` package is not installed.
    """
    return in_one_generation(path, lambda: _load(Path(path), threads))


def _load(path: Path, threads: int) -> "BundleTextEncoder":
    bundle = read_bundle(path)
    graph = bundle.checked_path(bundle.file("text_encoder"))
    tokenizer = bundle.checked_path(bundle.file("tokenizer"))
    encoder = BundleTextEncoder(graph, tokenizer, threads=threads)
    if encoder.fingerprint != bundle.class_bank.fingerprint:
        raise BundleError(
            f"{path}: its class bank comes from another text encoder ({bundle.class_bank.fingerprint}) than "
            f"{graph.name} is ({encoder.fingerprint}); export the bundle again"
        )
    return encoder


def choose_classes(path: Path | str, bank: ClassBank, names: Sequence[str]) -> tuple[ClassBank, tuple[str, ...]]:
    """Take named classes out of a bundle's class bank; those that it lacks are encoded by the bundle's text encoder.

    Args:
        path: the bundle's folder; it is not changed.
        bank: its class bank.
        names: K >= 1 distinct names.

    Returns:
        The bank of these classes, in their order, and the names that had to be encoded.

    Raises:
        ClassBankError: (a ValueError) a name is not in the bank, and the bundle has no text encoder or one that cannot
                read it.
        StaleEdgeError: as in `load_text_encoder`, where a name has to be encoded.
    """
    unknown = tuple(name for name in names if name not in bank.names)
    if not unknown or not read_bundle(Path(path)).manifest.of_role("text_encoder"):
        return bank.select(names), ()
    return bank.merge(load_text_encoder(path).encode(unknown)).select(names), unknown


class BundleTextEncoder:
    """A `text_encoder.onnx` with its tokenizer; immutable, safe to share between threads.

    Args:
        graph: the text encoder's file.
        tokenizer: its `tokenizer.json`.
        threads: CPU threads, >= 1.

    Raises:
        BundleError: a file does not follow the contract.
        MissingExtraError: the `tokenizers` package is not installed.
    """

    def __init__(self, graph: Path, tokenizer: Path, *, threads: int = 1) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise MissingExtraError(
                'new classes need the tokenizers package: pip install "stale-edge[text]"'
            ) from error
        self._session = open_session(graph, threads=threads)
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.contract, self.fingerprint = TextContract.from_metadata(metadata, where=str(graph))
        names = [value.name for value in self._session.get_inputs()]
        if names != [spec.name for spec in text_encoder_inputs()]:
            raise BundleError(f"{graph}: its inputs are {names}; a text encoder takes token_ids")
        self.dim = int(self._session.get_outputs()[0].shape[1])
        try:
            self._tokenizer: Any = Tokenizer.from_file(str(tokenizer))
        except Exception as error:  # the Rust library raises plain Exception
            raise BundleError(f"{tokenizer}: not a tokenizer that this library reads: {error}") from error

    def encode(self, names: Sequence[str]) -> ClassBank:
        """Embed class names; each is put into the prompt that the encoder was trained with.

        Args:
            names: K >= 1 distinct names.

        Returns:
            A bank with this encoder's fingerprint, which `add_classes` and `detect` take.

        Raises:
            ClassBankError: (a ValueError) a name has no token, or too many (nothing is cut off), or breaks a bank's
                rules.
        """
        if isinstance(names, str) or len(names) == 0:
            raise ClassBankError(f"names must be a sequence of at least one class name; got {names!r}")
        batches = (names[i : i + NAMES_PER_BATCH] for i in range(0, len(names), NAMES_PER_BATCH))
        return ClassBank(tuple(names), np.concatenate([self._embed(batch) for batch in batches]), self.fingerprint)

    def tokenize(self, names: Sequence[str]) -> NDArray[np.int64]:
        """Turn names into rows of token ids (K, L), padded to the longest; errors as in `encode`.

        With P prompts (P K, L), all names in the first prompt first.
        """
        contract = self.contract
        rows = []
        for prompt, name in itertools.product(contract.prompts, names):
            ids = self._tokenizer.encode(prompt.replace("{}", name), add_special_tokens=False).ids
            if not name.strip() or not ids or contract.end_id in ids:
                raise ClassBankError(f"the class name {name!r} has no token of its own, or one that ends a text")
            row = [*[contract.start_id] * contract.has_start, *ids, contract.end_id]
            if len(row) > contract.max_tokens:
                framed = "" if prompt == "{}" else f" in the prompt {prompt!r}"
                raise ClassBankError(
                    f"the class name {name!r} has {len(ids)} tokens{framed}; this text encoder takes at most "
                    f"{contract.max_tokens - 1 - contract.has_start}: shorten the name"
                )
            rows.append(row)
        length = contract.max_tokens if contract.pads_to_full else max(map(len, rows))
        return np.array([row + [contract.pad_id] * (length - len(row)) for row in rows], dtype=np.int64)

    def _embed(self, names: Sequence[str]) -> FloatArray:
        (embeddings,) = self._session.run(["class_embeddings"], {"token_ids": self.tokenize(names)})
        n_prompts, rows = len(self.contract.prompts), np.asarray(embeddings)
        if n_prompts == 1:
            return rows
        units = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _LEAST_NORM)
        return np.asarray(units.reshape(n_prompts, len(names), -1).mean(axis=0))
