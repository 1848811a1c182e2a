"""Settings that turn class logits of snippets into detections, for networks that predict no segments."""

from dataclasses import dataclass
from typing import Literal

from stale_edge.config.checks import require
from stale_edge.config.decoding import SoftNMSMethod

ThresholdScale = Literal["video", "none"]
ClassScores = Literal["softmax", "sigmoid"]
RunScore = Literal["maximum", "contrast", "mean-contrast"]


@dataclass(frozen=True)
class RunsConfig:
    """Runs of snippets above thresholds, class by class.

    The defaults are those of weak supervision; the paper (arXiv:2212.09335) names the steps and the maximum, the
    numbers are ours or those of public programs.
    """

    policy: Literal["runs"] = "runs"
    """Its row in the table of decode policies."""
    class_threshold: float = 0.2
    """θ_cls: classes whose probability in the whole video is above this are detected, in [0, 1).

    If no class is above, the best one is; 0: all of them.
    """
    top_share: float = 0.125
    """The video's logit of a class is the mean of its highest logits, of this share of the snippets, in (0, 1]."""
    thresholds: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    """θ_loc: runs of snippets above each of them are candidates, each in [0, 1)."""
    class_scores: ClassScores = "softmax"
    """A snippet's score of a class, from the logits. `softmax`: its share among all classes and the background.
    `sigmoid`: against the background alone, so that further classes do not change it."""
    threshold_scale: ThresholdScale = "video"
    """`video`: a class's scores are first scaled to [0, 1] over the video. `none`: they are compared as they are."""
    smoothing: float = 0.0
    """Width of a moving average over the scores before they are cut, as a share of the video, in [0, 1]."""
    run_score: RunScore = "maximum"
    """`maximum`: the highest score inside the run. `contrast`: the mean inside less the mean around it, of the scores
    that are cut. `mean-contrast`: the mean score inside times that contrast.
    """
    surroundings: float = 0.25
    """Contrast compares a run with this part of its length before and after it, in [0, 1]; at least a snippet each."""
    video_weight: float = 0.0
    """`contrast` adds this times the class's probability in the whole video, in [0, 1]."""
    length_power: float = 0.0
    """Scores are multiplied by this power of the run's share of the video, in [0, 1]; 0: not."""
    min_snippets: int = 1
    """Shortest run that is kept, in snippets, >= 1."""
    soft_nms: SoftNMSMethod = "gaussian"
    """Rule of Bodla et al., arXiv:1704.04503; of equal scores the longer run goes first, then the earlier."""
    sigma: float = 0.5
    """Width of the Gaussian rule, in tIoU, > 0."""
    tiou_threshold: float = 0.5
    """Overlap at which `linear` and `hard` act, in [0, 1]."""
    min_score: float = 0.001
    """Lowest decayed score of a detection, in [0, 1)."""
    max_detections: int = 100
    """Largest number of detections per video, >= 1."""

    def __post_init__(self) -> None:
        for name in ("min_snippets", "max_detections"):
            require(getattr(self, name) >= 1, f"decode.{name}", getattr(self, name), "an integer >= 1")
        for name in ("class_threshold", "min_score"):
            require(0 <= getattr(self, name) < 1, f"decode.{name}", getattr(self, name), "a number in [0, 1)")
        for name in ("smoothing", "surroundings", "video_weight", "length_power", "tiou_threshold"):
            require(0 <= getattr(self, name) <= 1, f"decode.{name}", getattr(self, name), "a number in [0, 1]")
        require(0 < self.top_share <= 1, "decode.top_share", self.top_share, "a number in (0, 1]")
        require(
            len(self.thresholds) > 0 and all(0 <= t < 1 for t in self.thresholds),
            "decode.thresholds",
            self.thresholds,
            "at least one number, each in [0, 1)",
        )
        require(0 < self.sigma < float("inf"), "decode.sigma", self.sigma, "a finite number > 0")
