"""Settings of losses and training."""

from dataclasses import dataclass
from typing import Literal

from stale_edge.config.checks import require


@dataclass(frozen=True)
class LossConfig:
    """Weights of the terms of the overall objective, and the thresholds inside them (eq. 9-12)."""

    classification: float = 1.0
    """Weight of L_c, eq. 9, >= 0."""
    mask: float = 1.0
    """Weight of L_m, eq. 10, >= 0."""
    dice: float = 0.4
    """λ2 inside eq. 10, >= 0."""
    completeness: float = 1.0
    """Weight of L_comp, eq. 11, >= 0."""
    consistency: float = 1.0
    """Weight of L_const, eq. 12, >= 0."""
    class_threshold: float = 0.3
    """θ_c of eq. 12, in [0, 1)."""
    mask_threshold: float = 0.5
    """θ_m of eq. 12, in [0, 1)."""
    top_snippets: int = 10
    """k of the top scoring features of eq. 12, >= 1."""

    def __post_init__(self) -> None:
        for name in ("classification", "mask", "dice", "completeness", "consistency"):
            require(getattr(self, name) >= 0, f"loss.{name}", getattr(self, name), "a number >= 0")
        for name in ("class_threshold", "mask_threshold"):
            require(0 <= getattr(self, name) < 1, f"loss.{name}", getattr(self, name), "a number in [0, 1)")
        require(self.top_snippets >= 1, "loss.top_snippets", self.top_snippets, "an integer >= 1")


@dataclass(frozen=True)
class TrainConfig:
    """The training loop. Epochs, learning rate and batch size follow the number of videos where they are 0.

    Section 4 of the paper has 15 epochs, 1e-4 and 100 videos for ActivityNet. How they follow the data is in
    `stale_edge.training.chosen`.
    """

    epochs: int = 0
    """Passes over the training videos, >= 0; 0: 15, or as many as a small data set needs."""
    optimizer: Literal["adam", "adamw"] = "adam"
    """`adam`: weight decay is added to the gradient of every parameter. `adamw`: it is applied apart from the gradient,
    to the weights of layers alone; 1e-8 is added to the denominator."""
    learning_rate: float = 0.0
    """Largest learning rate of the schedule, >= 0 (1e-5 for THUMOS14 in the paper); 0: chosen."""
    schedule: Literal["constant", "cosine"] = "constant"
    """`cosine`: after `warmup_epochs` of linear growth the learning rate falls to nearly 0, step by step."""
    warmup_epochs: int = 0
    """Number of epochs in which the learning rate grows, >= 0, fewer than `epochs`; only `cosine` reads it."""
    average_decay: float = 0.0
    """Decay of the moving average of the weights, in [0, 1); the average is saved and validated. 0: no average."""
    weight_decay: float = 0.0
    """Weight decay of the optimizer, >= 0."""
    batch_size: int = 0
    """Videos per optimizer step over all processes (the global batch), >= 0; 0: 8 to 100, by the number of videos."""
    n_snippets: int = 100
    """T that every video is resampled to (100 for ActivityNet, 256 for THUMOS14 in the paper), >= 1."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient, > 0."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """`auto`: mixed precision where a CUDA device has it; on a CPU bf16 for wide networks if it has AMX, else fp32."""
    seed: int = 0
    """Seed of weights, shuffling and dropout, any integer."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where training runs; `auto`: on a CUDA device if there is one."""
    validate_every: int = 1
    """Epochs between validations, >= 0; the last epoch is always validated, but with 0 none is."""
    workers: int = 0
    """Processes that read features beside the training process, >= 0."""
    tracker: Literal["none", "tensorboard"] = "none"
    """`tensorboard`: the numbers of metrics.jsonl also go to event files in the run's folder `tracker/`."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            allowed = "an integer >= 1, or 0: it follows the data"
            require(getattr(self, name) >= 0, f"train.{name}", getattr(self, name), allowed)
        require(self.n_snippets >= 1, "train.n_snippets", self.n_snippets, "an integer >= 1")
        allowed = "a number > 0, or 0: it follows the data"
        require(self.learning_rate >= 0, "train.learning_rate", self.learning_rate, allowed)
        require(self.gradient_clip > 0, "train.gradient_clip", self.gradient_clip, "a number > 0")
        for name in ("weight_decay", "validate_every", "workers"):
            require(getattr(self, name) >= 0, f"train.{name}", getattr(self, name), "a number >= 0")
        require(0 <= self.average_decay < 1, "train.average_decay", self.average_decay, "a number in [0, 1)")
        # Without a schedule the default of an architecture's warm-up means nothing, however few the epochs.
        free = self.schedule == "constant" or not self.epochs
        fits = self.warmup_epochs >= 0 and (free or self.warmup_epochs < self.epochs)
        allowed = f"an integer >= 0 and less than train.epochs = {self.epochs}"
        require(fits, "train.warmup_epochs", self.warmup_epochs, allowed)


@dataclass(frozen=True)
class VideoClassifierConfig:
    """The video-level classifier of `stale-edge scores`, which learns from the classes of whole videos alone."""

    hidden_dim: int = 256
    """Width of the layer under classes and attention, >= 1."""
    dropout: float = 0.5
    """Probability that a value is dropped in training, in [0, 1)."""
    epochs: int = 20
    """Passes over the training videos, >= 1."""
    learning_rate: float = 1e-3
    """Learning rate of Adam, > 0."""
    weight_decay: float = 1e-3
    """Weight decay of Adam, >= 0."""
    batch_size: int = 32
    """Videos per optimizer step, >= 1."""
    n_snippets: int = 100
    """T that every video is resampled to, >= 1."""
    seed: int = 0
    """Seed of weights, shuffling and dropout."""

    def __post_init__(self) -> None:
        for name in ("hidden_dim", "epochs", "batch_size", "n_snippets"):
            require(getattr(self, name) >= 1, f"scores.{name}", getattr(self, name), "an integer >= 1")
        require(0 <= self.dropout < 1, "scores.dropout", self.dropout, "a number in [0, 1)")
        require(self.learning_rate > 0, "scores.learning_rate", self.learning_rate, "a number > 0")
        require(self.weight_decay >= 0, "scores.weight_decay", self.weight_decay, "a number >= 0")
