"""The settings of the training-free detector."""

from dataclasses import dataclass, field
from typing import Literal

from stale_edge.config.checks import require
from stale_edge.config.feature_spec import Resampling
from stale_edge.config.model import NetworkSettings, TextConfig
from stale_edge.config.runs import RunsConfig

SLOPE, BEND = 1.0, 1.0
"""The logit of a class that stands out by z standard deviations of the background prompts is SLOPE (z - BEND)."""
LEAST_SPREAD = 1e-4
"""The standard deviation counts as at least this, so that rounding in a still video does not stand out."""
TRAINING_FREE_DECODE = RunsConfig(
    class_threshold=0.0, class_scores="sigmoid", run_score="mean-contrast", length_power=0.5, min_score=1e-4
)
"""Chosen on simulated worlds that no result uses, seeds 10 and 11."""


@dataclass(frozen=True)
class TrainingFreeConfig(NetworkSettings):
    """Sizes and constants of the training-free detector; `stale_edge.decoding.training_free` has its formula."""

    architecture: Literal["training-free"] = "training-free"
    """Its row in the table of architectures."""
    feature_channels: int = 512
    """C, >= 1; image and text share one space, so it equals `embed_dim`."""
    embed_dim: int = 512
    """D, width of the class embeddings, >= 1."""
    n_background: int = 40
    """N, number of background prompts that class names are compared with, >= 2."""
    smoothing: float = 0.05
    """Width of the moving average over the features, as a share of the video, in [0, 1]."""
    text: TextConfig = field(default_factory=lambda: TextConfig(n_contexts=0))

    @property
    def resampling(self) -> Resampling:
        """A video keeps its own number of snippets."""
        return "none"

    def __post_init__(self) -> None:
        require(self.feature_channels >= 1, "model.feature_channels", self.feature_channels, "an integer >= 1")
        require(
            self.embed_dim == self.feature_channels,
            "model.embed_dim",
            self.embed_dim,
            f"model.feature_channels, {self.feature_channels}: features are compared with class embeddings",
        )
        require(self.n_background >= 2, "model.n_background", self.n_background, "an integer >= 2")
        require(0 <= self.smoothing <= 1, "model.smoothing", self.smoothing, "a number in [0, 1]")


@dataclass(frozen=True)
class NoLossConfig:
    """The section `loss` of an architecture that is not trained: empty."""
