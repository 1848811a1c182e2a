"""Sizes of the measured network; time does not depend on the values of weights."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

from stale_edge.config import ModelConfig


@dataclass(frozen=True)
class TextTower:
    """Sizes of a CLIP text transformer. The defaults fit ViT-B/32 and ViT-B/16, which have equal text towers."""

    vocabulary: int = 49408
    width: int = 512
    feedforward: int = 2048
    layers: int = 12
    heads: int = 8
    positions: int = 77
    embed_dim: int = 512
    """D, output width of the tower."""
    prompt_tokens: tuple[tuple[int, int], ...] = ((7, 29), (8, 89), (9, 58), (10, 17), (11, 6), (12, 1))
    """(tokens, number of prompts of that length); all are padded to the longest, as in the public code.

    The default counts the prompts "a video of action <name>" of the 200 ActivityNet classes under CLIP's vocabulary,
    including start and end of text; "Carving jack-o-lanterns" has the longest.
    """

    @property
    def n_tokens(self) -> int:
        """Length that every prompt is padded to."""
        return max(tokens for tokens, _ in self.prompt_tokens)

    def prompt_lengths(self, n_classes: int) -> list[int]:
        """Return the token counts of `n_classes` prompts: those counted, repeated or cut; the longest comes first."""
        counted = [tokens for tokens, count in reversed(self.prompt_tokens) for _ in range(count)]
        return [counted[k % len(counted)] for k in range(n_classes)]


@dataclass(frozen=True)
class Network:
    """A detector and the text tower that embeds its classes."""

    model: ModelConfig
    n_classes: int
    """K, without background."""
    text: TextTower | None = field(default_factory=TextTower)
    """Sizes of the text tower; None: unknown, so no reference can be measured."""

    def at(self, length: int) -> "Network":
        """Return the network for videos of `length` snippets; the `release` architecture has a fixed length."""
        if self.model.length_rule.fixed is None:
            return self
        return dataclasses.replace(self, model=dataclasses.replace(self.model, temporal_scale=length))


FULL_SIZE = Network(model=ModelConfig(architecture="release"), n_classes=200)
"""The network timed in the thesis: that of the public code, CLIP ViT-B/32's text tower, 200 ActivityNet prompts."""

FULL_SIZES: Mapping[str, Network] = {
    "release": FULL_SIZE,
    "paper": Network(model=ModelConfig(architecture="paper"), n_classes=200),
}
"""Architecture -> its full size, with the same text tower and prompts."""
