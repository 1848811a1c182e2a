"""Settings of the two branches, of their losses, and of the steps in which they train each other.

The paper's supplement names the parts, the schedule and the temperature. All else here is our choice.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from stale_edge.config import Config, LengthRule, TextConfig, TrainConfig
from stale_edge.config.checks import require
from stale_edge.config.model import NetworkSettings
from stale_edge.errors import ConfigError
from stale_edge.model.actionformer import ActionFormerConfig
from stale_edge.model.effprompt.settings import PromptsConfig


@dataclass(frozen=True)
class VlpConfig(NetworkSettings):
    """The branch on features of CLIP: EffPrompt's two parts with a learned background row."""

    architecture: Literal["vlp"] = "vlp"
    """Its row in the table of architectures."""
    feature_channels: int = 512
    """C, channels of CLIP's features, >= 1, a multiple of `n_heads`."""
    embed_dim: int = 512
    """D, width of the class embeddings: C, as text and image features come from one CLIP."""
    n_frames: int = 1000
    """N, length of the table of positions, in snippets, >= 1; longer videos stretch it."""
    n_temporal_layers: int = 2
    """Layers of the temporal transformer, >= 1."""
    n_heads: int = 8
    """Number of heads of its attention, >= 1."""
    temperature: float = 0.07
    """Cosines are divided by it, > 0."""
    text: PromptsConfig = field(default_factory=PromptsConfig)

    def __post_init__(self) -> None:
        for name in ("feature_channels", "n_frames", "n_temporal_layers", "n_heads"):
            require(getattr(self, name) >= 1, f"model.{name}", getattr(self, name), "an integer >= 1")
        require(self.temperature > 0, "model.temperature", self.temperature, "a number > 0")
        width = f"model.feature_channels = {self.feature_channels}: text and image features come from one CLIP"
        require(self.embed_dim == self.feature_channels, "model.embed_dim", self.embed_dim, width)
        heads = f"a multiple of model.n_heads = {self.n_heads}"
        require(self.feature_channels % self.n_heads == 0, "model.feature_channels", self.feature_channels, heads)


