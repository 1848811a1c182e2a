"""From a config to a detector."""

from stale_edge.config import ModelConfig
from stale_edge.model.stale.paper import PaperStale
from stale_edge.model.stale.release import ReleaseStale


def build_model(config: ModelConfig) -> PaperStale | ReleaseStale:
    """Build the detector that a config describes, with fresh weights.

    Returns:
        A module with `forward(features (B, T, C), class_embeddings (K, D)) -> StaleOutput`, in training mode.

    Raises:
        ValueError: sizes that the architecture cannot have.
    """
    if config.architecture == "release":
        return ReleaseStale(config)
    return PaperStale(config)
