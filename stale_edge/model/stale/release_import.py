"""A checkpoint of the public STALE code -> a checkpoint of this kit: `stale-edge import`."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stale_edge.bundle import ClassBank
from stale_edge.bundle.files import sha256_of
from stale_edge.config import Config, DecodeConfig, FeatureSpec, TextConfig, TrainConfig
from stale_edge.data import read_split
from stale_edge.errors import CheckpointError
from stale_edge.model.checkpoint import write_checkpoint
from stale_edge.model.class_embeddings import class_bank
from stale_edge.model.parameters import Block, blocks_to_json, public_blocks, totals
from stale_edge.model.public_file import read_public_file
from stale_edge.model.saved_text import load_tokenizer
from stale_edge.model.stale.release_weights import TEXT_MODEL, release_from_public
from stale_edge.model.text import TextEncoder

FEATURE_ENCODER = "openai/clip-vit-base-patch32"
"""The CLIP that the public class loads as `txt_model`, stale_model.py:36; features come from its image tower."""
PROMPT = "a video of action {}"
"""The public code's prompt for class names, stale_model.py:98."""
HEAD_WIDTH = 64
"""Width of one head in every CLIP text tower."""


@dataclass(frozen=True)
class ReleaseImport:
    """The result of an import.

    temporal_scale: T that the network is made for.
    classes: names, as they stand in the checkpoint; none if none were given.
    text_encoder: whether CLIP's text tower was kept, so that further class names can be encoded.
    blocks: all that the file held; those of use `never` were left behind.
    """

    checkpoint: Path
    sha256: str
    epoch: int | None
    temporal_scale: int
    classes: tuple[str, ...]
    text_encoder: bool
    blocks: tuple[Block, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "checkpoint": str(self.checkpoint),
            "sha256": self.sha256,
            "epoch": self.epoch,
            "snippets": self.temporal_scale,
            "classes": list(self.classes),
            "text_encoder": self.text_encoder,
            "parameters": blocks_to_json(self.blocks),
            "parameters_by_use": totals(self.blocks),
        }

    def summary(self) -> str:
        """Say in a few lines what was kept and what was left behind, for people."""
        counts = totals(self.blocks)
        dead = ", ".join(block.name for block in self.blocks if block.use == "never")
        text = "kept, for further class names" if self.text_encoder else "left behind: without a tokenizer it is no use"
        lines = [
            f"{self.checkpoint}: the public network for T = {self.temporal_scale}, {len(self.classes)} classes",
            f"  {counts['all'] / 1e6:.1f} M parameters in the file",
            f"  {counts['detector'] / 1e6:.1f} M are the detector",
        ]
        if counts["class names"]:
            lines.append(f"  {counts['class names'] / 1e6:.1f} M are CLIP's text tower: {text}")
        if dead:
            lines.append(f"  {counts['never'] / 1e6:.1f} M are never used and were left behind: {dead}")
        if not self.classes and self.text_encoder:
            lines.append("  The file names no classes: give them to export with --classes.")
        elif not self.classes:
            lines.append(
                "  The file holds neither class names nor a tokenizer, so this checkpoint cannot be exported yet: "
                "import again with --tokenizer and --classes, or with --class-bank."
            )
        return "\n".join(lines)


def import_release(
    file: Path | str,
    out: Path | str,
    *,
    classes: Path | str | None = None,
    tokenizer: Path | str | None = None,
    bank: Path | str | None = None,
) -> ReleaseImport:
    """Turn a checkpoint of the public code into one of this kit, whole or not at all. No code of the file is run.

    The file holds no class names and no tokenizer. With `tokenizer` CLIP's text tower inside the file is kept, with the
    prompt of the public code; it encodes `classes`, and further names later. With `bank` there are embeddings that
    exist already, and no text encoder is kept. With neither the checkpoint holds the network alone.

    Args:
        file: what the public code saved, `.pth.tar`.
        out: checkpoint folder to write.
        classes: file with class names, one a line; needs `tokenizer`.
        tokenizer: folder of CLIP's tokenizer, or its name in the hub.
        bank: class bank, `.npz`, as wide as the network's embeddings.

    Raises:
        CheckpointError: the file is not such a checkpoint, the options do not go together, or `out` cannot be written.
        DataError: the file with class names cannot be used.
        BundleError: the class bank cannot be used.
    """
    file, out = Path(file), Path(out)
    released = read_public_file(file)
    if released.is_actionformer:
        raise CheckpointError(
            f"{file} is a checkpoint of ActionFormer, which does not say how its network is built; give the "
            "configuration it was trained with as --config FILE (.yaml or .json)"
        )
    try:
        model = release_from_public(released.tensors)
        blocks = public_blocks(released.tensors)
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from error
    dim, length = model.config.embed_dim, model.config.temporal_scale
    if bank is not None and (classes is not None or tokenizer is not None):
        raise CheckpointError("--class-bank brings ready embeddings: give it without --classes and --tokenizer")
    if classes is not None and tokenizer is None:
        raise CheckpointError(
            f"{file} holds no tokenizer, so the names in {classes} cannot be encoded: give --tokenizer with a folder "
            "(CLIP's vocab.json and merges.txt) or a hub name, or ready embeddings with --class-bank"
        )
    encoder: TextEncoder | None = None
    class_embeddings: ClassBank | None = None
    if bank is not None:
        class_embeddings = ClassBank.load(Path(bank))
        if class_embeddings.width != dim:
            raise CheckpointError(f"{bank} holds embeddings of width {class_embeddings.width}; {file} needs {dim}")
    if tokenizer is not None:
        encoder = release_text_encoder(released.tensors, load_tokenizer(tokenizer), dim=dim, file=file)
    if encoder is not None and classes is not None:
        try:
            class_embeddings = class_bank(encoder, read_split(Path(classes)))
        except ValueError as error:
            raise CheckpointError(f"cannot encode the class names of {classes}: {error}") from error
    config = Config(
        model=replace(model.config, text=TextConfig(encoder="frozen", n_contexts=0)),
        train=TrainConfig(n_snippets=length),
        decode=DecodeConfig(policy="release"),
    )
    sha256 = write_checkpoint(
        out,
        model=model,
        config=config,
        feature_spec=FeatureSpec(encoder=FEATURE_ENCODER, channels=dim),
        class_bank=class_embeddings,
        text_encoder=encoder,
        origin={
            "file": file.name,
            "sha256": sha256_of(file),
            "epoch": released.epoch,
            "parameters": blocks_to_json(blocks),
        },
    )
    names = () if class_embeddings is None else class_embeddings.names
    return ReleaseImport(out, sha256, released.epoch, length, names, encoder is not None, blocks)


