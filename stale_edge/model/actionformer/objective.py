"""Targets and losses of the points of a pyramid."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from stale_edge.config import TimeGrid
from stale_edge.model.actionformer.objective_settings import PointObjectiveConfig
from stale_edge.model.actionformer.padding import padded_length
from stale_edge.model.actionformer.settings import ActionFormerConfig
from stale_edge.model.batch_part import BatchPart, batch_size, batch_sum
from stale_edge.model.pyramid.crops import VideoSegments, random_crop
from stale_edge.model.pyramid.losses import distance_iou_loss, focal_loss
from stale_edge.model.pyramid.output import PointOutput
from stale_edge.model.pyramid.points import assign_points, points_of
from stale_edge.model.pyramid.segments import video_segments
from stale_edge.model.targets import LabelledSpan

NORMALIZER_MOMENTUM = 0.9
"""Share of the normalizer that stays in each step."""
LEAST_OFFSET_LOSS = 0.01
"""Below this value the offset loss is not scaled up further; only used if `offset_weight` is None."""


class PointTargets(NamedTuple):
    """The targets of B videos.

    classes: (B, P, K), 1 where a point is assigned an action of the class.
    offsets: (B, P, 2), distances to its start and end in strides; 0 where there is no action.
    valid: (B, T), 1 for the snippets of a video, 0 for its filling.
    """

    classes: Tensor
    offsets: Tensor
    valid: Tensor

    def to(self, device: torch.device) -> "PointTargets":
        """Move all tensors to a device."""
        return PointTargets(*(tensor.to(device) for tensor in self))


class PointObjective(nn.Module):
    """Classify points by the focal loss, and fit the segments of those in an action by the DIoU loss.

    Both sums over the batch are divided by a running mean of the number of positive points, kept in `normalizer`, a
    buffer: unlike in the public program a resumed run goes on with it. Processes that share a batch set `part`.
    """

    terms = ("classification", "offsets")
    normalizer: Tensor

    def __init__(self, model: ActionFormerConfig, loss: PointObjectiveConfig) -> None:
        super().__init__()
        self.model = model
        self.config = loss
        self.part: BatchPart | None = None
        self.register_buffer("normalizer", torch.tensor(loss.initial_normalizer, dtype=torch.float64))

    def targets(
        self, actions: Sequence[LabelledSpan], *, vocabulary: Sequence[str], grid: TimeGrid, n_snippets: int
    ) -> VideoSegments:
        """Put the actions of one video on its grid of snippets; those of other classes are left out."""
        return video_segments(actions, vocabulary=vocabulary, grid=grid, n_snippets=n_snippets)

    def crop(self, targets: VideoSegments, generator: torch.Generator) -> tuple[int, VideoSegments]:
        """Draw a part of a video, of at most `max_length` snippets."""
        return random_crop(targets, max_length=self.model.max_length, generator=generator)

    def stack(self, targets: Sequence[VideoSegments]) -> PointTargets:
        """Assign the points of B videos, each filled up to the longest."""
        longest = max(video.n_snippets for video in targets)
        n_snippets = longest if self.part is None else self.part.n_snippets
        points = points_of(self.model.ranges, padded_length(self.model, n_snippets))
        assigned = [
            assign_points(
                points,
                video.segments,
                video.labels,
                n_classes=self.model.n_classes,
                center_radius=self.config.center_radius,
            )
            for video in targets
        ]
        lengths = torch.tensor([video.n_snippets for video in targets])
        return PointTargets(
            classes=torch.stack([classes for classes, _ in assigned]),
            offsets=torch.stack([offsets for _, offsets in assigned]),
            valid=(torch.arange(n_snippets)[None, :] < lengths[:, None]).float(),
        )

    def inputs(self, targets: PointTargets, n_classes: int) -> tuple[Tensor, ...]:
        """Give what the detector takes beside features and class embeddings: which snippets are real, (B, T)."""
        del n_classes
        return (targets.valid,)

    def losses(self, outputs: PointOutput, targets: PointTargets) -> dict[str, Tensor]:
        """Compute both terms for every video, each (B,); their means over the batch are the losses of the public code.

        In training mode the normalizer moves first.
        """
        valid = outputs.valid > 0  # (B, P)
        positive = valid & (targets.classes.sum(dim=2) > 0)
        if self.training:
            self._count(positive)
        smoothing = self.config.label_smoothing
        classes = targets.classes * (1 - smoothing) + smoothing / (self.model.n_classes + 1)
        per_point = focal_loss(outputs.class_logits.float(), classes).sum(dim=2)
        misfit = distance_iou_loss(outputs.offsets.float(), targets.offsets)
        # The loss is a sum over the batch, but the caller takes the mean over videos.
        scale = (batch_size(valid, self.part) / self.normalizer).float()
        return {
            "classification": torch.where(valid, per_point, 0.0).sum(dim=1) * scale,
            "offsets": torch.where(positive, misfit, 0.0).sum(dim=1) * scale,
        }

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Add the terms with their weights, (B,)."""
        weight: Tensor | float | None = self.config.offset_weight
        if weight is None:
            n_videos = batch_size(terms["offsets"], self.part)
            classification, offsets = (batch_sum(terms[name], self.part) / n_videos for name in self.terms)
            weight = classification / offsets.clamp(min=LEAST_OFFSET_LOSS)
        return terms["classification"] + weight * terms["offsets"]

    @torch.no_grad()
    def _count(self, positive: Tensor) -> None:
        n_positive = batch_sum(positive.sum(dim=1), self.part).clamp(min=1).to(self.normalizer)
        self.normalizer.mul_(NORMALIZER_MOMENTUM).add_((1 - NORMALIZER_MOMENTUM) * n_positive)
