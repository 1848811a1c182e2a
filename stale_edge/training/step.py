"""Everything that has a gradient in training, as one module: detector, class embeddings, objective."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from stale_edge.model.detector import Objective
from stale_edge.training.averaging import WeightAverage
from stale_edge.training.batches import Share
from stale_edge.training.dropout import GlobalBatchDropout


class TrainingModel(nn.Module):
    """Turn a batch into its loss terms; what is replicated over processes, optimized and saved in a run's state.

    Args:
        detector: a `Detector`; where it has `logits`, the losses read those in place of the outputs of `forward`.
        classes: `forward() -> (K, D)`, the embeddings of the vocabulary; called once a step.
        objective: an `Objective`.
        average: of the detector's weights; kept here so that it is part of a run's state.
        mixed: type that matrix products run in; None: fp32. Losses are always computed in fp32.
    """

    def __init__(
        self,
        detector: nn.Module,
        classes: nn.Module,
        objective: Any,
        *,
        average: WeightAverage | None = None,
        mixed: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.average = average
        self.detector = detector
        self.classes = classes
        self.objective: Objective = objective
        self.mixed = mixed

    def forward(self, features: Tensor, targets: Any, share: Share | None = None) -> dict[str, Tensor]:
        """Compute the terms of every video of a batch, each (B,).

        Args:
            features: (B, T, C).
            targets: of the same videos, as the objective stacked them.
            share: this process' part of a global batch whose rest other processes compute; dropout is then drawn for
                all of it. None: this is the whole batch.
        """
        mixed = torch.autocast(features.device.type, self.mixed) if self.mixed is not None else nullcontext()
        dropout = GlobalBatchDropout(share.rows, batch_size=share.batch_size) if share is not None else nullcontext()
        with mixed, dropout:
            embeddings = self.classes()  # (K, D)
            run = getattr(self.detector, "logits", self.detector)
            outputs = run(features, embeddings, *self.objective.inputs(targets, len(embeddings)))
        return self.objective.losses(outputs, targets)
