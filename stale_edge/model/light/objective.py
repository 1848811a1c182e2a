"""Targets and losses of `light`."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stale_edge.config import TimeGrid
from stale_edge.model.light.network import LightOutput
from stale_edge.model.light.settings import LightConfig, LightLossConfig
from stale_edge.model.pyramid.losses import distance_iou_loss, quality_focal_loss
from stale_edge.model.pyramid.points import assign_points, points_of
from stale_edge.model.pyramid.segments import video_segments
from stale_edge.model.targets import IGNORED, LabelledSpan, assign_targets


class LightTargets(NamedTuple):
    """The targets of one video, or of B videos with an axis B in front.

    labels: (P,) int64, the class of each point's action in 0..K-1, K for none, `IGNORED` for actions of other classes.
    offsets: (P, 2), distances to its start and end in strides; 0 where there is no action.
    snippets: (T,) int64, the class of each snippet, numbered the same way.
    """

    labels: Tensor
    offsets: Tensor
    snippets: Tensor

    def to(self, device: torch.device) -> "LightTargets":
        """Move all tensors to a device."""
        return LightTargets(*(tensor.to(device) for tensor in self))


class LightObjective(nn.Module):
    """Scores of points and segments, boundaries, classes of snippets and points, actionness of snippets.

    A score's target is the tIoU of the point's segment with its action (quality focal loss, arXiv:2006.04388), so that
    well placed segments score higher.
    """

    terms = ("points", "offsets", "classification", "actionness")

    def __init__(self, model: LightConfig, loss: LightLossConfig) -> None:
        super().__init__()
        self.model = model
        self.config = loss

    def targets(
        self, actions: Sequence[LabelledSpan], *, vocabulary: Sequence[str], grid: TimeGrid, n_snippets: int
    ) -> LightTargets:
        """Label every point and every snippet."""
        n_classes = len(vocabulary)
        video = video_segments(actions, vocabulary=vocabulary, grid=grid, n_snippets=n_snippets, others=True)
        points = points_of(self.model.ranges, self.model.length_rule.padded(n_snippets))
        classes, offsets = assign_points(
            points, video.segments, video.labels, n_classes=n_classes + 1, center_radius=self.config.center_radius
        )
        assigned = classes.amax(dim=1) > 0
        labels = torch.where(assigned, classes.argmax(dim=1), n_classes)
        labels = torch.where(classes[:, n_classes] > 0, IGNORED, labels)
        snippets = assign_targets(
            actions, vocabulary=vocabulary, duration_s=grid.duration_s, n_snippets=n_snippets
        ).labels
        return LightTargets(labels, offsets, snippets)

    def stack(self, targets: Sequence[LightTargets]) -> LightTargets:
        """Put the targets of videos of equal T together."""
        return LightTargets(*(torch.stack(parts) for parts in zip(*targets, strict=True)))

    def inputs(self, _targets: LightTargets, _n_classes: int) -> tuple[Tensor, ...]:
        """The detector takes nothing more in training."""
        return ()

    def losses(self, outputs: LightOutput, targets: LightTargets) -> dict[str, Tensor]:
        """Compute every term for every video, each (B,) float32, as means over what counts."""
        n_classes = outputs.name_logits.shape[-1]
        positive = (targets.labels >= 0) & (targets.labels < n_classes)  # (B, P)
        counted = (targets.labels != IGNORED) & (outputs.valid > 0)
        n_positive = positive.sum(dim=1).clamp(min=1)
        offsets = outputs.offsets.float()
        shared, union = (
            extreme(offsets, targets.offsets).sum(dim=-1) for extreme in (torch.minimum, torch.maximum)
        )  # both segments hold the point
        quality = torch.where(positive, shared / union.clamp(min=1e-6), 0.0).detach()
        by_point = quality_focal_loss(outputs.point_logits.float(), quality)
        by_point = by_point + quality_focal_loss(outputs.segment_logits.float(), quality)
        misfit = distance_iou_loss(offsets, targets.offsets)
        return {
            "points": torch.where(counted, by_point, 0.0).sum(dim=1) / n_positive,
            "offsets": torch.where(positive, misfit, 0.0).sum(dim=1) / n_positive,
            "classification": _named(outputs.name_logits, targets.labels)
            + _named(outputs.snippet_logits, targets.snippets),
            "actionness": _happening(outputs.actionness_logits, targets.snippets, n_classes),
        }

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Add the terms with their weights, (B,)."""
        return sum((getattr(self.config, name) * terms[name] for name in self.terms), torch.zeros(()))


def _named(logits: Tensor, labels: Tensor) -> Tensor:
    """Average the cross entropy of logits (B, N, K) over the places that have a class: (B,)."""
    has_class = (labels >= 0) & (labels < logits.shape[-1])
    loss = F.cross_entropy(
        logits.float().transpose(1, 2), torch.where(has_class, labels, IGNORED), ignore_index=IGNORED, reduction="none"
    )
    return loss.sum(dim=1) / has_class.sum(dim=1).clamp(min=1)


def _happening(logits: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """Average the binary cross entropy of actionness (B, T) over snippets of known classes and background: (B,)."""
    shows = ((labels >= 0) & (labels < n_classes)).float()
    counted = (labels != IGNORED).float()
    loss = F.binary_cross_entropy_with_logits(logits.float(), shows, reduction="none")
    return (loss * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1)
