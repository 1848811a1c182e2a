"""Settings that turn a point detector's outputs into detections."""

from dataclasses import dataclass
from typing import Literal

from stale_edge.config.checks import require

MOST_LEVELS = 32
"""Largest number of levels of a pyramid; published ones have six."""

PointsSuppression = Literal["gaussian", "hard", "none"]


@dataclass(frozen=True)
class PointsConfig:
    """Each point proposes one segment per class: ActionFormer's inference (its `test_cfg`), THUMOS14's settings.

    ActivityNet's differ in `multiclass` (False), `sigma` (0.75), `duration_threshold` (0.001), `voting_threshold` (0.9)
    and `max_detections` (100).
    """

    policy: Literal["points"] = "points"
    """Its row in the table of decode policies."""
    pre_nms_threshold: float = 0.001
    """A (point, class) pair proposes a segment only if its score is above this, in [0, 1)."""
    pre_nms_top_k: int = 2000
    """Largest number of proposals per level, best first, >= 1."""
    duration_threshold: float = 0.05
    """Segments that are not longer than this are dropped, in units of the time grid, >= 0."""
    multiclass: bool = True
    """True: every class is suppressed by itself. False: all classes together, then voting."""
    soft_nms: PointsSuppression = "gaussian"
    """Rule of Bodla et al., arXiv:1704.04503; `none`: every proposal is a detection."""
    sigma: float = 0.5
    """Width of the Gaussian rule, in tIoU, > 0."""
    tiou_threshold: float = 0.1
    """Overlap at which `hard` suppresses, in [0, 1]."""
    min_score: float = 0.001
    """Lowest decayed score of a detection, in [0, 1); the best of a suppression always stays."""
    voting_threshold: float = 0.7
    """Without `multiclass`: a detection's segment becomes the mean of all proposals with at least this tIoU, in [0, 1].

    0: no voting.
    """
    max_detections: int = 200
    """Largest number of detections per video, >= 1."""
    n_levels: int = 6
    """Number of levels of the pyramid, 1 to 32; level l has a point every 2**l snippets."""

    def __post_init__(self) -> None:
        for name in ("pre_nms_top_k", "max_detections"):
            require(getattr(self, name) >= 1, f"decode.{name}", getattr(self, name), "an integer >= 1")
        allowed = f"an integer from 1 to {MOST_LEVELS}"
        require(1 <= self.n_levels <= MOST_LEVELS, "decode.n_levels", self.n_levels, allowed)
        for name in ("pre_nms_threshold", "min_score"):
            require(0 <= getattr(self, name) < 1, f"decode.{name}", getattr(self, name), "a number in [0, 1)")
        for name in ("tiou_threshold", "voting_threshold"):
            require(0 <= getattr(self, name) <= 1, f"decode.{name}", getattr(self, name), "a number in [0, 1]")
        require(
            0 <= self.duration_threshold < float("inf"),
            "decode.duration_threshold",
            self.duration_threshold,
            "a finite number >= 0",
        )
        require(0 < self.sigma < float("inf"), "decode.sigma", self.sigma, "a finite number > 0")
