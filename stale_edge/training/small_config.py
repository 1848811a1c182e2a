"""The small network and its training that demo, studies and benchmark start from: minutes on two cores."""

from stale_edge.config import ModelConfig, TextConfig, TrainConfig


def small_model(channels: int, embed_dim: int, text: TextConfig) -> ModelConfig:
    """Choose a small network of the paper's architecture.

    Args:
        channels: C of the features.
        embed_dim: D of the class embeddings.
        text: how classes are embedded.
    """
    return ModelConfig(
        feature_channels=channels,
        embed_dim=embed_dim,
        n_temporal_layers=1,
        feedforward_dim=2 * embed_dim,
        localizer_dim=64,
        # A few hundred videos are little: without strong dropout the model overfits.
        dropout=0.5,
        text=text,
    )


SMALL_TRAINING = TrainConfig(
    learning_rate=1e-3,
    weight_decay=1e-3,
    batch_size=16,
    validate_every=0,  # no epoch is chosen on the reported videos
)

FIXED_PROMPTS = TextConfig(n_contexts=0)
"""Setting for a random text tower, where learned contexts do not help: they change every embedding."""
