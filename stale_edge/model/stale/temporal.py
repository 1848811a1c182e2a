"""Temporal embedding, eq. 1 of the STALE paper, and the alternatives of its Table 6."""

import torch
from torch import Tensor, nn

from stale_edge.config import ModelConfig
from stale_edge.model.layers import EncoderLayer, UnfoldedConv1d
from stale_edge.model.normalization import FeatureNormalization


class TemporalEmbedding(nn.Module):
    """Give every snippet a global context: F_vis = T(E), features (B, T, C) to embeddings (B, T, D).

    Eq. 1: a multi-head self-attention encoder without positional encoding. Or, as in Table 6, `cnn`: dilations 1, 3
    and 5 with two layers each; `ms-tcn`: stages of dilated residual layers, Farha & Gall, arXiv:1903.01945. `none`: the
    projected features as they are, as in the one-stage baseline B-II of Table 1.

    Before the projection the features are normalised (`FeatureNormalization`); the paper does not say how.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.normalize = FeatureNormalization(config.features, config.feature_channels)
        self.feature_dropout = nn.Dropout(config.feature_dropout)
        self.project = nn.Linear(config.feature_channels, config.embed_dim)
        _start_as_identity(self.project)
        self.layers = nn.Sequential(*_temporal_layers(config))
        self.norm = nn.LayerNorm(config.embed_dim)

        self.register_load_state_dict_pre_hook(_rename_statistics)  # type: ignore[no-untyped-call]

    def forward(self, features: Tensor) -> Tensor:
        snippets = self.project(self.feature_dropout(self.normalize(features)))  # (B, T, D)
        return self.norm(self.layers(snippets))  # type: ignore[no-any-return]


def _rename_statistics(_: nn.Module, state: dict[str, Tensor], prefix: str, *_unused: object) -> None:
    """Read older checkpoints, whose statistics were in the embedding and not in their own module."""
    for name in ("center", "scale"):
        if prefix + name in state:
            state[f"{prefix}normalize.{name}"] = state.pop(prefix + name)


class DilatedResidualLayer(nn.Module):
    """Add the output of a dilated convolution of width 3 and a linear layer to the snippets."""

    def __init__(self, dim: int, *, dilation: int, dropout: float) -> None:
        super().__init__()
        self.convolution = UnfoldedConv1d(dim, dim, kernel_size=3, dilation=dilation)
        self.mix = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, snippets: Tensor) -> Tensor:
        return snippets + self.dropout(self.mix(torch.relu(self.convolution(snippets))))  # type: ignore[no-any-return]


def _temporal_layers(config: ModelConfig) -> list[nn.Module]:
    dim, dropout = config.embed_dim, config.dropout
    if config.temporal == "none":
        return []
    if config.temporal == "cnn":
        return [DilatedResidualLayer(dim, dilation=dilation, dropout=dropout) for dilation in (1, 1, 3, 3, 5, 5)]
    if config.temporal == "ms-tcn":
        stages: list[nn.Module] = []
        for _ in range(config.n_temporal_layers):
            stages.append(nn.Linear(dim, dim))
            stages.extend(DilatedResidualLayer(dim, dilation=2**level, dropout=dropout) for level in range(5))
        return stages
    return [
        EncoderLayer(dim, n_heads=config.n_heads, feedforward_dim=config.feedforward_dim, dropout=dropout)
        for _ in range(config.n_temporal_layers)
    ]


def _start_as_identity(project: nn.Linear) -> None:
    """Initialise the projection as an identity.

    Features already lie near their class' text embedding; learning that anew would lose the unseen classes.
    With C != D there is no identity to start from; then the directions are orthogonal.
    """
    if project.in_features == project.out_features:
        nn.init.eye_(project.weight)
    else:
        nn.init.orthogonal_(project.weight)
    nn.init.zeros_(project.bias)
