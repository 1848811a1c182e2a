"""What features are, and how they are computed from videos."""

from dataclasses import dataclass
from typing import Literal, get_args

from stale_edge.config.checks import require

Resampling = Literal["linear", "none"]
Preprocessing = Literal["exact", "fast"]
"""`exact`: as transformers prepares pictures. `fast`: the video decoder scales, without the codec's loop filter."""


@dataclass(frozen=True)
class FeatureSpec:
    """Describes features; a network must get features of the kind it was trained on.

    Stored as `feature_spec.json` in a data set, in every checkpoint and bundle, and in the exported graphs.
    """

    encoder: str = "unspecified"
    """Name or fingerprint of the visual encoder."""
    channels: int = 512
    """C, the width of one snippet's feature vector, >= 1."""
    fps: float | None = None
    """Frames per second that were sampled from the video, > 0; None: unspecified."""
    stride: int | None = None
    """Frames per snippet, >= 1; None: unspecified."""
    num_frames: int | None = None
    """Number of frames that one feature was computed from, >= 1; None: unspecified."""
    preprocessing: Preprocessing = "exact"
    """How pictures were prepared; a network trained on features of one way refuses those of the other."""
    skip_similar: float | None = None
    """Largest change of a picture, as a share of the range of brightness in (0, 1), at which the last encoded picture's
    features stand for it; None: every picture was encoded."""

    def __post_init__(self) -> None:
        require(self.channels >= 1, "feature_spec.channels", self.channels, "an integer >= 1")
        require(self.fps is None or self.fps > 0, "feature_spec.fps", self.fps, "a number > 0, or nothing")
        for name in ("stride", "num_frames"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"feature_spec.{name}", value, "an integer >= 1")
        require(
            self.preprocessing in get_args(Preprocessing),
            "feature_spec.preprocessing",
            self.preprocessing,
            "exact or fast",
        )
        require(
            self.skip_similar is None or 0 < self.skip_similar < 1,
            "feature_spec.skip_similar",
            self.skip_similar,
            "a number in (0, 1), or nothing",
        )


@dataclass(frozen=True)
class ExtractConfig:
    """How features are extracted from videos by default."""

    fps: float = 16.0
    """Frames a second that snippets are counted in, > 0; with the stride one snippet a second, as in simulations."""
    stride: int = 16
    """Frames a snippet, >= 1; the picture in its middle is encoded."""
    batch: int = 8
    """Pictures encoded together, >= 1; on a CPU more are hardly faster and hold more memory."""

    def __post_init__(self) -> None:
        require(0 < self.fps < float("inf"), "extract.fps", self.fps, "a number > 0")
        for name in ("stride", "batch"):
            require(getattr(self, name) >= 1, f"extract.{name}", getattr(self, name), "an integer >= 1")


Normalize = Literal["none", "video-mean", "data-mean", "data-whiten"]


@dataclass(frozen=True)
class FeaturesConfig:
    """What a network does to its features before anything else, inside every exported graph."""

    normalize: Normalize | None = None
    """What is taken out of them. `none`: nothing. `video-mean`: the mean of the snippets that the network is given at
    once, a video's or a window's. `data-mean`: the mean of all training videos. `data-whiten`: that mean and the
    covariance around it. After a mean everything is divided by one number of the training videos. None: the default of
    the architecture, `video-mean` for `paper`, `none` for `release`; stored configs name it."""
    l2: Literal["none", "before", "after"] = "none"
    """Whether each snippet is scaled to one length, `before` or `after` that."""
