"""Everything that has a gradient in training, as one module: detector, class embeddings, and the layers of eq. 12."""

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from stale_edge.config import LossConfig
from stale_edge.model.stale.losses import ConsistencyProjection, LossTerms, stale_loss
from stale_edge.model.stale.output import StaleOutput
from stale_edge.model.targets import BatchTargets
from stale_edge.training.batches import Share
from stale_edge.training.dropout import GlobalBatchDropout


class TrainingModel(nn.Module):
    """Turn a batch into its loss terms; what is replicated over processes, optimized and saved in a run's state.

    Args:
        detector: `forward(features (B, T, C), class_embeddings (K, D)) -> StaleOutput`.
        classes: `forward() -> (K, D)`, the embeddings of the vocabulary; called once a step.
        embed_dim: D.
        config: weights and thresholds of the losses.
        given_foreground: pass the true foreground to the detector (the "GT-Mask" row of the paper's Table 4).
        mixed: type that matrix products run in; None: fp32. Losses are always computed in fp32.
    """

    def __init__(
        self,
        detector: nn.Module,
        classes: nn.Module,
        *,
        embed_dim: int,
        config: LossConfig,
        given_foreground: bool = False,
        mixed: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.detector = detector
        self.classes = classes
        self.projection = ConsistencyProjection(embed_dim)
        self.config = config
        self.given_foreground = given_foreground
        self.mixed = mixed

    def forward(self, features: Tensor, targets: BatchTargets, share: Share | None = None) -> LossTerms:
        """Compute the terms of every video of a batch, each (B,).

        Args:
            features: (B, T, C).
            targets: of the same videos.
            share: this process' part of a global batch whose rest other processes compute; dropout is then drawn for
                all of it. None: this is the whole batch.
        """
        mixed = torch.autocast(features.device.type, self.mixed) if self.mixed is not None else nullcontext()
        dropout = GlobalBatchDropout(share.rows, batch_size=share.batch_size) if share is not None else nullcontext()
        with mixed, dropout:
            embeddings = self.classes()  # (K, D)
            foreground = (targets.foreground(len(embeddings)),) if self.given_foreground else ()
            output: StaleOutput = self.detector(features, embeddings, *foreground)
        return stale_loss(output, targets, self.projection(output.embedding.float()), config=self.config)
