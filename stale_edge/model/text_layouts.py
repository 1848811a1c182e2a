"""What differs between text towers: class, tokenizer, the row of tokens, and where the embedding is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TextLayout:
    """One kind of text tower of transformers."""

    model: str
    tokenizer: str
    """Class of the tokenizer."""
    output: str
    """Name of the embedding in the tower's output."""
    has_start: bool
    """Whether a row begins with a start token; it always has an end token after the text."""
    pads_to_full: bool
    """Whether rows are padded to the tower's length, and padding is read; else padding changes nothing."""
    causal: bool
    """Whether a token attends only to earlier ones; the embedding is then read at the end token, else at the last."""

    @property
    def n_first(self) -> int:
        """Number of tokens before the contexts."""
        return int(self.has_start)


CLIP = TextLayout("CLIPTextModelWithProjection", "CLIPTokenizer", "text_embeds", True, False, True)
SIGLIP = TextLayout("SiglipTextModel", "Siglip2Tokenizer", "pooler_output", False, True, False)
"""SigLIP 2 with a fixed size of pictures; its tokenizer lower-cases."""
_BY_PREFIX: Mapping[str, TextLayout] = {"clip": CLIP, "siglip": SIGLIP}


def layout_of(config: Any) -> TextLayout:
    """Find the layout by the `model_type` of a text tower's config, or a whole model's; CLIP's where none fits."""
    kind = str(config.get("model_type", "") if isinstance(config, dict) else getattr(config, "model_type", ""))
    return _BY_PREFIX.get(kind.partition("_")[0], CLIP)
