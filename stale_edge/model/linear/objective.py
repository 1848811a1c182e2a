"""The objective of the linear probe: two cross entropies, snippet by snippet."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stale_edge.config import LinearConfig, LinearLossConfig, TimeGrid
from stale_edge.model.linear.probe import LinearOutput
from stale_edge.model.targets import IGNORED, BatchTargets, LabelledSpan, VideoTargets, assign_targets, stack_targets


class LinearObjective(nn.Module):
    """Classes on the snippets of actions, actionness on all snippets; both convex but for the length of a vector."""

    terms = ("classification", "actionness")

    def __init__(self, _model: LinearConfig, loss: LinearLossConfig) -> None:
        super().__init__()
        self.config = loss

    def targets(
        self, actions: Sequence[LabelledSpan], *, vocabulary: Sequence[str], grid: TimeGrid, n_snippets: int
    ) -> VideoTargets:
        """Label every snippet."""
        return assign_targets(actions, vocabulary=vocabulary, duration_s=grid.duration_s, n_snippets=n_snippets)

    def stack(self, targets: Sequence[VideoTargets]) -> BatchTargets:
        """Put the targets of videos of equal T together."""
        return stack_targets(targets)

    def inputs(self, _targets: BatchTargets, _n_classes: int) -> tuple[Tensor, ...]:
        """The detector takes nothing more in training."""
        return ()

    def losses(self, outputs: LinearOutput, targets: BatchTargets) -> dict[str, Tensor]:
        """Compute both terms for every video, each (B,) float32; 0 where no snippet counts."""
        n_classes = outputs.snippet_logits.shape[1]
        shows = targets.foreground(n_classes)  # (B, T), 1 on the snippets of actions
        labels = torch.where(shows > 0, targets.labels, IGNORED)
        by_class = F.cross_entropy(outputs.snippet_logits.float(), labels, ignore_index=IGNORED, reduction="none")
        counted = (targets.labels != IGNORED).float()
        by_snippet = F.binary_cross_entropy_with_logits(outputs.actionness_logits.float(), shows, reduction="none")
        return {
            "classification": by_class.sum(dim=1) / shows.sum(dim=1).clamp(min=1),
            "actionness": (by_snippet * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1),
        }

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Add the terms with their weights, (B,)."""
        return self.config.classification * terms["classification"] + self.config.actionness * terms["actionness"]
