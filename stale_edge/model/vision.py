"""CLIP's vision tower: pictures to features, by hub name or from a folder in transformers' format."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from stale_edge.errors import CheckpointError, ConfigError
from stale_edge.model.text import quiet_transformers
from stale_edge.segments import FloatArray
from stale_edge.video import ClipPreprocess

_DECIDING_CONFIG = (
    "hidden_act",
    "hidden_size",
    "image_size",
    "layer_norm_eps",
    "num_attention_heads",
    "num_hidden_layers",
    "patch_size",
    "projection_dim",
)
"""Settings of a vision tower that change its features beside the weights."""
_PICTURES_PER_BATCH = 8


@dataclass(frozen=True)
class VisionTower:
    """A CLIP vision tower in memory, with the preprocessing that belongs to it.

    Raises:
        CheckpointError: pictures are not prepared to the size that the tower takes.
    """

    name: str
    model: nn.Module
    """A `transformers.CLIPVisionModelWithProjection` in eval mode, float32, on the CPU."""
    preprocess: ClipPreprocess

    def __post_init__(self) -> None:
        if self.preprocess.output_size != self.image_size:
            raise CheckpointError(
                f"{self.name}: pictures are prepared to {self.preprocess.output_size} pixels, the tower takes "
                f"{self.image_size}; its preprocessor_config.json belongs to another model"
            )

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the tower's input."""
        config: Any = self.model.config
        return int(config.image_size), int(config.image_size)

    @property
    def embed_dim(self) -> int:
        """C, width of a feature."""
        config: Any = self.model.config
        return int(config.projection_dim)

    def fingerprint(self) -> str:
        """Hash weights, settings and preprocessing; `sha256:` and hexadecimal."""
        config: Any = self.model.config
        settings = {name: getattr(config, name) for name in _DECIDING_CONFIG}
        digest = hashlib.sha256(
            json.dumps({"config": settings, "preprocess": self.preprocess.to_json()}, sort_keys=True).encode()
        )
        for name, weight in sorted(self.model.named_parameters()):
            digest.update(f"{name} {tuple(weight.shape)}".encode())
            digest.update(weight.detach().float().contiguous().numpy().tobytes())
        return f"sha256:{digest.hexdigest()}"

    @torch.no_grad()
    def embed(self, pixels: FloatArray) -> FloatArray:
        """Encode prepared pictures (N, 3, height, width) with PyTorch; gives (N, C) float32."""
        batches = np.array_split(pixels, max(1, -(-len(pixels) // _PICTURES_PER_BATCH)))
        rows = [self.model(pixel_values=torch.from_numpy(batch)).image_embeds.numpy() for batch in batches]
        return np.concatenate(rows)


def load_vision_tower(source: str | Path) -> VisionTower:
    """Load a `CLIPVisionModelWithProjection` and its preprocessing.

    Args:
        source: hub name such as `openai/clip-vit-base-patch32`, or a local folder in transformers' format, of the
            vision tower alone or of a whole CLIP.

    Raises:
        CheckpointError: there is none, it cannot be read, or it lacks weights of the tower; the message says which.
    """
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        with quiet_transformers():
            model, lacking = _load_model(str(source))
            settings, _ = ImageProcessingMixin.get_image_processor_dict(str(source))
            preprocess = ClipPreprocess.from_transformers(settings)
    except ConfigError as error:
        raise CheckpointError(f"{source}: {error}") from error
    except Exception as error:  # transformers raises OSError, ValueError, SafetensorError, KeyError ... for bad folders
        where = (
            "the folder is not in transformers' format"
            if Path(source).is_dir()
            else "no such local folder, and no such model in the hub or its cache (or no network)"
        )
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"cannot load the CLIP vision tower {str(source)!r}: {where}: {reason}") from error
    if lacking:
        raise CheckpointError(
            f"{source}: not a CLIP vision tower with projection: {len(lacking)} weights are missing, "
            f"such as {', '.join(lacking[:3])}"
        )
    name = Path(source).resolve().name if Path(source).is_dir() else str(source)
    return VisionTower(name, model, preprocess)


def _load_model(source: str) -> tuple[nn.Module, list[str]]:
    """Load the tower, and name the weights that its file lacks, which transformers would make up."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, PretrainedConfig
    from transformers.utils import logging

    values, _ = PretrainedConfig.get_config_dict(source)
    config = None
    if "vision_config" in values:  # a whole CLIP: its settings of the common space hold for its towers
        common = {key: values[key] for key in ("projection_dim",) if key in values}
        config = CLIPVisionConfig(**{**values["vision_config"], **common})
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # it lists the text tower's weights as unexpected
    try:
        model, found = CLIPVisionModelWithProjection.from_pretrained(source, config=config, output_loading_info=True)
    finally:
        logging.set_verbosity(verbosity)
    return model.float().eval(), sorted(map(str, found["missing_keys"]))
