"""The one table of architectures: how each detector is configured, built, trained and decoded.

A further architecture is a file with its settings and network, a file with its objective, and a row here. If no
decode policy reads its outputs yet, it also needs a policy in `stale_edge.decoding.policies`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from stale_edge.bundle.class_bank import Space
from stale_edge.config import (
    Config,
    DecodeConfig,
    DecodeSettings,
    LinearConfig,
    LinearLossConfig,
    LossConfig,
    ModelConfig,
    ModelSettings,
    NoLossConfig,
    PointsConfig,
    RunsConfig,
    StaleArchitecture,
    TextConfig,
    TrainConfig,
    TrainingFreeConfig,
)
from stale_edge.config.training_free import TRAINING_FREE_DECODE
from stale_edge.errors import ConfigError
from stale_edge.model.actionformer import NAMED_SETTINGS, ActionFormer, ActionFormerConfig
from stale_edge.model.actionformer.folding import fold_blocks
from stale_edge.model.actionformer.objective import PointObjective
from stale_edge.model.actionformer.objective_settings import PointObjectiveConfig
from stale_edge.model.actionformer.public_padding import PublicPadding
from stale_edge.model.actionformer.settings import SMALL_SETTINGS
from stale_edge.model.actionformer.training_settings import TRAINING, completed
from stale_edge.model.channel_statistics import FeatureStatistics
from stale_edge.model.detector import Objective, as_module
from stale_edge.model.light.network import LIGHT_FLOAT32, Light
from stale_edge.model.light.objective import LightObjective
from stale_edge.model.light.settings import DECODE as LIGHT_DECODE
from stale_edge.model.light.settings import TRAINING as LIGHT_TRAINING
from stale_edge.model.light.settings import LightConfig, LightLossConfig
from stale_edge.model.light.settings import completed as light_completed
from stale_edge.model.linear.objective import LinearObjective
from stale_edge.model.linear.probe import LinearProbe
from stale_edge.model.low_precision import KeptFloat32
from stale_edge.model.stale.folded_paper import PAPER_FLOAT32, fold_paper
from stale_edge.model.stale.folded_release import RELEASE_FLOAT32, FoldedRelease
from stale_edge.model.stale.objective import StaleObjective
from stale_edge.model.stale.paper import PaperStale
from stale_edge.model.stale.release import ReleaseStale
from stale_edge.model.training_free.network import TrainingFree, no_objective
from stale_edge.model.two_stage import settings as two_stage
from stale_edge.model.two_stage.network import TwoStage
from stale_edge.model.two_stage.objective import TwoStageObjective
from stale_edge.model.weak import settings as weak
from stale_edge.model.weak.branches import CbpBranch, VlpBranch
from stale_edge.model.weak.objective import WeakObjective


def _as_it_is(config: Config, n_classes: int) -> Config:
    del n_classes
    return config


def _unfolded(network: nn.Module) -> nn.Module:
    return network


LEAST_STEPS = 100
"""On 42 videos of `bench/few_videos.py` 90 steps of STALE gave more average mAP than 400 (88.7 and 81.3 %, one seed):
it overfits."""
LIGHT_STEPS = 400
"""On 140 videos of the demo's world of seed 10, which no result uses, `light` has average mAPs (seen / unseen classes)
of 53.3 / 56.9 after 108 steps, 65.0 / 66.7 after 324, and 62.0 / 76.8 after 648."""


@dataclass(frozen=True)
class Architecture:
    """One row.

    model: dataclass of the section `model` of a config; a `ModelSettings`.
    loss: dataclass of the section `loss`.
    decode: default of the section `decode`.
    build: makes the network, a `Detector`, with fresh weights from its settings.
    objective: makes the `Objective` from the sections `model` and `loss`.
    fold: gives an equivalent `Detector` for inference with less to compute; the network itself is not changed.
    fold_centred: the same for int8, where features are centred and scaled by given statistics; None: as `fold`.
    float32: parts that stay in float32 in low precision.
    space: kind of the rows of its class bank: `text`, embeddings of class names, so that classes can be added; or
        `rows`, weights of a closed vocabulary.
    train: default of the section `train`.
    least_steps: smallest number of optimizer steps of a run whose epochs follow the data.
    complete: fills in settings that follow from the rest of a config and the number of classes to train on.
    sizes: published networks by name, as settings of the section `model`; the first one is the default of the
        benchmark. Empty: the defaults of `model`.
    small: settings for a trial on features of `SMALL_CHANNELS` channels; None: there are none.
    public_form: gives the network as its public program runs it, the reference of time; the weights are shared.
    embeds_classes_per_video: whether the public program embeds the class names again for every video.
    """

    model: type[Any]
    loss: type[Any]
    decode: DecodeSettings
    build: Callable[[Any], nn.Module]
    objective: Callable[[Any, Any], Any]
    fold: Callable[[Any], nn.Module] = _unfolded
    fold_centred: Callable[[Any, FeatureStatistics], nn.Module] | None = None
    float32: KeptFloat32 = field(default_factory=KeptFloat32)
    space: Space = "text"
    train: TrainConfig = field(default_factory=TrainConfig)
    least_steps: int = LEAST_STEPS
    complete: Callable[[Config, int], Config] = _as_it_is
    sizes: Mapping[str, Any] = field(default_factory=dict)
    small: Any = None
    public_form: Callable[[Any], nn.Module] = _unfolded
    embeds_classes_per_video: bool = False


SMALL_CHANNELS = 128
"""C of the features of a trial, and D where classes are embedded as text."""


def _small_stale(architecture: StaleArchitecture) -> ModelConfig:
    """Keep the sizes but the widths; learned contexts do not help a small text encoder with random weights."""
    return ModelConfig(
        architecture, SMALL_CHANNELS, embed_dim=SMALL_CHANNELS, temporal_scale=100, text=TextConfig(n_contexts=0)
    )


LINEAR_DECODE = RunsConfig(class_threshold=0.05, smoothing=0.03, run_score="mean-contrast", min_score=1e-4)
"""Chosen on simulated worlds that no result uses, seeds 10 and 11: a run scores by its contrast."""

ARCHITECTURES: dict[str, Architecture] = {
    "paper": Architecture(
        ModelConfig,
        LossConfig,
        DecodeConfig(),
        PaperStale,
        StaleObjective,
        fold=fold_paper,
        float32=PAPER_FLOAT32,
        small=_small_stale("paper"),
        embeds_classes_per_video=True,
    ),
    "release": Architecture(
        ModelConfig,
        LossConfig,
        DecodeConfig(),
        ReleaseStale,
        StaleObjective,
        fold=FoldedRelease,
        fold_centred=FoldedRelease,
        float32=RELEASE_FLOAT32,
        small=_small_stale("release"),
        embeds_classes_per_video=True,
    ),
    "linear": Architecture(
        LinearConfig,
        LinearLossConfig,
        LINEAR_DECODE,
        LinearProbe,
        LinearObjective,
        train=TrainConfig(learning_rate=3e-3, batch_size=16),
        small=LinearConfig(feature_channels=SMALL_CHANNELS, embed_dim=SMALL_CHANNELS, text=TextConfig(n_contexts=0)),
    ),
    "training-free": Architecture(TrainingFreeConfig, NoLossConfig, TRAINING_FREE_DECODE, TrainingFree, no_objective),
    "light": Architecture(
        LightConfig,
        LightLossConfig,
        LIGHT_DECODE,
        Light,
        LightObjective,
        float32=LIGHT_FLOAT32,
        train=LIGHT_TRAINING,
        least_steps=LIGHT_STEPS,
        complete=light_completed,
        sizes={"full-size": LightConfig()},
        small=LightConfig(feature_channels=SMALL_CHANNELS, embed_dim=SMALL_CHANNELS, text=TextConfig(n_contexts=0)),
    ),
    "actionformer": Architecture(
        ActionFormerConfig,
        PointObjectiveConfig,
        PointsConfig(),
        ActionFormer,
        PointObjective,
        fold=fold_blocks,
        space="rows",
        train=TRAINING,
        complete=completed,
        sizes=NAMED_SETTINGS,
        small=replace(SMALL_SETTINGS, feature_channels=SMALL_CHANNELS),
        public_form=PublicPadding,
    ),
    "two-stage": Architecture(
        two_stage.TwoStageConfig,
        two_stage.TwoStageLossConfig,
        PointsConfig(),
        TwoStage,
        TwoStageObjective,
        fold=fold_blocks,
        train=two_stage.TRAINING,
        complete=two_stage.completed,
    ),
    "weak": Architecture(
        weak.WeakConfig,
        weak.WeakLossConfig,
        RunsConfig(),
        CbpBranch,
        WeakObjective,
        fold=fold_blocks,
        space="rows",
        train=weak.AlternatingConfig(),
        complete=weak.completed,
    ),
    "vlp": Architecture(weak.VlpConfig, weak.WeakLossConfig, RunsConfig(), VlpBranch, WeakObjective),
}


def architecture_of(name: str) -> Architecture:
    """Find a row.

    Raises:
        ConfigError: there is none; the message lists the known ones.
    """
    if name not in ARCHITECTURES:
        raise ConfigError(f"model.architecture must be one of {', '.join(ARCHITECTURES)}; got {name!r}")
    return ARCHITECTURES[name]


def build_model(config: ModelSettings) -> nn.Module:
    """Build the detector that settings describe, with fresh weights.

    Returns:
        A `Detector` in training mode.

    Raises:
        ConfigError: no such architecture.
        ValueError: sizes that the architecture cannot have.
    """
    return architecture_of(config.architecture).build(config)


def build_objective(config: ModelSettings, loss: Any) -> Objective:
    """Build the objective that a detector is trained with.

    Raises:
        ConfigError: no such architecture.
    """
    objective: Objective = architecture_of(config.architecture).objective(config, loss)
    as_module(objective)
    return objective
