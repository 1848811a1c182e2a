"""Which network is measured: sizes alone, since time does not depend on the values of weights."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

from stale_edge.config import ModelConfig


@dataclass(frozen=True)
class TextTower:
    """Sizes of a CLIP text transformer. The defaults are ViT-B/32's, and ViT-B/16's, whose text towers are alike."""

    vocabulary: int = 49408
    width: int = 512
    feedforward: int = 2048
    layers: int = 12
    heads: int = 8
    positions: int = 77
    embed_dim: int = 512
    """D, what the tower projects to."""
    prompt_tokens: tuple[tuple[int, int], ...] = ((7, 29), (8, 89), (9, 58), (10, 17), (11, 6), (12, 1))
    """(tokens, how many prompts have that many); all are padded to the longest, as the public code pads.

    The default is "a video of action <name>" for the 200 ActivityNet classes under CLIP's own vocabulary, start and
    end of text included, counted once; the longest is that of "Carving jack-o-lanterns".
    """

    @property
    def n_tokens(self) -> int:
        """Length that every prompt is padded to."""
        return max(tokens for tokens, _ in self.prompt_tokens)

    def prompt_lengths(self, n_classes: int) -> list[int]:
        """Return the tokens of `n_classes` prompts: the counted ones, repeated or cut; the longest comes first."""
        counted = [tokens for tokens, count in reversed(self.prompt_tokens) for _ in range(count)]
        return [counted[k % len(counted)] for k in range(n_classes)]


@dataclass(frozen=True)
class Network:
    """A detector and the text tower that embeds its classes."""

    model: ModelConfig
    n_classes: int
    """K, without background."""
    text: TextTower | None = field(default_factory=TextTower)
    """None: the sizes of the text tower are not known, so no reference can be measured."""

    def at(self, length: int) -> "Network":
        """Return the network for videos of `length` snippets; the `release` architecture is made for one length."""
        if self.model.length_rule.fixed is None:
            return self
        return dataclasses.replace(self, model=dataclasses.replace(self.model, temporal_scale=length))


FULL_SIZE = Network(model=ModelConfig(architecture="release"), n_classes=200)
"""What the thesis timed: the network of the public code, CLIP ViT-B/32's text tower, 200 ActivityNet prompts."""

FULL_SIZES: Mapping[str, Network] = {
    "release": FULL_SIZE,
    "paper": Network(model=ModelConfig(architecture="paper"), n_classes=200),
}
"""The same text tower and prompts with the full size of either architecture."""
