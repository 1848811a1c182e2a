"""What differs between visual encoders: which network, which of its outputs, and how logits are made of cosines.

One row per kind of checkpoint of transformers. Another kind needs no code: `EncoderDescription.read` takes the same
values from a JSON file.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stale_edge.config import from_dict
from stale_edge.errors import CheckpointError, ConfigError, shown

OUTPUTS = ("image_embeds", "pooler_output", "first_token", "mean_token")
"""Names of features in a network's output; the last two are the first token of the last layer, and the mean of all."""


@dataclass(frozen=True)
class EncoderDescription:
    """How to run a checkpoint's image side, and what its text side expects.

    Raises:
        ConfigError: an unknown output, or an activation that is neither softmax nor sigmoid.
    """

    model: str
    """Class of transformers, such as `CLIPVisionModelWithProjection`."""
    output: str
    """One of `OUTPUTS`."""
    preprocess: dict[str, Any] | None = None
    """The fields of `ClipPreprocess`; None: from the checkpoint's `preprocessor_config.json`."""
    text_model: str | None = None
    """Class of its text side; None: it reads images only, for closed vocabularies."""
    text_length: int | None = None
    """Number of tokens that a text is padded to, >= 1; None: to the longest."""
    text_pooling: str | None = None
    """`end`: the text's embedding is read at its end token; `last`: at the last place, padding or not."""
    activation: str | None = None
    """What makes probabilities of logits: `softmax` over classes, or `sigmoid` for each; None: there are no logits."""
    logit_scale: float | None = None
    logit_bias: float | None = None
    """A logit is cosine * scale + bias; None: the checkpoint does not say."""

    def __post_init__(self) -> None:
        if self.output not in OUTPUTS:
            raise ConfigError(f"output must be one of {', '.join(OUTPUTS)}; got {self.output!r}")
        if self.activation not in (None, "softmax", "sigmoid"):
            raise ConfigError(f"activation must be softmax, sigmoid or nothing; got {self.activation!r}")
        if self.text_pooling not in (None, "end", "last"):
            raise ConfigError(f"text_pooling must be end, last or nothing; got {self.text_pooling!r}")

    @classmethod
    def read(cls, path: Path) -> "EncoderDescription":
        """Read a JSON file with these fields.

        Raises:
            CheckpointError: it cannot be read, or a field is missing, unknown or out of range.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(values, dict):
                raise ConfigError(f"must hold an object; got {shown(values)}")
            missing = [name for name in ("model", "output") if name not in values]
            if missing:
                raise ConfigError(f"lacks {', '.join(missing)}")
            return from_dict(cls, values)
        except (OSError, ValueError, RecursionError, ConfigError) as error:
            raise CheckpointError(f"{path}: not a description of an encoder: {error}") from error


_CLIP = EncoderDescription(
    "CLIPVisionModelWithProjection",
    "image_embeds",
    text_model="CLIPTextModelWithProjection",
    text_pooling="end",
    activation="softmax",
)
_SIGLIP = EncoderDescription(
    "SiglipVisionModel",
    "pooler_output",
    text_model="SiglipTextModel",
    text_length=64,
    text_pooling="last",
    activation="sigmoid",
)
FAMILIES: Mapping[str, EncoderDescription] = {
    "clip": _CLIP,
    "clip_vision_model": _CLIP,
    "siglip": _SIGLIP,
    "siglip_vision_model": _SIGLIP,
    "dinov2": EncoderDescription("Dinov2Model", "pooler_output"),
    "resnet": EncoderDescription("ResNetModel", "pooler_output"),
    "vit": EncoderDescription("ViTModel", "first_token"),
}
"""`model_type` in config.json -> description. TinyCLIP is `clip`, SigLIP 2 of a fixed size is `siglip`."""


def describe(model_type: str, source: str) -> EncoderDescription:
    """Return the row of a kind of checkpoint.

    Raises:
        CheckpointError: there is none.
    """
    found = FAMILIES.get(model_type)
    if found is None:
        raise CheckpointError(
            f"{source}: a checkpoint of type {shown(model_type)}; known are {', '.join(FAMILIES)}. For another one "
            "write its model, output and preprocess into a JSON file and give --describe FILE (docs/video.md)"
        )
    return found
