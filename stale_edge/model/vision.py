"""Vision towers: pictures to features, by hub name or from a folder in transformers' format."""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stale_edge.errors import CheckpointError, ConfigError
from stale_edge.model.checkpoint_files import fetch_hint, read_licence, read_scalars
from stale_edge.model.encoder_families import FAMILIES, EncoderDescription, describe
from stale_edge.model.hub_revisions import hub_model
from stale_edge.model.saved_text import quiet_transformers
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
"""Settings of a CLIP vision tower that change its features beside the weights."""
_PICTURES_PER_BATCH = 8


class ImageSide(nn.Module):
    """A network of transformers with one input tensor, pictures, and one output tensor, features."""

    def __init__(self, model: nn.Module, output: str) -> None:
        super().__init__()
        self.model = model
        self.output = output

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Encode (N, 3, height, width); gives (N, C)."""
        outputs = self.model(pixel_values=pixel_values)
        if self.output == "first_token":
            features: Tensor = outputs.last_hidden_state[:, 0]
        elif self.output == "mean_token":
            features = outputs.last_hidden_state.mean(dim=1)
        else:
            features = getattr(outputs, self.output).flatten(1)
        return features


@dataclass(frozen=True)
class VisionTower:
    """A vision tower in memory, with the preprocessing that belongs to it.

    Raises:
        CheckpointError: pictures are not prepared to the size that the tower takes.
    """

    name: str
    model: nn.Module
    """A model of transformers in eval mode, float32, on the CPU."""
    preprocess: ClipPreprocess
    description: EncoderDescription = FAMILIES["clip"]
    licence: str | None = None
    """As its model card says; None: it does not say."""

    def __post_init__(self) -> None:
        if self.preprocess.output_size != self.image_size:
            raise CheckpointError(
                f"{self.name}: pictures are prepared to {self.preprocess.output_size} pixels, the tower takes "
                f"{self.image_size}; its preprocessor_config.json belongs to another model"
            )

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the tower's input."""
        size = getattr(self.model.config, "image_size", None)
        if size is None:  # a convolutional network takes any
            return self.preprocess.output_size or (0, 0)
        height, width = size if isinstance(size, list | tuple) else (size, size)
        return int(height), int(width)

    @property
    def embed_dim(self) -> int:
        """C, width of a feature."""
        config: Any = self.model.config
        if self.description.output == "image_embeds":
            return int(config.projection_dim)
        return int(config.hidden_sizes[-1] if hasattr(config, "hidden_sizes") else config.hidden_size)

    @property
    def image_side(self) -> ImageSide:
        """The network as a function of pictures alone."""
        return ImageSide(self.model, self.description.output).eval()

    def fingerprint(self) -> str:
        """Hash weights, settings and preprocessing; `sha256:` and hexadecimal."""
        config: Any = self.model.config
        tensors: dict[str, Tensor] = dict(self.model.named_parameters())
        if self.description.output == "image_embeds":
            settings = {name: getattr(config, name) for name in _DECIDING_CONFIG}
        else:
            settings = {"model": self.description.model, "output": self.description.output}
            settings |= {
                key: value for key, value in config.to_dict().items() if not key.startswith(("_", "transformers"))
            }
            tensors = dict(self.model.state_dict())  # with the statistics of batch normalisation
        digest = hashlib.sha256(
            json.dumps(
                {"config": settings, "preprocess": self.preprocess.to_json()}, sort_keys=True, default=str
            ).encode()
        )
        for name, weight in sorted(tensors.items()):
            digest.update(f"{name} {tuple(weight.shape)}".encode())
            digest.update(weight.detach().float().contiguous().numpy().tobytes())
        return f"sha256:{digest.hexdigest()}"

    @torch.no_grad()
    def embed(self, pixels: FloatArray) -> FloatArray:
        """Encode prepared pictures (N, 3, height, width) with PyTorch; gives (N, C) float32."""
        batches = np.array_split(pixels, max(1, -(-len(pixels) // _PICTURES_PER_BATCH)))
        side = self.image_side
        return np.concatenate([side(torch.from_numpy(batch)).numpy() for batch in batches])


def load_vision_tower(source: str | Path, *, description: EncoderDescription | None = None) -> VisionTower:
    """Load a vision tower and its preprocessing.

    Args:
        source: hub name such as `openai/clip-vit-base-patch32`, or a local folder in transformers' format, of the
            vision tower alone or with its text tower.
        description: how to run it; None: by the type of the checkpoint (`encoder_families.FAMILIES`).

    Raises:
        CheckpointError: there is none, it cannot be read, its type is unknown, or it lacks weights of the tower.
    """
    from transformers import PretrainedConfig
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        with quiet_transformers():
            name, revision = hub_model(source)
            values, _ = PretrainedConfig.get_config_dict(name, revision=revision)
            chosen = description or describe(str(values.get("model_type", "clip")), str(source))
            model, lacking = _load_model(str(source), values, chosen)
            if chosen.preprocess is None:
                settings, _ = ImageProcessingMixin.get_image_processor_dict(name, revision=revision)
                preprocess = ClipPreprocess.from_transformers(settings)
            else:
                preprocess = ClipPreprocess.from_json(chosen.preprocess)
    except CheckpointError:
        raise
    except ConfigError as error:
        raise CheckpointError(f"{source}: {error}") from error
    except Exception as error:  # transformers raises OSError, ValueError, SafetensorError, KeyError ... for bad folders
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"cannot load the vision tower {str(source)!r}: {fetch_hint(source)}: {reason}"
        ) from error
    if lacking:
        raise CheckpointError(
            f"{source}: not a {chosen.model}: {len(lacking)} weights are missing, such as {', '.join(lacking[:3])}"
        )
    name = Path(source).resolve().name if Path(source).is_dir() else str(source)
    scalars = read_scalars(source, ("logit_scale", "logit_bias"))
    if chosen.logit_scale is None and "logit_scale" in scalars:
        # Both kinds of checkpoints store the logarithm of the scale.
        scale = float(np.exp(scalars["logit_scale"]))
        chosen = replace(chosen, logit_scale=scale, logit_bias=scalars.get("logit_bias", chosen.logit_bias))
    return VisionTower(name, model, preprocess, chosen, read_licence(source))


def _load_model(source: str, values: dict[str, Any], description: EncoderDescription) -> tuple[nn.Module, list[str]]:
    """Load the tower, and name the weights that its file lacks, which transformers would make up."""
    import transformers

    model_class: Any = getattr(transformers, description.model, None)
    if not _is_model_class(model_class):
        raise CheckpointError(f"{source}: transformers has no model class {description.model!r}")
    config = None
    if "vision_config" in values:  # with a text tower: settings of the common space hold for both
        common = {key: values[key] for key in ("projection_dim",) if key in values}
        config = model_class.config_class(**{**values["vision_config"], **common})
    name, revision = hub_model(source)
    with quiet_transformers():  # it lists the text tower's weights as unexpected
        model, found = model_class.from_pretrained(name, revision=revision, config=config, output_loading_info=True)
    return model.float().eval(), sorted(map(str, found["missing_keys"]))


def _is_model_class(found: object) -> bool:
    from transformers import PreTrainedModel

    return isinstance(found, type) and issubclass(found, PreTrainedModel)
