"""Simulated data."""

from dataclasses import dataclass

from stale_edge.config.checks import require


@dataclass(frozen=True)
class SimulateConfig:
    """The simulated task: how many videos, how long, and how hard. All of it is written to `feature_spec.json`.

    Frame statistics (norm, outlier channel, spectrum, autocorrelation) are measured on real CLIP features and are no
    settings; they are in `stale_edge.data.simulate_features`.
    """

    n_videos: int | None = None
    """Videos, >= 4; None: 800, or every video of the annotation file. Fewer than the file has: a sample by `seed`."""
    n_classes: int = 40
    """K, >= 2; unused with an annotation file or a class bank, whose names are the classes."""
    seed: int = 0
    """Seed of all random numbers, >= 0; the same seed gives the same bytes."""
    channels: int = 512
    """C, >= 16; a class bank must be as wide, since image and text share CLIP's space."""
    fps: float = 16.0
    """Frames per second that features stand for, > 0."""
    stride: int = 16
    """Frames per snippet, >= 1; 16 at 16 fps is one snippet a second."""
    validation_fraction: float = 0.3
    """Part of the videos in the subset `validation`, in (0, 1); unused with an annotation file."""
    unseen_fraction: float = 0.25
    """Part of the classes that is in `splits/test.list`, unseen in open-set training, in (0, 1)."""
    min_duration_s: float = 20.0
    """Duration of the shortest video in seconds, > 0."""
    max_duration_s: float = 230.0
    """Duration of the longest video in seconds, >= `min_duration_s`."""
    max_actions: int = 4
    """Largest number of actions per video, >= 1."""
    second_class_probability: float = 0.1
    """How often a video with several actions shows two classes, in [0, 1]."""
    distractors: float = 0.5
    """Mean number of distractors a video: stretches that show what goes with a class, without the action, >= 0."""
    alignment: float = 0.45
    """Cosine between a class's visual direction and its text direction: what needs no training, in [0, 1]."""
    gap_regularity: float = 0.9
    """How far the rest of a visual direction follows from the text by one map for all classes, in [0, 1]."""
    class_share: float = 0.75
    """Part of an action's contrast along its class direction, in [0, 1]; the squares of the three parts sum to 1."""
    actionness_share: float = 0.6
    """Part along the direction that all actions share, in [0, 1]; what is left is the single instance's own."""
    context_share: float = 0.2
    """Part of a video's scene that its class explains; it is there with and without the action, in [0, 1]."""
    shot_s: float = 0.0
    """Mean seconds between cuts, at which the scene changes, >= 0; 0: one scene a video, which a detector undoes
    exactly by taking out the video's mean."""
    boundary_s: float = 1.0
    """Seconds in which an action fades in and out, > 0."""
    score_accuracy: float = 0.885
    """Part of the videos whose top class in `scores.json` is right, in [0, 1]; 88.5 % in STALE's published scores."""

    def __post_init__(self) -> None:
        require(self.n_videos is None or self.n_videos >= 4, "simulate.n_videos", self.n_videos, "an integer >= 4")
        require(self.n_classes >= 2, "simulate.n_classes", self.n_classes, "an integer >= 2")
        require(self.channels >= 16, "simulate.channels", self.channels, "an integer >= 16")
        require(self.seed >= 0, "simulate.seed", self.seed, "an integer >= 0")
        for name in ("stride", "max_actions"):
            require(getattr(self, name) >= 1, f"simulate.{name}", getattr(self, name), "an integer >= 1")
        for name in ("fps", "min_duration_s", "boundary_s"):
            require(getattr(self, name) > 0, f"simulate.{name}", getattr(self, name), "a number > 0")
        require(
            self.max_duration_s >= self.min_duration_s,
            "simulate.max_duration_s",
            self.max_duration_s,
            f"at least simulate.min_duration_s = {self.min_duration_s}",
        )
        for name in ("validation_fraction", "unseen_fraction"):
            require(0 < getattr(self, name) < 1, f"simulate.{name}", getattr(self, name), "a number in (0, 1)")
        for name in (
            "second_class_probability",
            "alignment",
            "gap_regularity",
            "class_share",
            "actionness_share",
            "context_share",
            "score_accuracy",
        ):
            require(0 <= getattr(self, name) <= 1, f"simulate.{name}", getattr(self, name), "a number in [0, 1]")
        require(
            self.class_share**2 + self.actionness_share**2 <= 1 + 1e-9,
            "simulate.actionness_share",
            self.actionness_share,
            f"at most sqrt(1 - class_share**2), class_share = {self.class_share}",
        )
        require(self.shot_s >= 0, "simulate.shot_s", self.shot_s, "a number >= 0")
        require(self.distractors >= 0, "simulate.distractors", self.distractors, "a number >= 0")