@dataclass(frozen=True)
class WeakConfig(NetworkSettings):
    """The deployed branch: a pyramid of ActionFormer's blocks and a decoder of three convolutions."""

    architecture: Literal["weak"] = "weak"
    """Its row in the table of architectures."""
    feature_channels: int = 2048
    """C, channels of the features, >= 1; I3D's RGB and flow have 2048."""
    n_classes: int = 0
    """K, rows of the last layer, >= 0; 0: as many as training finds."""
    width: int = 256
    """Width of the pyramid and the decoder, >= 1, a multiple of `n_heads`."""
    n_heads: int = 8
    """Number of heads of every attention, >= 1."""
    n_stem_blocks: int = 2
    """Transformer blocks at full length, >= 1; each coarser level has one."""
    windows: tuple[int, ...] = (19, -1, -1)
    """Attention window of each level, in points of that level: odd; 1 or less attends to the whole video."""
    dropout: float = 0.5
    """Dropout probability before the last layer of the decoder in training, in [0, 1)."""
    vlp: VlpConfig = field(default_factory=VlpConfig)
    """The other branch; it trains this one and is not deployed with it."""

    def __post_init__(self) -> None:
        for name in ("feature_channels", "width", "n_heads", "n_stem_blocks"):
            require(getattr(self, name) >= 1, f"model.{name}", getattr(self, name), "an integer >= 1")
        require(self.n_classes >= 0, "model.n_classes", self.n_classes, "an integer >= 0")
        require(0 <= self.dropout < 1, "model.dropout", self.dropout, "a number in [0, 1)")
        require(len(self.windows) >= 1, "model.windows", self.windows, "one window for each level, at least one")
        heads = f"a multiple of model.n_heads = {self.n_heads}"
        require(self.width % self.n_heads == 0, "model.width", self.width, heads)

    @property
    def pyramid(self) -> ActionFormerConfig:
        """Settings of the pyramid; its ranges and rows belong to heads that this network does not have."""
        spans = [(window // 2 * 2 if window > 1 else 1) << level for level, window in enumerate(self.windows)]
        return ActionFormerConfig(
            feature_channels=self.feature_channels,
            n_classes=1,
            pyramid_dim=self.width,
            neck_dim=self.width,
            head_dim=self.width,
            n_heads=self.n_heads,
            n_embedding_layers=1,
            n_stem_blocks=self.n_stem_blocks,
            windows=self.windows,
            ranges=tuple((float(level), level + 1.0) for level in range(len(self.windows))),
            max_length=math.lcm(*spans, 1 << (len(self.windows) - 1)),
            neck="fpn",
        )

    @property
    def embed_dim(self) -> int:
        """Width of a class embedding: a row of the last layer and its bias."""
        return self.width + 1

    @property
    def text(self) -> TextConfig:
        """The classes are the rows of the last layer; no text encoder is read."""
        return TextConfig(n_contexts=0)

    @property
    def length_rule(self) -> LengthRule:
        """Any number of snippets; the network pads it."""
        return self.pyramid.length_rule


@dataclass(frozen=True)
class WeakLossConfig:
    """Weights of the terms, and thresholds of pseudo-labels. All of them are ours, see `docs/systems.md`."""

    top_share: float = 0.125
    """A video's logit of a class is the mean of its highest ones, of this share of the snippets, in (0, 1]."""
    mil: float = 1.0
    """Weight of the cross entropy of the video's logits; the background counts as a class that is there."""
    suppression: float = 1.0
    """Weight of the same for logits times attention, where the background is not there."""
    sparsity: float = 0.8
    """Weight of the mean attention; only without pseudo-labels."""
    guide: float = 0.8
    """Weight of the difference between attention and 1 - P(background); only without pseudo-labels."""
    distillation: float = 1.0
    """Weight of the mean cross entropy of snippets with certain pseudo-labels: those of 1, and background snippets."""
    contrast: float = 0.1
    """Weight of the contrast between snippets of pseudo-label 1 and background."""
    contrast_temperature: float = 0.07
    """Temperature of that contrast, > 0."""
    low: float = 0.1
    """Scores of CBP at or below this, scaled to [0, 1] over the video, give the pseudo-label 0, in [0, 1).

    CBP finds too little, so only its lowest scores are background."""
    vlp_low: float = 0.5
    """The same for scores of VLP, in [0, 1): it finds too much, so that its middling scores are background as well."""
    high: float = 0.7
    """Scores at or above this give the pseudo-label 1, greater than both, at most 1."""

    def __post_init__(self) -> None:
        for name in ("mil", "suppression", "sparsity", "guide", "distillation", "contrast"):
            require(getattr(self, name) >= 0, f"loss.{name}", getattr(self, name), "a number >= 0")
        require(0 < self.top_share <= 1, "loss.top_share", self.top_share, "a number in (0, 1]")
        temperature = self.contrast_temperature
        require(temperature > 0, "loss.contrast_temperature", temperature, "a number > 0")
        for name in ("low", "vlp_low"):
            require(0 <= getattr(self, name) < 1, f"loss.{name}", getattr(self, name), "a number in [0, 1)")
        least = max(self.low, self.vlp_low)
        allowed = f"a number in ({least}, 1], above loss.low = {self.low} and loss.vlp_low = {self.vlp_low}"
        require(least < self.high <= 1, "loss.high", self.high, allowed)


@dataclass(frozen=True)
class AlternatingConfig(TrainConfig):
    """A warm-up of the deployed branch, then rounds of a B step and an F step; `epochs` are those of the warm-up."""

    epochs: int = 10
    learning_rate: float = 1e-4
    batch_size: int = 64
    supervision: Literal["video-labels", "segments"] = "video-labels"
    """`video-labels`: only the set of a video's classes is read. `segments`: the deployed branch is trained alone, with
    full supervision, for comparison."""
    rounds: int = 2
    """Rounds of a B and an F step after the warm-up, >= 0."""
    vlp_epochs: int = 20
    """Epochs of a B step, which trains the VLP branch, >= 1."""
    cbp_epochs: int = 20
    """Epochs of an F step, which trains the deployed branch, >= 1."""
    reinitialise: bool = False
    """Whether an F step starts from fresh weights instead of the present ones."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.rounds >= 0, "train.rounds", self.rounds, "an integer >= 0")
        for name in ("vlp_epochs", "cbp_epochs"):
            require(getattr(self, name) >= 1, f"train.{name}", getattr(self, name), "an integer >= 1")


def completed(config: Config, n_classes: int) -> Config:
    """Give the deployed branch as many rows as there are classes.

    Raises:
        ConfigError: the settings ask for another number of classes.
    """
    model = config.model
    if not isinstance(model, WeakConfig):
        raise TypeError(f"settings of weak are needed; got {type(model).__name__}")
    if model.n_classes not in (0, n_classes):
        raise ConfigError(
            f"model.n_classes must be {n_classes}, the number of classes to train on, or 0; got {model.n_classes}"
        )
    return replace(config, model=replace(model, n_classes=n_classes))
