"""Every setting of the kit, as frozen dataclasses: each default is written here once, with its unit and range.

Only the command line reads files into configs (`load_config`); functions take plain values or one dataclass.
"""

from stale_edge.config.bench import BenchConfig, BenchDevice, BenchRuntime, BenchVariant
from stale_edge.config.decoding import DecodeConfig, Policy, Regions, SoftNMSMethod
from stale_edge.config.feature_spec import (
    ExtractConfig,
    FeaturesConfig,
    FeatureSpec,
    Normalize,
    Preprocessing,
    Resampling,
)
from stale_edge.config.linear import LinearConfig, LinearLossConfig
from stale_edge.config.model import LengthRule, ModelConfig, ModelSettings, StaleArchitecture, TextConfig
from stale_edge.config.plain import from_dict, from_plain, to_dict
from stale_edge.config.points import PointsConfig, PointsSuppression
from stale_edge.config.policies import DecodeSettings
from stale_edge.config.runs import RunsConfig, RunScore, ThresholdScale
from stale_edge.config.runtimes import Precision
from stale_edge.config.simulate import SimulateConfig
from stale_edge.config.time_grid import FrameGrid, RelativeGrid, TimeGrid
from stale_edge.config.training import LossConfig, TrainConfig, VideoClassifierConfig
from stale_edge.config.training_free import NoLossConfig, TrainingFreeConfig
from stale_edge.config.tree import Config, Sections, config_from_dict, load_config, with_overrides

__all__ = [
    "BenchConfig",
    "BenchDevice",
    "BenchRuntime",
    "BenchVariant",
    "Config",
    "DecodeConfig",
    "DecodeSettings",
    "ExtractConfig",
    "FeatureSpec",
    "FeaturesConfig",
    "FrameGrid",
    "LengthRule",
    "LinearConfig",
    "LinearLossConfig",
    "LossConfig",
    "ModelConfig",
    "ModelSettings",
    "NoLossConfig",
    "Normalize",
    "PointsConfig",
    "PointsSuppression",
    "Policy",
    "Precision",
    "Preprocessing",
    "Regions",
    "RelativeGrid",
    "Resampling",
    "RunScore",
    "RunsConfig",
    "Sections",
    "SimulateConfig",
    "SoftNMSMethod",
    "StaleArchitecture",
    "TextConfig",
    "ThresholdScale",
    "TimeGrid",
    "TrainConfig",
    "TrainingFreeConfig",
    "VideoClassifierConfig",
    "config_from_dict",
    "from_dict",
    "from_plain",
    "load_config",
    "to_dict",
    "with_overrides",
]
