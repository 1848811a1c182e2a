"""The settings of the linear probe."""

from dataclasses import dataclass, field, replace
from typing import Literal

from stale_edge.config.checks import require
from stale_edge.config.feature_spec import FeaturesConfig
from stale_edge.config.model import NetworkSettings, TextConfig


@dataclass(frozen=True)
class LinearConfig(NetworkSettings):
    """Sizes and choices of the linear probe: one linear map to the text space, one to actionness."""

    architecture: Literal["linear"] = "linear"
    """Its row in the table of architectures."""
    feature_channels: int = 512
    """C, >= 1."""
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    """How features are normalised first; the default here is `video-mean`."""
    embed_dim: int = 512
    """D, width of the class embeddings, >= 1."""
    temperature: float = 0.1
    """Temperature: cosines are divided by it, > 0."""
    video_weight: float = 1.0
    """Share of the whole video in a snippet's class score, weighted by actionness squared, in [0, 1]. A video
    of ActivityNet shows one class as a rule; where many follow each other, as in a recipe, less is better."""
    text: TextConfig = field(default_factory=TextConfig)

    def __post_init__(self) -> None:
        for name in ("feature_channels", "embed_dim"):
            require(getattr(self, name) >= 1, f"model.{name}", getattr(self, name), "an integer >= 1")
        require(self.temperature > 0, "model.temperature", self.temperature, "a number > 0")
        require(0 <= self.video_weight <= 1, "model.video_weight", self.video_weight, "a number in [0, 1]")
        if self.features.normalize is None:
            object.__setattr__(self, "features", replace(self.features, normalize="video-mean"))


@dataclass(frozen=True)
class LinearLossConfig:
    """Weights of the two terms of the linear probe."""

    classification: float = 1.0
    """Weight of the cross entropy over classes, on the snippets of actions, >= 0."""
    actionness: float = 1.0
    """Weight of the binary cross entropy between snippets of actions and all others, >= 0."""

    def __post_init__(self) -> None:
        for name in ("classification", "actionness"):
            require(getattr(self, name) >= 0, f"loss.{name}", getattr(self, name), "a number >= 0")
