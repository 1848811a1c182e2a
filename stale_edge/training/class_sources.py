"""Where the class embeddings of a training run come from: a text encoder, free parameters, or a class bank."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stale_edge.bundle.class_bank import ClassBank
from stale_edge.config import ModelSettings
from stale_edge.data.folder import CLASS_BANK_FILE, TEXT_ENCODER_FOLDER
from stale_edge.errors import ConfigError
from stale_edge.model.checkpoint import Checkpoint
from stale_edge.model.class_embeddings import FreeClassEmbeddings, class_bank
from stale_edge.model.effprompt.settings import PromptsConfig
from stale_edge.model.rows import RowClasses, row_bank
from stale_edge.model.text import TextEncoder


class EncodedClasses(nn.Module):
    """Embed a vocabulary with a text encoder; once if nothing in it is learnable, else in every step."""

    fixed: Tensor | None

    def __init__(self, encoder: TextEncoder, names: Sequence[str]) -> None:
        super().__init__()
        self.encoder = encoder
        learnable = any(weight.requires_grad and weight.numel() for weight in encoder.parameters())
        input_ids, attention_mask = encoder.tokenize(names)
        self.register_buffer("input_ids", input_ids, persistent=False)
        self.register_buffer("attention_mask", attention_mask, persistent=False)
        with torch.no_grad():
            fixed = None if learnable else encoder(input_ids, attention_mask)
        self.register_buffer("fixed", fixed, persistent=False)

    def forward(self) -> Tensor:
        """Give the (K, D) embeddings."""
        if self.fixed is not None:
            return self.fixed
        return self.encoder(self.input_ids, self.attention_mask)  # type: ignore[no-any-return]


class FreeClasses(nn.Module):
    """Learn one embedding a class, without a text encoder ("No encoder" in Table 5 of the paper)."""

    def __init__(self, embeddings: FreeClassEmbeddings) -> None:
        super().__init__()
        self.encoder = embeddings

    def forward(self) -> Tensor:
        """Give the (K, D) embeddings."""
        return self.encoder.embeddings


class BankedClasses(nn.Module):
    """Take the embeddings of a class bank as they are."""

    embeddings: Tensor

    def __init__(self, bank: ClassBank, names: Sequence[str]) -> None:
        super().__init__()
        self.bank = bank
        self.register_buffer("embeddings", torch.tensor(bank.select(names).embeddings), persistent=False)

    def forward(self) -> Tensor:
        """Give the (K, D) embeddings."""
        return self.embeddings


ClassSource = EncodedClasses | FreeClasses | BankedClasses | RowClasses


def open_class_source(config: ModelSettings, root: Path, names: Sequence[str]) -> ClassSource:
    """Find the class embeddings that a config and a data set ask for.

    In this order: free embeddings if `text.encoder` is `none`; the encoder that `text.source` names; the data set's
    `text_encoder/` folder; the data set's `class_bank.npz`, whose embeddings stay fixed (contexts have nothing to act
    on then, so `n_contexts` does not matter).

    Args:
        config: `text`, `embed_dim`.
        root: the data set folder.
        names: K class names to train on.

    Raises:
        ConfigError: there is no source, or its width is not `model.embed_dim`.
        CheckpointError: the text encoder cannot be loaded.
        BundleError, ClassBankError: the class bank is unreadable or lacks a class.
    """
    text, dim = config.text, config.embed_dim
    if text.encoder == "none":
        return FreeClasses(FreeClassEmbeddings(names, dim=dim))
    source = text.source or (str(root / TEXT_ENCODER_FOLDER) if (root / TEXT_ENCODER_FOLDER).is_dir() else "")
    if source:
        around = (text.prefix, text.postfix) if isinstance(text, PromptsConfig) else None
        encoder = TextEncoder.load(source, n_contexts=text.n_contexts, trainable=text.encoder == "tuned", around=around)
        _require_width(encoder.dim, dim, source)
        return EncodedClasses(encoder, names)
    if not (root / CLASS_BANK_FILE).is_file():
        raise ConfigError(
            f"{root}: no {TEXT_ENCODER_FOLDER}/ and no {CLASS_BANK_FILE}, so there are no class embeddings; set "
            "model.text.source to a hub name such as openai/clip-vit-base-patch16 or to a local folder, or "
            "model.text.encoder=none to learn one free embedding a class"
        )
    if text.encoder == "tuned":
        raise ConfigError(f"{root}: model.text.encoder=tuned needs a text encoder; there is only {CLASS_BANK_FILE}")
    bank = ClassBank.load(root / CLASS_BANK_FILE)
    _require_width(bank.width, dim, str(root / CLASS_BANK_FILE))
    return BankedClasses(bank, names)


def bank_of(source: ClassSource, names: Sequence[str], *, detector: Any) -> ClassBank:
    """Compute the class bank of a vocabulary with the present weights, for a checkpoint.

    Args:
        source: where the embeddings come from in training.
        names: K class names.
        detector: the one that the checkpoint will hold; rows of a closed vocabulary are its own.

    Raises:
        ValueError: a name has no embedding: free embeddings and banks know their own classes alone.
    """
    if isinstance(source, RowClasses):
        return row_bank(detector, names)
    return source.bank.select(names) if isinstance(source, BankedClasses) else class_bank(source.encoder, names)


def encoder_of(source: ClassSource) -> TextEncoder | FreeClassEmbeddings | None:
    """Give the encoder that a checkpoint stores; None for embeddings that came from a bank."""
    return None if isinstance(source, BankedClasses | RowClasses) else source.encoder


def bank_for(checkpoint: Checkpoint, names: Sequence[str], *, root: Path) -> ClassBank:
    """Extend a checkpoint's class bank by names it was not trained on, as far as they can be embedded.

    They are encoded by the checkpoint's text encoder, or, if it was trained with the embeddings of a bank, read from
    the data set's `class_bank.npz` of the same fingerprint.

    Returns:
        The trained classes, then those of `names` that could be added.

    Raises:
        ClassBankError: the data set's bank is of another fingerprint.
    """
    if checkpoint.bank is None and isinstance(checkpoint.text_encoder, TextEncoder):
        return class_bank(checkpoint.text_encoder, names)
    bank = checkpoint.class_bank
    if bank.space == "rows":
        return bank  # a closed vocabulary
    missing = [name for name in names if name not in set(bank.names)]
    if missing and isinstance(checkpoint.text_encoder, TextEncoder):
        return bank.merge(class_bank(checkpoint.text_encoder, missing))
    if missing and checkpoint.text_encoder is None and (root / CLASS_BANK_FILE).is_file():
        known = ClassBank.load(root / CLASS_BANK_FILE)
        added = [name for name in missing if name in set(known.names)]
        return bank.merge(known.select(added)) if added else bank
    return bank


def _require_width(width: int, embed_dim: int, source: str) -> None:
    if width != embed_dim:
        raise ConfigError(
            f"{source}: class embeddings are {width} wide; set model.embed_dim={width} (it is {embed_dim})"
        )
