"""The configuration of the public ActionFormer program, translated."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stale_edge.config import FeatureSpec, PointsConfig, from_dict
from stale_edge.errors import ConfigError
from stale_edge.model.actionformer.objective_settings import PointObjectiveConfig
from stale_edge.model.actionformer.settings import SIX_RANGES, ActionFormerConfig

_DEFAULTS: Mapping[str, Any] = {
    "backbone_arch": (2, 2, 5),
    "regression_range": SIX_RANGES,
    "n_head": 4,
    "embd_dim": 512,
    "fpn_dim": 512,
    "head_dim": 512,
    "head_num_layers": 3,
    "fpn_type": "identity",
    "use_abs_pe": False,
    "use_rel_pe": False,
}
"""Defaults of settings that a published configuration leaves out."""
_FIXED: Mapping[str, Any] = {
    "backbone_type": "convTransformer",
    "scale_factor": 2,
    "embd_kernel_size": 3,
    "embd_with_ln": True,
    "fpn_with_ln": True,
    "fpn_start_level": 0,
    "head_kernel_size": 3,
    "head_with_ln": True,
}
"""Settings that no published configuration changes; other values are refused."""
_DECODING: Mapping[str, str] = {
    "pre_nms_thresh": "pre_nms_threshold",
    "pre_nms_topk": "pre_nms_top_k",
    "duration_thresh": "duration_threshold",
    "multiclass_nms": "multiclass",
    "nms_sigma": "sigma",
    "iou_threshold": "tiou_threshold",
    "min_score": "min_score",
    "voting_thresh": "voting_threshold",
    "max_seg_num": "max_detections",
}
"""Public settings of `test_cfg`, and their names here."""
_STRIDE_OF_LENGTH = -1
"""The public `feat_stride` of features that have one length for every video duration."""
_NEEDED = ("input_dim", "num_classes", "max_seq_len", "n_mha_win_size")
_SECTIONS = ("train_cfg", "test_cfg", "opt", "loader", "dataset")
_OF_DATA = ("input_dim", "num_classes", "max_seq_len")
"""Keys that public files have under `dataset`, and the program's resolved configuration under `model`."""


@dataclass(frozen=True)
class PublicSettings:
    """A translated public configuration.

    network: sizes, from `dataset`, `model` and `train_cfg`.
    objective: from `train_cfg`.
    decoding: from `test_cfg`.
    features: from `dataset`: where the snippets lie in time, as far as it is given.
    """

    network: ActionFormerConfig
    objective: PointObjectiveConfig
    decoding: PointsConfig
    features: FeatureSpec


