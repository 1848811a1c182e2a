"""The objective of both stages: points without classes, and the class of each annotated segment."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from stale_edge.config import TimeGrid
from stale_edge.model.actionformer.objective import PointObjective, PointTargets
from stale_edge.model.batch_part import BatchPart, batch_size, batch_sum
from stale_edge.model.pyramid.crops import VideoSegments
from stale_edge.model.pyramid.output import PointOutput
from stale_edge.model.targets import IGNORED, LabelledSpan
from stale_edge.model.two_stage.network import TwoStageOutput
from stale_edge.model.two_stage.settings import TwoStageConfig, TwoStageLossConfig


class TwoStageTargets(NamedTuple):
    """The targets of B videos.

    points: those of the first stage.
    segments: (B, M, 2), start and end of the annotated actions in snippets.
    labels: (B, M) int64, their classes, `IGNORED` for filling.
    """

    points: PointTargets
    segments: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> "TwoStageTargets":
        """Move all tensors to a device."""
        return TwoStageTargets(self.points.to(device), self.segments.to(device), self.labels.to(device))


class TwoStageObjective(nn.Module):
    """Train both stages in one loop; they share no weight, so neither changes the other."""

    terms = ("actionness", "offsets", "classification")

    def __init__(self, model: TwoStageConfig, loss: TwoStageLossConfig) -> None:
        super().__init__()
        self.config = loss
        self.points = PointObjective(model.proposals, loss.proposals)

    @property
    def part(self) -> BatchPart | None:
        """The part of a batch that this process has, as in the first stage."""
        return self.points.part

    @part.setter
    def part(self, part: BatchPart | None) -> None:
        self.points.part = part

    def targets(
        self, actions: Sequence[LabelledSpan], *, vocabulary: Sequence[str], grid: TimeGrid, n_snippets: int
    ) -> VideoSegments:
        """Put the actions of one video on its grid of snippets; those of other classes are left out."""
        return self.points.targets(actions, vocabulary=vocabulary, grid=grid, n_snippets=n_snippets)

    def crop(self, targets: VideoSegments, generator: torch.Generator) -> tuple[int, VideoSegments]:
        """Draw a part of a video."""
        return self.points.crop(targets, generator)

    def stack(self, targets: Sequence[VideoSegments]) -> TwoStageTargets:
        """Assign the points of B videos, and list their segments."""
        agnostic = [video._replace(labels=torch.zeros_like(video.labels)) for video in targets]
        return TwoStageTargets(
            self.points.stack(agnostic),
            pad_sequence([video.segments for video in targets], batch_first=True),
            pad_sequence([video.labels for video in targets], batch_first=True, padding_value=IGNORED),
        )

    def inputs(self, targets: TwoStageTargets, n_classes: int) -> tuple[Tensor, ...]:
        """Give which snippets are real, (B, T), and the segments to classify, (B, M, 2)."""
        return (*self.points.inputs(targets.points, n_classes), targets.segments)

    def losses(self, outputs: TwoStageOutput, targets: TwoStageTargets) -> dict[str, Tensor]:
        """Compute every term for every video, each (B,); the mean over a batch is the mean over its segments."""
        points = PointOutput(outputs.actionness_logits, outputs.offsets, outputs.valid)
        first = self.points.losses(points, targets.points)
        logits = outputs.segment_logits.float().transpose(1, 2)  # (B, K, M)
        each = F.cross_entropy(logits, targets.labels, ignore_index=IGNORED, reduction="none")  # (B, M)
        n_segments = batch_sum((targets.labels != IGNORED).sum(dim=1), self.part).clamp(min=1)
        return {
            "actionness": first["classification"],
            "offsets": first["offsets"],
            "classification": each.sum(dim=1) * (batch_size(each, self.part) / n_segments),
        }

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Add the terms with their weights, (B,)."""
        first = {"classification": terms["actionness"], "offsets": terms["offsets"]}
        return self.points.total(first) + self.config.classification * terms["classification"]
