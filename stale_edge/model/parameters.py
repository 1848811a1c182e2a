"""Count parameters, block by block: those that a detector uses, and those that the public class never uses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from stale_edge.config import to_dict
from stale_edge.errors import CheckpointError
from stale_edge.model.checkpoint import Checkpoint, read_checkpoint
from stale_edge.model.text import TextEncoder

Use = Literal["detector", "class names", "never"]

_BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "position_ids")
_PUBLIC: tuple[tuple[str, Use, str], ...] = (
    ("embedding", "detector", "temporal embedding"),
    ("masktrans", "detector", "foreground mask"),
    ("localizer_mask", "detector", "one mask per snippet"),
    ("cross_att", "detector", "classes look at snippets"),
    ("bg_embeddings", "detector", "background class"),
    ("txt_model.text_model", "class names", "CLIP's text tower, once per class name"),
    ("txt_model.text_projection", "class names", "end of CLIP's text tower"),
    ("txt_model.vision_model", "never", "CLIP's image tower; features come ready-made"),
    ("txt_model.visual_projection", "never", "end of CLIP's image tower"),
    ("txt_model.logit_scale", "never", "CLIP's temperature; the public code multiplies by 100"),
    ("proj", "never", "a convolution that forward does not call"),
    ("classifier", "never", "a fixed-vocabulary classifier that forward does not call"),
    ("bn1", "never", "a batch norm that forward does not call"),
    ("reduce_mask", "never", "a convolution that forward does not call"),
    ("mask_MLP", "never", "a convolution that forward does not call"),
    ("contexts", "never", "context vectors that no prompt holds"),
)


@dataclass(frozen=True)
class Block:
    """One part of a network.

    parameters: numbers in its weights; buffers do not count.
    use: `detector`: in every forward pass on a device; `class names`: once per class name, off the device; `never`.
    """

    name: str
    parameters: int
    use: Use
    note: str = ""


def public_blocks(tensors: Mapping[str, Tensor]) -> tuple[Block, ...]:
    """Count what a public state dict holds, as Table 2 of the thesis does: 170.7 M with all that its class defines.

    Args:
        tensors: by public names without `module.`; only their sizes are read.

    Raises:
        CheckpointError: a name belongs to no block.
    """
    counts = {prefix: 0 for prefix, _, _ in _PUBLIC}
    unknown = []
    for name, tensor in tensors.items():
        block = next((prefix for prefix in counts if name == prefix or name.startswith(f"{prefix}.")), None)
        if block is None:
            unknown.append(name)
        elif not name.endswith(_BUFFERS):
            counts[block] += tensor.numel()
    if unknown:
        raise CheckpointError(f"the public checkpoint holds unknown tensors: {', '.join(sorted(unknown)[:5])}")
    return tuple(Block(prefix, counts[prefix], use, note) for prefix, use, note in _PUBLIC if counts[prefix])


def totals(blocks: Sequence[Block]) -> dict[str, int]:
    """Sum parameters: `all`, and by use."""
    uses: tuple[Use, ...] = ("detector", "class names", "never")
    return {
        "all": sum(block.parameters for block in blocks),
        **{use: sum(block.parameters for block in blocks if block.use == use) for use in uses},
    }


def blocks_to_json(blocks: Sequence[Block]) -> list[dict[str, Any]]:
    """Plain JSON values, one object a block."""
    return [
        {"block": block.name, "parameters": block.parameters, "use": block.use, "note": block.note} for block in blocks
    ]


def describe_checkpoint(path: Path | str) -> dict[str, Any]:
    """Say what a checkpoint holds, as plain JSON values: sizes, features, classes, origin, and parameters by block.

    Raises:
        CheckpointError: it cannot be read, as in `read_checkpoint`.
    """
    checkpoint = read_checkpoint(path)
    model = checkpoint.config.model
    blocks = _blocks(checkpoint)
    origin = {key: value for key, value in (checkpoint.origin or {}).items() if key != "parameters"}
    return {
        "checkpoint": str(checkpoint.path),
        "sha256": checkpoint.sha256,
        "architecture": model.architecture,
        "snippets": model.length_rule.fixed,
        "feature_spec": to_dict(checkpoint.feature_spec),
        "decode": to_dict(checkpoint.config.decode),
        "classes": list(checkpoint.vocabulary),
        "text_encoder": _text_encoder(checkpoint),
        "origin": origin or None,
        "parameters": blocks_to_json(blocks),
        "parameters_by_use": totals(blocks),
    }


def _blocks(checkpoint: Checkpoint) -> tuple[Block, ...]:
    """Count the blocks of an import as its file had them, those of any other checkpoint from its own weights."""
    if checkpoint.origin is not None and "parameters" in checkpoint.origin:
        try:
            rows = [(row["block"], int(row["parameters"]), row["use"], row["note"]) for row in _rows(checkpoint.origin)]
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{checkpoint.path}: origin.parameters is malformed: {error!r}") from error
        return tuple(Block(*row) for row in rows)
    counts = {name: 0 for name, _ in checkpoint.model.named_children()}
    for name, parameter in checkpoint.model.named_parameters():
        block = name.partition(".")[0]
        counts[block] = counts.get(block, 0) + parameter.numel()
    blocks = [Block(name, count, "detector") for name, count in counts.items() if count]
    encoder: nn.Module | None = checkpoint.text_encoder
    if encoder is not None:
        count = sum(parameter.numel() for parameter in encoder.parameters())
        blocks.append(Block("text_encoder", count, "class names", "once per class name"))
    return tuple(blocks)


def _rows(origin: dict[str, Any]) -> list[dict[str, Any]]:
    rows = origin["parameters"]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise TypeError("a list of objects is expected")
    return rows


def _text_encoder(checkpoint: Checkpoint) -> dict[str, Any] | None:
    encoder = checkpoint.text_encoder
    if not isinstance(encoder, TextEncoder):
        return None
    return {"prompt": encoder.prompt, "contexts": sum(encoder.around), "fingerprint": encoder.fingerprint()}