def load_public_settings(path: Path) -> PublicSettings:
    """Read a public configuration, a JSON file or one of the YAML files that the program publishes.

    Raises:
        ConfigError: the file cannot be read, holds something else, or as `read_public_settings`; the file is named.
    """
    import yaml  # here, as only imports of public files need it

    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: not a readable configuration (.yaml or .json): {reason}") from error
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path}: a configuration is a list of settings by name; got a {type(values).__name__}")
    try:
        return read_public_settings(values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def read_public_settings(values: Mapping[str, Any]) -> PublicSettings:
    """Translate a public configuration.

    Args:
        values: either a published file (`dataset`, `model`, `train_cfg`, `test_cfg` ...), or the model's part as the
            program resolves it, with sizes, `train_cfg` and `test_cfg` inside.

    Raises:
        ConfigError: a size is missing, a value is not supported here, or a key of the model is unknown.
    """
    whole = _section(values, "model") if "model" in values else values
    training = dict(_section(whole, "train_cfg")) | dict(_section(values, "train_cfg"))
    decoding = dict(_section(whole, "test_cfg")) | dict(_section(values, "test_cfg"))
    dataset = dict(_section(values, "dataset"))
    model = {key: dataset[key] for key in _OF_DATA if key in dataset}
    model |= {key: value for key, value in whole.items() if key not in _SECTIONS}
    network = _network(model, training, resized=bool(dataset.get("force_upsampling", False)))
    return PublicSettings(network, _objective(training), _decoding(decoding, network), _features(dataset, network))


def _network(model: Mapping[str, Any], training: Mapping[str, Any], *, resized: bool) -> ActionFormerConfig:
    missing = [key for key in _NEEDED if key not in model]
    if missing:
        raise ConfigError(
            f"the configuration lacks {', '.join(missing)}; give the file that the network was trained with, with its "
            "sections dataset and model"
        )
    known = {*_NEEDED, *_DEFAULTS, *_FIXED, "max_buffer_len_factor"}
    for key in model:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"allowed: {', '.join(sorted(known))}"
            raise ConfigError(f"the configuration has an unknown setting {key!r} of the model; {hint}")
    for key, only in _FIXED.items():
        if model.get(key, only) != only:
            raise ConfigError(f"the configuration has {key} = {model[key]!r}; this kit has only {key} = {only!r}")
    settings = {**_DEFAULTS, **model}
    arch = settings["backbone_arch"]
    ranges = settings["regression_range"]
    if not isinstance(arch, list | tuple) or len(arch) != 3 or not isinstance(ranges, list | tuple):
        raise ConfigError(
            f"backbone_arch must be three numbers and regression_range one pair a level; got {arch!r} and {ranges!r}"
        )
    if arch[2] + 1 != len(ranges):
        raise ConfigError(
            f"backbone_arch {list(arch)} makes {arch[2] + 1} levels, and regression_range has {len(ranges)} pairs; "
            "give one pair a level"
        )
    window = settings["n_mha_win_size"]
    return from_dict(
        ActionFormerConfig,
        {
            "feature_channels": settings["input_dim"],
            "n_classes": settings["num_classes"],
            "pyramid_dim": settings["embd_dim"],
            "neck_dim": settings["fpn_dim"],
            "head_dim": settings["head_dim"],
            "n_heads": settings["n_head"],
            "n_embedding_layers": arch[0],
            "n_stem_blocks": arch[1],
            "n_head_layers": settings["head_num_layers"],
            "windows": window if isinstance(window, list | tuple) else [window] * len(ranges),
            "ranges": ranges,
            "max_length": settings["max_seq_len"],
            "absolute_positions": settings["use_abs_pe"],
            "relative_positions": settings["use_rel_pe"],
            "resampling": "linear" if resized else "none",
            "neck": settings["fpn_type"],
            "dropout": training.get("dropout", 0.0),
            "drop_path": training.get("droppath", 0.1),
        },
        where="model.",
    )


def _objective(training: Mapping[str, Any]) -> PointObjectiveConfig:
    weight = training.get("loss_weight", 1.0)
    sampled = training.get("center_sample", "radius") == "radius"
    values = {
        "center_radius": training.get("center_sample_radius", 1.5) if sampled else None,
        "offset_weight": None if isinstance(weight, int | float) and weight <= 0 else weight,
        "label_smoothing": training.get("label_smoothing", 0.0),
    }
    if "init_loss_norm" in training:
        values["initial_normalizer"] = training["init_loss_norm"]
    return from_dict(PointObjectiveConfig, values, where="loss.")


def _decoding(values: Mapping[str, Any], network: ActionFormerConfig) -> PointsConfig:
    methods = {"soft": "gaussian", "hard": "hard", "none": "none"}
    method = values.get("nms_method", "soft")
    if method not in methods:
        raise ConfigError(f"test_cfg.nms_method must be one of {', '.join(methods)}; got {method!r}")
    known = {_DECODING[key]: value for key, value in values.items() if key in _DECODING}
    return from_dict(
        PointsConfig, {**known, "soft_nms": methods[method], "n_levels": network.n_levels}, where="decode."
    )


def _features(dataset: Mapping[str, Any], network: ActionFormerConfig) -> FeatureSpec:
    stride = dataset.get("feat_stride")
    values = {
        "channels": network.feature_channels,
        "fps": dataset.get("default_fps"),
        "stride": None if stride == _STRIDE_OF_LENGTH else stride,
        "num_frames": dataset.get("num_frames"),
    }
    return from_dict(FeatureSpec, values, where="dataset.")


def _section(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = values.get(name, {})
    if not isinstance(section, Mapping):
        raise ConfigError(f"{name} must be a section of settings; got {section!r}")
    return section
