"""Settings that turn the network's outputs into detections."""

from dataclasses import dataclass
from typing import Literal

from stale_edge.config.checks import require

Policy = Literal["paper", "release"]
SoftNMSMethod = Literal["gaussian", "linear", "hard"]
Regions = Literal["runs", "hull"]


@dataclass(frozen=True)
class DecodeConfig:
    """From class logits and masks to detections, section 3.3 of the paper."""

    policy: Policy = "paper"
    """`paper`: section 3.3. `release`: the public inference script, quirks included."""
    class_threshold: float = 0.05
    """θ_c: a snippet counts for a class only above this probability, in [0, 1)."""
    top_snippets: int = 100
    """Number of (snippet, class) pairs that propose segments, best first, >= 1."""
    mask_thresholds: tuple[float, ...] = (0.05, 0.1, 0.2)
    """Θ: each cuts the snippet's mask once, each in [0, 1).

    Low, since a proposal scores by the highest value of its mask: the fragments that a high threshold cuts out of an
    action tie with the whole of it. On the demo's task 0.1 to 0.9 gave 16.5 % average mAP, these 32.0 %.
    """
    regions: Regions = "runs"
    """`runs`: every connected run above the threshold is a segment. `hull`: first to last, holes filled."""
    min_snippets: int = 1
    """Segments shorter than this many snippets are dropped, >= 1."""
    soft_nms: SoftNMSMethod = "gaussian"
    """Rule of score decay: that of Bodla et al., arXiv:1704.04503, or `linear` or `hard`."""
    sigma: float = 0.5
    """Width of the Gaussian rule, in tIoU, > 0."""
    tiou_threshold: float = 0.5
    """Overlap at which `linear` and `hard` act, in [0, 1]."""
    min_score: float = 0.001
    """Lowest decayed score of a detection, in [0, 1)."""
    max_detections: int = 100
    """Largest number of detections per video, >= 1."""

    def __post_init__(self) -> None:
        require(0 <= self.class_threshold < 1, "decode.class_threshold", self.class_threshold, "a number in [0, 1)")
        for name in ("top_snippets", "min_snippets", "max_detections"):
            require(getattr(self, name) >= 1, f"decode.{name}", getattr(self, name), "an integer >= 1")
        require(
            len(self.mask_thresholds) > 0 and all(0 <= t < 1 for t in self.mask_thresholds),
            "decode.mask_thresholds",
            self.mask_thresholds,
            "at least one number, each in [0, 1)",
        )
        require(self.sigma > 0, "decode.sigma", self.sigma, "a number > 0")
        require(0 <= self.tiou_threshold <= 1, "decode.tiou_threshold", self.tiou_threshold, "a number in [0, 1]")
        require(0 <= self.min_score < 1, "decode.min_score", self.min_score, "a number in [0, 1)")