def release_text_encoder(tensors: dict[str, Tensor], tokenizer: Any, *, dim: int, file: Path) -> TextEncoder:
    """Build CLIP's text tower from the `txt_model.*` of a public checkpoint, with the public prompt.

    Args:
        tensors: by public names without `module.`.
        tokenizer: a `transformers.CLIPTokenizer`.
        dim: D of the detector.
        file: named in errors.

    Raises:
        CheckpointError: a tensor is missing, unknown, of a wrong shape or not finite, or the tokenizer is not CLIP's.
    """
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    text = {
        name.removeprefix(TEXT_MODEL): tensor.float()
        for name, tensor in tensors.items()
        if name.startswith(f"{TEXT_MODEL}text_") and not name.endswith("position_ids")
    }
    if not text:
        raise CheckpointError(f"{file} holds no CLIP text tower ({TEXT_MODEL}text_model.*); give --class-bank instead")
    vocabulary, width = _matrix(text, "text_model.embeddings.token_embedding.weight", file)
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=_matrix(text, "text_model.encoder.layers.0.mlp.fc1.weight", file)[0],
        projection_dim=_matrix(text, "text_projection.weight", file)[0],
        num_hidden_layers=len({match.group(1) for name in text if (match := re.search(r"\.layers\.(\d+)\.", name))}),
        num_attention_heads=max(1, width // HEAD_WIDTH),
        max_position_embeddings=_matrix(text, "text_model.embeddings.position_embedding.weight", file)[0],
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    if config.projection_dim != dim or width % config.num_attention_heads:
        raise CheckpointError(
            f"{file}: the text tower is {width} wide and gives embeddings of {config.projection_dim}; "
            f"needed: a multiple of {HEAD_WIDTH}, and {dim}"
        )
    tower: nn.Module
    with torch.random.fork_rng(devices=[]):
        tower = CLIPTextModelWithProjection(config).eval()
    expected = {name: tensor.shape for name, tensor in tower.state_dict().items()}
    problems = [f"{TEXT_MODEL}{name}: missing" for name in sorted(expected.keys() - text.keys())]
    problems += [f"{TEXT_MODEL}{name}: unknown" for name in sorted(text.keys() - expected.keys())]
    for name in sorted(expected.keys() & text.keys()):
        if text[name].shape != expected[name]:
            problems.append(f"{TEXT_MODEL}{name}: shape {tuple(text[name].shape)}, expected {tuple(expected[name])}")
        elif not bool(torch.isfinite(text[name]).all()):
            problems.append(f"{TEXT_MODEL}{name}: not finite")
    if problems:
        raise CheckpointError(f"{file}: the text tower does not fit: {'; '.join(problems[:5])}")
    tower.load_state_dict(text)
    try:
        return TextEncoder(tower, tokenizer, prompt=PROMPT).eval()
    except ValueError as error:
        raise CheckpointError(f"{file}: {error}; give the tokenizer of {FEATURE_ENCODER}") from error


def _matrix(text: dict[str, Tensor], name: str, file: Path) -> tuple[int, int]:
    if name not in text:
        raise CheckpointError(f"{file} lacks the tensor {TEXT_MODEL}{name!s}")
    if text[name].ndim != 2 or 0 in text[name].shape:
        raise CheckpointError(f"{file}: {TEXT_MODEL}{name}: shape {tuple(text[name].shape)}, expected a matrix")
    return int(text[name].shape[0]), int(text[name].shape[1])
