"""The two branches: CBP, which is deployed, and VLP."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from stale_edge.bundle.manifest import TensorSpec
from stale_edge.model.actionformer.layers import ConvolutionLayer
from stale_edge.model.actionformer.network import Pyramid
from stale_edge.model.detector import DetectorNetwork
from stale_edge.model.effprompt.prompt_table import TABLE_STD
from stale_edge.model.effprompt.temporal import TemporalTransformer
from stale_edge.model.input_checks import check_inputs, is_recording
from stale_edge.model.layers import l2_normalize
from stale_edge.model.weak.settings import VlpConfig, WeakConfig


class BranchOutput(NamedTuple):
    """Raw outputs for B videos of T snippets and K classes.

    class_logits: (B, K + 1, T), background last.
    attention: (B, T) in [0, 1], probability that a snippet shows any action; 1 in the VLP branch, which has none.
    embedding: (B, T, D), what the contrast of training compares.
    """

    class_logits: Tensor
    attention: Tensor
    embedding: Tensor


class CbpBranch(DetectorNetwork[WeakConfig], Pyramid):
    """Classify snippets by a pyramid of time scales, joined at full rate, and a decoder of three convolutions."""

    def __init__(self, config: WeakConfig) -> None:
        if config.n_classes < 1:
            raise ValueError(f"model.n_classes must be an integer >= 1 to build a network; got {config.n_classes}")
        super().__init__(config.pyramid)
        self.config = config
        width = config.width
        self.decoder = nn.ModuleList(ConvolutionLayer(width, width) for _ in range(2))
        self.dropout = nn.Dropout(config.dropout)
        self.rows = nn.Linear(width, config.n_classes)
        self.background = nn.Linear(width, 1)
        self.attention = nn.Linear(width, 1)

    def forward(self, features: Tensor, class_embeddings: Tensor) -> BranchOutput:
        """Classify every snippet.

        Args:
            features: (B, T, C).
            class_embeddings: (K, D + 1), rows of the last layer; `class_bank()` gives the network's own.

        Raises:
            ValueError: a shape does not fit.
        """
        check_inputs(features, class_embeddings, channels=self.config.feature_channels, dim=self.config.embed_dim)
        levels, masks = self.levels(features, None)
        fused = hidden = levels[0]  # (B, T', D); the neck has added the coarser levels
        for layer in self.decoder:
            hidden = layer(hidden, masks[0])
        hidden = self.dropout(hidden)
        classes = hidden @ class_embeddings[:, :-1].T + class_embeddings[:, -1]  # (B, T', K)
        logits = torch.cat([classes, self.background(hidden)], dim=2)
        parts = [_first(part, features.shape[1]) for part in (logits, torch.sigmoid(self.attention(fused)), fused)]
        return BranchOutput(parts[0].transpose(1, 2), parts[1][:, :, 0], parts[2])

    def output_specs(self) -> tuple[TensorSpec, ...]:
        """Class logits and attention."""
        return (
            TensorSpec("class_logits", "float32", ("B", "K+1", "T")),
            TensorSpec("attention", "float32", ("B", "T")),
        )

    def class_bank(self) -> Tensor:
        """Give the class embeddings (K, D + 1) of the network's own classes; the background stays in the network."""
        return torch.cat([self.rows.weight, self.rows.bias[:, None]], dim=1)


class VlpBranch(DetectorNetwork[VlpConfig]):
    """Compare snippets, after a temporal transformer, with prompted class names and a learned background row."""

    def __init__(self, config: VlpConfig) -> None:
        super().__init__()
        self.config = config
        self.temporal = TemporalTransformer(
            config.feature_channels,
            n_positions=config.n_frames,
            n_layers=config.n_temporal_layers,
            n_heads=config.n_heads,
        )
        self.background = nn.Parameter(TABLE_STD * torch.randn(config.embed_dim))

    def forward(self, features: Tensor, class_embeddings: Tensor) -> BranchOutput:
        """Classify every snippet of features (B, T, C) by class embeddings (K, D), D = C.

        Raises:
            ValueError: a shape does not fit.
        """
        check_inputs(features, class_embeddings, channels=self.config.feature_channels, dim=self.config.embed_dim)
        snippets = l2_normalize(self.temporal(features))  # (B, T, D)
        # Normalised apart, since a fresh background is short.
        rows = torch.cat([l2_normalize(class_embeddings), l2_normalize(self.background / TABLE_STD)[None]])
        logits = (rows / self.config.temperature) @ snippets.transpose(1, 2)
        return BranchOutput(logits, torch.ones_like(snippets[:, :, 0]), snippets)

    def output_specs(self) -> tuple[TensorSpec, ...]:
        """Class logits."""
        return (TensorSpec("class_logits", "float32", ("B", "K+1", "T")),)


def _first(values: Tensor, length: int) -> Tensor:
    """Keep the first `length` snippets of (B, T', D)."""
    if is_recording():  # a slice needs length < T', which cannot be proved for every T
        return values.index_select(1, torch.arange(length, device=values.device))
    return values[:, :length]
