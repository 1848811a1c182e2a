"""From a config to a detector."""

from torch import nn

from stale_edge.config import ModelConfig
from stale_edge.model.paper import PaperStale


def build_model(config: ModelConfig) -> nn.Module:
    """Build the detector that a config describes, with fresh weights.

    Returns:
        A module with `forward(features (B, T, C), class_embeddings (K, D)) -> StaleOutput`, in training mode.
    """
    return PaperStale(config)
