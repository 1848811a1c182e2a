"""Sizes and choices of ActionFormer, and the three published networks by name."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from stale_edge.config import LengthRule, Resampling, TextConfig
from stale_edge.config.checks import require
from stale_edge.config.model import NetworkSettings
from stale_edge.config.points import MOST_LEVELS

Ranges = tuple[tuple[float, float], ...]

SIX_RANGES: Ranges = ((0.0, 4.0), (4.0, 8.0), (8.0, 16.0), (16.0, 32.0), (32.0, 64.0), (64.0, 10000.0))
"""Range of distances that each of six levels predicts, in snippets."""


@dataclass(frozen=True)
class ActionFormerConfig(NetworkSettings):
    """Sizes of the network. The defaults are the published THUMOS14 network on I3D features."""

    architecture: Literal["actionformer"] = "actionformer"
    """Its row in the table of architectures."""
    feature_channels: int = 2048
    """C, channels of the features, >= 1."""
    n_classes: int = 0
    """K, rows of the last layer, >= 0; 0: as many as training finds; 1: actions of all classes are found, not named."""
    pyramid_dim: int = 512
    """D, width of the pyramid, >= 1, a multiple of `n_heads`."""
    neck_dim: int = 512
    """Width of the neck's outputs, >= 1; `identity` needs `pyramid_dim`."""
    head_dim: int = 512
    """Width of the hidden layers of both heads, >= 1."""
    n_heads: int = 4
    """Number of heads of every attention, >= 1."""
    n_embedding_layers: int = 2
    """Convolutions before the pyramid, >= 1."""
    n_stem_blocks: int = 2
    """Transformer blocks at full length, >= 1."""
    n_head_layers: int = 3
    """Convolutions of each head, the last one included, >= 2."""
    windows: tuple[int, ...] = (19,) * 6
    """Attention window of each level, in points of that level: odd; 1 or less attends to the whole video."""
    ranges: Ranges = SIX_RANGES
    """Smallest and largest distance, in snippets, that a point of each level predicts; one pair per level."""
    max_length: int = 2304
    """Snippets that a training video is padded to, and the length of the table of positions."""
    absolute_positions: bool = False
    """Whether sinusoids of the position are added before the pyramid."""
    relative_positions: bool = False
    """Whether each attention has a learned bias per head and distance within its window."""
    interpolate_positions: bool = True
    """Whether videos longer than `max_length` stretch the table of absolute positions; if not they are refused."""
    resampling: Resampling = "none"
    """`none`: videos keep their own rate, and training crops them to `max_length`. `linear`: each is resampled to
    `train.n_snippets`, as in the ActivityNet networks."""
    neck: Literal["identity", "fpn"] = "identity"
    """`identity`: one normalisation a level. `fpn`: coarse levels are added to finer ones first."""
    dropout: float = 0.0
    """Dropout probability of the feed-forward networks in training, in [0, 1)."""
    drop_path: float = 0.1
    """Probability that a video skips one half of a block in training, in [0, 1)."""

    def __post_init__(self) -> None:
        for name in (
            "feature_channels",
            "pyramid_dim",
            "neck_dim",
            "head_dim",
            "n_heads",
            "n_embedding_layers",
            "n_stem_blocks",
            "max_length",
        ):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "an integer >= 1")
        _require(
            self.pyramid_dim % self.n_heads == 0,
            "pyramid_dim",
            self.pyramid_dim,
            f"a multiple of n_heads = {self.n_heads}",
        )
        _require(self.n_classes >= 0, "n_classes", self.n_classes, "an integer >= 0")
        _require(self.n_head_layers >= 2, "n_head_layers", self.n_head_layers, "an integer >= 2")
        _require(
            1 <= len(self.ranges) <= MOST_LEVELS,
            "ranges",
            self.ranges,
            f"one pair of distances for each level, 1 to {MOST_LEVELS} levels",
        )
        _require(
            all(len(pair) == 2 and 0 <= pair[0] < pair[1] for pair in self.ranges),
            "ranges",
            self.ranges,
            "pairs of distances in snippets, 0 <= least < greatest",
        )
        _require(
            len(self.windows) == len(self.ranges) and all(window <= 1 or window % 2 == 1 for window in self.windows),
            "windows",
            self.windows,
            f"one window for each of the {len(self.ranges)} levels of ranges, odd, or 1 or less for the whole video",
        )
        _require(
            self.max_length % self.divisor == 0,
            "max_length",
            self.max_length,
            f"a multiple of {self.divisor}, which the strides and windows {self.windows} ask for",
        )
        _require(
            not self.relative_positions or all(window > 1 for window in self.windows),
            "relative_positions",
            self.relative_positions,
            f"false where a window is 1 or less (windows = {self.windows}): the whole video has no fixed distances",
        )
        _require(
            self.neck != "identity" or self.neck_dim == self.pyramid_dim,
            "neck_dim",
            self.neck_dim,
            f"pyramid_dim = {self.pyramid_dim} where the neck is 'identity'",
        )
        _require(0 <= self.dropout < 1, "dropout", self.dropout, "a number in [0, 1)")
        _require(0 <= self.drop_path < 1, "drop_path", self.drop_path, "a number in [0, 1)")

    @property
    def text(self) -> TextConfig:
        """The classes are the rows of the last layer; no text encoder is read."""
        return TextConfig(n_contexts=0)

    @property
    def length_rule(self) -> LengthRule:
        """Any number of snippets; the network pads it so that every level has a spare point, see `padding`."""
        return LengthRule(multiple=self.unit, spare=self.unit)

    @property
    def longest(self) -> int | None:
        """The length of the table of absolute positions, where it may not be stretched."""
        return self.max_length if self.absolute_positions and not self.interpolate_positions else None

    @property
    def n_levels(self) -> int:
        """Levels of the pyramid; level l has one point every 2**l snippets."""
        return len(self.ranges)

    @property
    def unit(self) -> int:
        """Snippets between two points of the coarsest level."""
        return 1 << (self.n_levels - 1)

    @property
    def divisor(self) -> int:
        """The public program pads lengths beyond `max_length` to a multiple of this, in snippets."""
        windows = enumerate(self.windows)
        widest = max((window // 2 * 2 if window > 1 else 1) << level for level, window in windows)
        return math.lcm(widest, self.unit)

    @property
    def embed_dim(self) -> int:
        """Width of a class embedding: the three taps of the last convolution and its bias."""
        return 3 * self.head_dim + 1


def _require(condition: bool, key: str, value: object, allowed: str) -> None:
    require(condition, f"model.{key}", value, allowed)


_ACTIVITYNET = ActionFormerConfig(
    n_classes=1,
    pyramid_dim=256,
    neck_dim=256,
    head_dim=256,
    windows=(7, 7, 7, 7, 7, -1),
    max_length=192,
    absolute_positions=True,
    resampling="linear",
)

NAMED_SETTINGS: Mapping[str, ActionFormerConfig] = MappingProxyType(
    {
        "thumos-i3d": ActionFormerConfig(n_classes=20),
        "activitynet-i3d": _ACTIVITYNET,
        "activitynet-tsp": replace(_ACTIVITYNET, feature_channels=512),
    }
)
"""The published networks: 29,251,612, 8,123,145 and 6,943,497 parameters."""

SMALL_SETTINGS = ActionFormerConfig(pyramid_dim=64, neck_dim=64, head_dim=64, windows=(9,) * 6, max_length=256)
"""A network that trains in a minute or two on a CPU, for trials."""
