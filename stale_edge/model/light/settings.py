"""Settings of the architecture `light`: its network, its losses, its training."""

from dataclasses import dataclass, field, replace
from typing import Literal

from stale_edge.config import (
    Config,
    FeaturesConfig,
    LengthRule,
    ModelSettings,
    PointsConfig,
    TextConfig,
    TrainConfig,
)
from stale_edge.config.checks import require
from stale_edge.config.model import NetworkSettings, Rescoring
from stale_edge.config.policies import with_levels

FIRST_RANGE = 4.0
"""Largest distance to a start or end that a point of the first level predicts, in snippets; it doubles by level."""
LONGEST = 10000.0
"""The same for the last level."""


@dataclass(frozen=True)
class LightConfig(NetworkSettings):
    """Sizes and choices of the network."""

    architecture: Literal["light"] = "light"
    """Its row in the table of architectures."""
    feature_channels: int = 512
    """C, >= 1."""
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    """How features are normalised first; the default here is `video-mean`."""
    embed_dim: int = 512
    """D, width of the class embeddings, >= 1."""
    pyramid_dim: int = 32
    """Width of the pyramid, >= 1."""
    n_levels: int = 6
    """Levels of the pyramid, >= 1; level l has a point every 2**l snippets."""
    n_stem_blocks: int = 1
    """Blocks at full length before the pyramid, >= 0."""
    expansion: int = 2
    """Hidden layer of a block, in widths of the pyramid, >= 1."""
    evidence_channels: int = 8
    """Learned channels whose means inside and around a segment its score is computed from, >= 1."""
    segment_dim: int = 32
    """Hidden layer of the segment score, >= 1."""
    surroundings: float = 0.25
    """A segment is compared with this part of its length before and after it, > 0; at least a snippet each."""
    rescoring: Rescoring = "none"
    """`video-class`: a score becomes its geometric mean with the class's probability in the whole video, from snippets
    weighted by the smoothed actionness (TF-CADE's idea). Only inference reads it."""
    feature_noise: float = 0.5
    """Deviation of the noise added to normalised features in training, whose own is 1, >= 0."""
    temperature: float = 0.1
    """Temperature of cosines at the start of training, > 0; then it is learned."""
    text: TextConfig = field(default_factory=TextConfig)

    def __post_init__(self) -> None:
        for name in (
            "feature_channels",
            "embed_dim",
            "pyramid_dim",
            "n_levels",
            "expansion",
            "evidence_channels",
            "segment_dim",
        ):
            require(getattr(self, name) >= 1, f"model.{name}", getattr(self, name), "an integer >= 1")
        require(self.n_stem_blocks >= 0, "model.n_stem_blocks", self.n_stem_blocks, "an integer >= 0")
        for name in ("surroundings", "temperature"):
            require(getattr(self, name) > 0, f"model.{name}", getattr(self, name), "a number > 0")
        require(self.feature_noise >= 0, "model.feature_noise", self.feature_noise, "a number >= 0")
        if self.features.normalize is None:
            object.__setattr__(self, "features", replace(self.features, normalize="video-mean"))

    @property
    def length_rule(self) -> LengthRule:
        """Any T; the network pads it to whole points of the coarsest level."""
        return LengthRule(multiple=self.unit)

    @property
    def unit(self) -> int:
        """Snippets between two points of the coarsest level."""
        return 1 << (self.n_levels - 1)

    @property
    def ranges(self) -> tuple[tuple[float, float], ...]:
        """Least and greatest distance that each level's points predict, in snippets."""
        ends = [FIRST_RANGE * 2**level for level in range(self.n_levels - 1)]
        return tuple(zip([0.0, *ends], [*ends, LONGEST], strict=True))


@dataclass(frozen=True)
class LightLossConfig:
    """Weights of the terms of the objective."""

    points: float = 4.0
    """Weight of the scores of points and of their segments, >= 0."""
    offsets: float = 1.0
    """Weight of the DIoU loss of segments, >= 0."""
    classification: float = 1.0
    """Weight of the cross entropies over classes, of snippets and of points, >= 0."""
    actionness: float = 1.0
    """Weight of the binary cross entropy between snippets of actions and all others, >= 0."""
    center_radius: float = 1.5
    """A point is assigned an action if it lies this near its middle, in strides of its level, > 0."""

    def __post_init__(self) -> None:
        for name in ("points", "offsets", "classification", "actionness"):
            require(getattr(self, name) >= 0, f"loss.{name}", getattr(self, name), "a number >= 0")
        require(self.center_radius > 0, "loss.center_radius", self.center_radius, "a number > 0")


TRAINING = TrainConfig(optimizer="adamw", learning_rate=4e-3, schedule="cosine", warmup_epochs=1, weight_decay=0.05)
"""Chosen on the simulated world of seed 10, which no result uses. Epochs and batch follow the data."""

DECODE = PointsConfig(pre_nms_threshold=1e-4, pre_nms_top_k=500, min_score=1e-4)
"""Low thresholds: a score is a product of a segment's and a class's."""


def completed(config: Config, n_classes: int) -> Config:
    """Give the decoder as many levels as the network has."""
    del n_classes
    model: ModelSettings = config.model
    if not isinstance(model, LightConfig):
        raise TypeError(f"settings of light are needed; got {type(model).__name__}")
    return replace(config, decode=with_levels(config.decode, model.n_levels))
