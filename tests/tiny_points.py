"""A third architecture, added from outside: a linear layer whose every snippet proposes a segment, policy `points`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from stale_edge.bundle import TensorSpec
from stale_edge.config import LengthRule, PointsConfig, Resampling, TextConfig, TimeGrid
from stale_edge.model.architectures import Architecture
from stale_edge.model.low_precision import KeptFloat32
from stale_edge.model.targets import LabelledSpan, assign_targets


@dataclass(frozen=True)
class TinyConfig:
    """The section `model` of a config."""

    architecture: Literal["tiny-points"] = "tiny-points"
    feature_channels: int = 16
    embed_dim: int = 16
    text: TextConfig = field(default_factory=TextConfig)
    length_rule: LengthRule = field(default_factory=LengthRule)
    resampling: Resampling = "linear"
    longest: int | None = None
    deployable: bool = True


@dataclass(frozen=True)
class TinyLoss:
    """The section `loss`."""

    offsets: float = 0.1
    """Weight of the distances, >= 0."""


class TinyOutput(NamedTuple):
    """One level of points: class_logits (B, P, K), offsets (B, P, 2), valid (B, P), P = T."""

    class_logits: Tensor
    offsets: Tensor
    valid: Tensor


class TinyPoints(nn.Module):
    """Compare projected snippets with the class embeddings, and read the distances off them."""

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.config, self.length_rule = config, config.length_rule
        self.project = nn.Linear(config.feature_channels, config.embed_dim)
        self.distances = nn.Linear(config.feature_channels, 2)

    def forward(self, features: Tensor, class_embeddings: Tensor) -> TinyOutput:
        logits = 5 * self.project(features) @ F.normalize(class_embeddings, dim=-1).transpose(0, 1) - 3  # (B, T, K)
        offsets = F.softplus(self.distances(features))  # (B, T, 2)
        return TinyOutput(logits, offsets, torch.ones_like(offsets[..., 0]))

    def output_specs(self) -> tuple[TensorSpec, ...]:
        return (
            TensorSpec("class_logits", "float32", ("B", "P", "K")),
            TensorSpec("offsets", "float32", ("B", "P", 2)),
            TensorSpec("valid", "float32", ("B", "P")),
        )

    def undecided(self, outputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        return np.empty((len(outputs["class_logits"]), 0))


class TinyTargets(NamedTuple):
    """classes (B, T) of 0..K, K for background or ignored; distances (B, T, 2) in snippets."""

    classes: Tensor
    distances: Tensor

    def to(self, device: torch.device) -> "TinyTargets":
        return TinyTargets(self.classes.to(device), self.distances.to(device))


class TinyObjective(nn.Module):
    """Binary cross entropy of the classes, absolute error of the distances inside actions."""

    terms = ("classes", "offsets")

    def __init__(self, model: TinyConfig, loss: TinyLoss) -> None:
        super().__init__()
        del model
        self.loss = loss

    def targets(
        self, actions: Sequence[LabelledSpan], *, vocabulary: Sequence[str], grid: TimeGrid, n_snippets: int
    ) -> TinyTargets:
        found = assign_targets(actions, vocabulary=vocabulary, duration_s=grid.duration_s, n_snippets=n_snippets)
        place = torch.arange(n_snippets)
        distances = torch.stack([place - found.mask_start, found.mask_stop - place], dim=1).float()
        return TinyTargets(torch.where(found.labels < 0, len(vocabulary), found.labels), distances)

    def stack(self, targets: Sequence[TinyTargets]) -> TinyTargets:
        return TinyTargets(*(torch.stack(parts) for parts in zip(*targets, strict=True)))

    def inputs(self, targets: TinyTargets, n_classes: int) -> tuple[Tensor, ...]:
        del targets, n_classes
        return ()

    def losses(self, outputs: TinyOutput, targets: TinyTargets) -> dict[str, Tensor]:
        n_classes = outputs.class_logits.shape[-1]
        wanted = F.one_hot(targets.classes, n_classes + 1)[..., :n_classes].float()
        classes = F.binary_cross_entropy_with_logits(outputs.class_logits.float(), wanted, reduction="none")
        inside = (targets.classes < n_classes).float()  # (B, T)
        error = (outputs.offsets.float() - targets.distances).abs().sum(dim=2) * inside
        return {"classes": classes.mean(dim=(1, 2)), "offsets": error.sum(dim=1) / inside.sum(dim=1).clamp(min=1)}

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        return terms["classes"] + self.loss.offsets * terms["offsets"]


ROW = Architecture(
    TinyConfig,
    TinyLoss,
    PointsConfig(n_levels=1),
    TinyPoints,
    TinyObjective,
    float32=KeptFloat32({"int8": ("distances",)}),  # two columns of weights that decide every boundary
)
