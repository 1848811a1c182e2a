"""Default training settings of ActionFormer, and settings that follow from the data."""

from dataclasses import replace

from stale_edge.config import Config, TrainConfig
from stale_edge.config.policies import with_levels
from stale_edge.errors import ConfigError
from stale_edge.model.actionformer.settings import ActionFormerConfig

TRAINING = TrainConfig(
    epochs=35,
    optimizer="adamw",
    learning_rate=1e-4,
    schedule="cosine",
    warmup_epochs=5,
    average_decay=0.999,
    weight_decay=0.05,
    batch_size=2,
)
"""The public settings for THUMOS14: 5 epochs of warm-up and 30 of cosine."""


def completed(config: Config, n_classes: int) -> Config:
    """Give the network as many rows as there are classes, and the decoder as many levels as the network has.

    Raises:
        ConfigError: the settings ask for another number of classes.
    """
    model = config.model
    if not isinstance(model, ActionFormerConfig):
        raise TypeError(f"settings of ActionFormer are needed; got {type(model).__name__}")
    if model.n_classes not in (0, n_classes):
        raise ConfigError(
            f"model.n_classes must be {n_classes}, the number of classes to train on, or 0; got {model.n_classes}"
        )
    decode = with_levels(config.decode, model.n_levels)
    return replace(config, model=replace(model, n_classes=n_classes), decode=decode)
