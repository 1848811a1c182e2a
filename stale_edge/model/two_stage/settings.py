"""Settings of the two stages and of their training."""

from dataclasses import dataclass, field, replace
from typing import Literal

from stale_edge.config import Config, LengthRule, Resampling, TrainConfig
from stale_edge.config.checks import require
from stale_edge.config.model import NetworkSettings
from stale_edge.config.policies import with_levels
from stale_edge.model.actionformer import ActionFormerConfig
from stale_edge.model.actionformer.objective_settings import PointObjectiveConfig
from stale_edge.model.effprompt.settings import PromptsConfig


@dataclass(frozen=True)
class ProposalsConfig(ActionFormerConfig):
    """The first stage: by default ActionFormer's ActivityNet shape. Our choice; nothing was published."""

    feature_channels: int = 512
    n_classes: int = 1
    pyramid_dim: int = 256
    neck_dim: int = 256
    head_dim: int = 256
    windows: tuple[int, ...] = (7, 7, 7, 7, 7, -1)
    max_length: int = 192
    absolute_positions: bool = True
    resampling: Resampling = "linear"


@dataclass(frozen=True)
class TwoStageConfig(NetworkSettings):
    """Sizes of both stages. That the first is ActionFormer is our choice, see `docs/systems.md`."""

    architecture: Literal["two-stage"] = "two-stage"
    """Its row in the table of architectures."""
    feature_channels: int = 512
    """C, channels of the features, >= 1, a multiple of `n_heads`: those of CLIP's image tower."""
    embed_dim: int = 512
    """D, width of the class embeddings: C, as text and image features come from one CLIP."""
    proposals: ProposalsConfig = field(default_factory=ProposalsConfig)
    """The first stage; its channels are C and its only class is "an action", whatever stands here."""
    n_frames: int = 256
    """N, length of the table of positions of the second stage, in snippets, >= 1."""
    interpolate_positions: bool = True
    """Whether videos longer than N stretch that table; if not they are refused."""
    n_temporal_layers: int = 2
    """Layers of the temporal transformer, >= 0; with 0 CLIP's features are compared as they are, as in B-I."""
    n_heads: int = 8
    """Number of heads of its attention, >= 1."""
    temperature: float = 0.07
    """Cosines are divided by it, > 0."""
    text: PromptsConfig = field(default_factory=PromptsConfig)

    def __post_init__(self) -> None:
        for name in ("feature_channels", "n_frames", "n_heads"):
            require(getattr(self, name) >= 1, f"model.{name}", getattr(self, name), "an integer >= 1")
        require(self.n_temporal_layers >= 0, "model.n_temporal_layers", self.n_temporal_layers, "an integer >= 0")
        require(self.temperature > 0, "model.temperature", self.temperature, "a number > 0")
        width = f"model.feature_channels = {self.feature_channels}: text and image features come from one CLIP"
        require(self.embed_dim == self.feature_channels, "model.embed_dim", self.embed_dim, width)
        heads = f"a multiple of model.n_heads = {self.n_heads}"
        fits = self.n_temporal_layers == 0 or self.feature_channels % self.n_heads == 0
        require(fits, "model.feature_channels", self.feature_channels, heads)
        proposals = replace(self.proposals, feature_channels=self.feature_channels, n_classes=1)
        object.__setattr__(self, "proposals", proposals)

    @property
    def length_rule(self) -> LengthRule:
        """Any number of snippets, as in the first stage."""
        return self.proposals.length_rule

    @property
    def longest(self) -> int | None:
        """The length of the shorter table of positions of those that may not be stretched."""
        own = self.n_frames if self.n_temporal_layers and not self.interpolate_positions else None
        limits = [limit for limit in (own, self.proposals.longest) if limit is not None]
        return min(limits, default=None)

    @property
    def resampling(self) -> Resampling:
        """What is done to a video's features, as in the first stage."""
        return self.proposals.resampling


@dataclass(frozen=True)
class TwoStageLossConfig:
    """The losses of both stages."""

    proposals: PointObjectiveConfig = field(default_factory=PointObjectiveConfig)
    """Those of the first stage."""
    classification: float = 1.0
    """Weight of the cross entropy of the second stage, >= 0."""

    def __post_init__(self) -> None:
        require(self.classification >= 0, "loss.classification", self.classification, "a number >= 0")


TRAINING = TrainConfig(
    epochs=35,
    optimizer="adamw",
    learning_rate=1e-4,
    schedule="cosine",
    warmup_epochs=5,
    weight_decay=0.01,
    batch_size=16,
    n_snippets=192,
)
"""The second stage's rate and decay are EffPrompt's, the rest is ActionFormer's; one loop for both is our choice."""


def completed(config: Config, n_classes: int) -> Config:
    """Give the decoder as many levels as the first stage has; the number of classes does not matter."""
    del n_classes
    model = config.model
    if not isinstance(model, TwoStageConfig):
        raise TypeError(f"settings of two-stage are needed; got {type(model).__name__}")
    return replace(config, decode=with_levels(config.decode, model.proposals.n_levels))
