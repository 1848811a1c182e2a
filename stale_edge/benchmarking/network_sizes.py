"""The measured network: any row of the table of architectures; time does not depend on the values of weights."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stale_edge.benchmarking.extras import NEEDS_TORCH, needs_extra
from stale_edge.config import Config, ModelConfig, ModelSettings, from_dict
from stale_edge.errors import ConfigError, shown


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

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> "TextTower":
        """Read the plain values that `model.text_sizes` makes of an encoder.

        Raises:
            ConfigError: a size is missing, unknown or of another kind.
        """
        missing = sorted(set(cls.__dataclass_fields__) - set(values))
        if missing:
            raise ConfigError(f"sizes of a text encoder: {', '.join(missing)} missing; export the bundle again")
        return from_dict(cls, values)

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
    """A detector of any architecture, and the text tower that embeds its classes."""

    model: ModelSettings
    n_classes: int
    """K, without background."""
    text: TextTower | None = field(default_factory=TextTower)
    """Sizes of the text tower; None: classes are rows of the network, or the tower is not known."""
    text_per_video: bool = True
    """Whether the public program embeds the class names again for every video, so that the reference does too."""

    size: str = ""
    """Name of its published size; empty: none."""

    def at(self, length: int) -> "Network":
        """Return the network for videos of `length` snippets; one of a fixed length is made for it."""
        if self.model.length_rule.fixed is None:
            return self
        settings: Any = self.model
        return dataclasses.replace(self, model=dataclasses.replace(settings, temporal_scale=length))

    @property
    def has_reference(self) -> bool:
        """Whether all parts of the reference are known."""
        return self.text is not None or not self.text_per_video


FULL_SIZE = Network(model=ModelConfig(architecture="release"), n_classes=200, size="full-size")
"""The network timed in the thesis: that of the public code, CLIP ViT-B/32's text tower, 200 ActivityNet prompts."""


def full_size(architecture: str, size: str | None = None) -> Network:
    """Choose a published network of any row of the table of architectures.

    Args:
        architecture: its name.
        size: one of the row's named sizes; None: the first, or the defaults of its settings.

    Raises:
        MissingExtraError: torch is not installed.
        ConfigError: no such architecture or size; the message lists those there are.
    """
    with needs_extra(NEEDS_TORCH):
        from stale_edge.model.architectures import architecture_of
    row = architecture_of(architecture)
    if size is not None and size not in row.sizes:
        known = f"one of {', '.join(row.sizes)}" if row.sizes else "left out: there is one size"
        raise ConfigError(f"--size for the architecture {architecture} must be {known}; got {shown(size)}")
    named = size or next(iter(row.sizes), None)
    settings = row.model(architecture=architecture) if named is None else row.sizes[named]
    network = network_of_settings(settings, getattr(settings, "n_classes", 0) or FULL_SIZE.n_classes)
    return dataclasses.replace(network, size=named or FULL_SIZE.size)


def network_of_settings(settings: Any, n_classes: int, text: TextTower | None = FULL_SIZE.text) -> Network:
    """Put the settings of a network and the sizes of its text tower together; closed vocabularies have no tower."""
    from stale_edge.model.architectures import architecture_of

    row = architecture_of(settings.architecture)
    complete = row.complete(Config(settings, row.train, row.loss(), row.decode), n_classes)
    return Network(complete.model, n_classes, text if row.space == "text" else None, row.embeds_classes_per_video)


def read_network(values: Mapping[str, Any]) -> Network:
    """Read a network from the plain values that `to_dict` makes of it."""
    from stale_edge.model.architectures import architecture_of

    return from_dict(Network, values, sections={"model": architecture_of(values["model"]["architecture"]).model})
