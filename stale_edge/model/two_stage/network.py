"""The network: ActionFormer for proposals, EffPrompt's temporal transformer for their classes."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from stale_edge.bundle.manifest import TensorSpec
from stale_edge.model.actionformer import ActionFormer
from stale_edge.model.detector import DetectorNetwork
from stale_edge.model.effprompt.temporal import TemporalTransformer
from stale_edge.model.input_checks import check_inputs
from stale_edge.model.layers import l2_normalize
from stale_edge.model.two_stage.pooling import pooled
from stale_edge.model.two_stage.settings import TwoStageConfig

MOST_PROBABLE = 1 - 1e-6
"""Largest probability of a class at a point, so that its logit is finite."""


class TwoStageOutput(NamedTuple):
    """Raw outputs for B videos, P points over all levels and K classes; the first three fields are deployed.

    class_logits: (B, P, K); a sigmoid gives P(action) times P(class | segment of the point).
    offsets: (B, P, 2), distances to start and end in units of the level's stride, >= 0.
    valid: (B, P), 1 where a point lies in the video.
    actionness_logits: (B, P, 1), of the first stage.
    segment_logits: (B, M, K), of given segments, in training.
    """

    class_logits: Tensor
    offsets: Tensor
    valid: Tensor
    actionness_logits: Tensor
    segment_logits: Tensor


class TwoStage(DetectorNetwork[TwoStageConfig]):
    """Propose class-agnostic segments, and compare the mean of the snippets in each with the class embeddings."""

    def __init__(self, config: TwoStageConfig) -> None:
        super().__init__()
        self.config = config
        self.proposals = ActionFormer(config.proposals)
        self.temporal = TemporalTransformer(
            config.feature_channels,
            n_positions=config.n_frames,
            n_layers=config.n_temporal_layers,
            n_heads=config.n_heads,
            interpolate=config.interpolate_positions,
        )
        # Resampled snippet i covers [i, i + 1); on a grid in frames its middle is at i.
        self.begin = 0.0 if config.resampling == "linear" else 0.5

    def forward(
        self,
        features: Tensor,
        class_embeddings: Tensor,
        valid: Tensor | None = None,
        segments: Tensor | None = None,
    ) -> TwoStageOutput:
        """Compute the outputs for B videos of T snippets and K classes.

        Args:
            features: (B, T, C).
            class_embeddings: (K, D), D = C.
            valid: (B, T), 1 for snippets, 0 for the filling of shorter videos; None: all are snippets.
            segments: (B, M, 2), start and end in snippets, to classify in training; None: none.

        Raises:
            ValueError: shapes do not fit, or the video is longer than a table of positions that may not stretch.
        """
        check_inputs(features, class_embeddings, channels=self.config.feature_channels, dim=self.config.embed_dim)
        points, proposed = self.proposals.propose(features, self.proposals.class_bank(), valid)
        snippets = self.temporal(features, valid)  # (B, T, D)
        text = l2_normalize(class_embeddings) / self.config.temperature
        joint = F.logsigmoid(points.class_logits) + self._classes(snippets, proposed, text).log_softmax(dim=2)
        class_logits = (joint - torch.log1p(-joint.exp().clamp(max=MOST_PROBABLE))) * points.valid[:, :, None]
        given = class_logits[:, :0] if segments is None else self._classes(snippets, segments, text)
        return TwoStageOutput(class_logits, points.offsets, points.valid, points.class_logits, given)

    def output_specs(self) -> tuple[TensorSpec, ...]:
        """Class logits, offsets, and which points are real."""
        return self.proposals.output_specs()

    def _classes(self, snippets: Tensor, segments: Tensor, text: Tensor) -> Tensor:
        """Give the class logits (B, M, K) of segments (B, M, 2)."""
        return l2_normalize(pooled(snippets, segments + self.begin)) @ text.T
