"""STALE's objective: section 3.3 of its paper, targets and the sum of eq. 9 to 12."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from stale_edge.config import LossConfig, ModelConfig, TimeGrid
from stale_edge.model.stale.losses import (
    ConsistencyProjection,
    classification_loss,
    completeness_loss,
    consistency_loss,
    mask_loss,
)
from stale_edge.model.stale.output import StaleLogits
from stale_edge.model.targets import BatchTargets, LabelledSpan, VideoTargets, assign_targets, stack_targets


class StaleObjective(nn.Module):
    """Targets and losses of STALE, eq. 9 to 12; the projections of eq. 12 are trained with it.

    Args:
        model: sizes, and whether the detector is given the true foreground (the "GT-Mask" row of Table 4).
        loss: weights and thresholds.
    """

    terms = ("classification", "mask", "completeness", "consistency")

    def __init__(self, model: ModelConfig, loss: LossConfig) -> None:
        super().__init__()
        self.config = loss
        self.given_foreground = model.masking == "ground-truth"
        self.projection = ConsistencyProjection(model.embed_dim)

    def targets(
        self, actions: Sequence[LabelledSpan], *, vocabulary: Sequence[str], grid: TimeGrid, n_snippets: int
    ) -> VideoTargets:
        """Label every snippet, and give it the mask of its action."""
        return assign_targets(actions, vocabulary=vocabulary, duration_s=grid.duration_s, n_snippets=n_snippets)

    def stack(self, targets: Sequence[VideoTargets]) -> BatchTargets:
        """Put the targets of videos of equal T together."""
        return stack_targets(targets)

    def inputs(self, targets: BatchTargets, n_classes: int) -> tuple[Tensor, ...]:
        """Give the true foreground (B, T) where the detector is built to take it."""
        return (targets.foreground(n_classes),) if self.given_foreground else ()

    def losses(self, outputs: StaleLogits, targets: BatchTargets) -> dict[str, Tensor]:
        """Compute eq. 9 to 12 for every video, each (B,) float32, unweighted.

        Args:
            outputs: of the model's `logits`.
            targets: of the same videos.
        """
        config = self.config
        class_features, mask_features = self.projection(outputs.embedding.float())  # E_p, E_m, both (B, T, D)
        return {
            "classification": classification_loss(outputs.class_logits, targets.labels),
            "mask": mask_loss(outputs.mask_logits, targets.masks, targets.labels, dice_weight=config.dice),
            "completeness": completeness_loss(
                outputs.foreground_logits, targets, n_classes=outputs.class_logits.shape[1] - 1
            ),
            "consistency": consistency_loss(
                outputs.class_logits,
                outputs.mask_logits,
                class_features,
                mask_features,
                class_threshold=config.class_threshold,
                mask_threshold=config.mask_threshold,
                top_snippets=config.top_snippets,
            ),
        }

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Add the terms, (B,); with every weight 1 this is the paper's overall objective."""
        weighted = [getattr(self.config, name) * terms[name] for name in self.terms]
        return torch.stack(weighted).sum(dim=0)
