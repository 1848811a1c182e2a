"""Small ActionFormer, two-stage and weak detectors for the data that a small STALE is trained on.

All are made from the settings of that STALE: seed, device, lists of videos and of classes stay.
"""

import dataclasses
import math

from stale_edge.config import Config, ModelConfig, PointsConfig, RunsConfig, TrainConfig
from stale_edge.errors import ConfigError
from stale_edge.model.actionformer import NAMED_SETTINGS
from stale_edge.model.actionformer.objective_settings import PointObjectiveConfig
from stale_edge.model.effprompt.settings import PromptsConfig
from stale_edge.model.two_stage.settings import ProposalsConfig, TwoStageConfig, TwoStageLossConfig
from stale_edge.model.weak.settings import AlternatingConfig, VlpConfig, WeakConfig, WeakLossConfig

SMALL_WIDTH, SMALL_WINDOW = 64, 7
"""Width of a pyramid, as of the small STALE that it stands beside, and the attention window of each level."""
SMALL_ACTIONFORMER_BATCH = 4


def small_actionformer(config: Config, *, channels: int) -> Config:
    """Choose an ActionFormer on videos of one length.

    Optimizer, warm-up and weight average are as in its public settings for ActivityNet; batch and decay suit few steps.

    Args:
        config: of STALE; its epochs stay too.
        channels: C of the features.
    """
    published = NAMED_SETTINGS["activitynet-i3d"]
    n_snippets = config.train.n_snippets
    unit = SMALL_WINDOW // 2 * 2 * published.unit
    model = dataclasses.replace(
        published,
        feature_channels=channels,
        n_classes=0,
        pyramid_dim=SMALL_WIDTH,
        neck_dim=SMALL_WIDTH,
        head_dim=SMALL_WIDTH,
        windows=(SMALL_WINDOW,) * published.n_levels,
        max_length=-(-n_snippets // unit) * unit,
    )
    train = actionformer_training(config.train, batch_size=SMALL_ACTIONFORMER_BATCH, average_decay=0.98)
    return point_training(dataclasses.replace(config, model=model, train=train))


def actionformer_training(train: TrainConfig, *, batch_size: int, average_decay: float) -> TrainConfig:
    """Change the training of STALE to that of ActionFormer, for as many epochs."""
    return dataclasses.replace(
        train,
        optimizer="adamw",
        schedule="cosine",
        learning_rate=1e-3,
        weight_decay=0.05,
        warmup_epochs=train.epochs // 3,
        average_decay=average_decay,
        batch_size=batch_size,
    )


def point_training(config: Config) -> Config:
    """Choose losses and decoder of ActionFormer's public settings for ActivityNet."""
    n_levels = config.model.n_levels  # type: ignore[attr-defined]
    decode = PointsConfig(max_detections=100, n_levels=n_levels, sigma=0.75, duration_threshold=0.001)
    return dataclasses.replace(config, loss=PointObjectiveConfig(label_smoothing=0.1), decode=decode)


def small_two_stage(config: Config, *, channels: int, learn_prompts: bool) -> Config:
    """Choose a two-stage detector on features of the text encoder's space.

    Args:
        config: of STALE; all of its training and the source of its class embeddings stay.
        channels: C of the features, and D.
        learn_prompts: whether vectors around the class names are learned; not for a text encoder with random weights.
    """
    stale = _stale(config)
    small = ProposalsConfig(pyramid_dim=SMALL_WIDTH, neck_dim=SMALL_WIDTH, head_dim=SMALL_WIDTH)
    around = {} if learn_prompts else {"prefix": 0, "postfix": 0}
    return dataclasses.replace(
        config,
        model=TwoStageConfig(
            feature_channels=channels,
            embed_dim=channels,
            proposals=ProposalsConfig() if stale.embed_dim >= ModelConfig().embed_dim else small,
            n_temporal_layers=2 if channels % 8 == 0 else 0,
            text=PromptsConfig(source=stale.text.source, encoder=stale.text.encoder, **around),
        ),
        loss=TwoStageLossConfig(),
        decode=PointsConfig(max_detections=100, n_levels=6),
    )


def small_weak(*, channels: int, vlp_channels: int, schedule: AlternatingConfig) -> Config:
    """Choose two small branches.

    Args:
        channels: C of the features of the deployed branch.
        vlp_channels: C of those of the other branch.
        schedule: how they train each other.
    """
    vlp = VlpConfig(
        feature_channels=vlp_channels,
        embed_dim=vlp_channels,
        n_frames=100,
        n_temporal_layers=1,
        n_heads=math.gcd(vlp_channels, VlpConfig.n_heads),
    )
    model = WeakConfig(feature_channels=channels, width=SMALL_WIDTH, n_heads=4, n_stem_blocks=1, vlp=vlp)
    return Config(model=model, train=schedule, loss=WeakLossConfig(), decode=RunsConfig())


def _stale(config: Config) -> ModelConfig:
    if not isinstance(config.model, ModelConfig):
        raise ConfigError(
            f"settings of STALE are changed to another detector; model.architecture is {config.model.architecture!r}: "
            "give paper or release"
        )
    return config.model
