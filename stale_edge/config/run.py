"""A training run's settings, and the files they are read from."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stale_edge.config.decoding import DecodeConfig
from stale_edge.config.model import ModelConfig
from stale_edge.config.plain import from_dict, to_dict
from stale_edge.config.training import LossConfig, TrainConfig
from stale_edge.errors import ConfigError


@dataclass(frozen=True)
class Config:
    """Everything a training run is made from; stored resolved in every checkpoint and bundle."""

    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    classes: str = ""
    """File with the class names to train on, one a line (a published split); empty: all classes of the data set."""
    videos: str = ""
    """File with the videos to train on, one a line, all of the training subset; empty: the whole subset."""


def load_config(path: Path | None, overrides: Sequence[str] = ()) -> Config:
    """Read a TOML file over the defaults, then `section.key=value` overrides over the file.

    Args:
        path: TOML file with the tables of `Config`, or None for the defaults alone.
        overrides: strings such as `train.epochs=3` or `model.text.encoder=tuned`; values are TOML, bare words strings.

    Raises:
        ConfigError: the file is unreadable, a key is unknown (the nearest one is named), or a value is not allowed.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{path}: not a readable TOML file: {error}") from error
    return from_dict(Config, _overridden(values, overrides))


def with_overrides(config: Config, overrides: Sequence[str]) -> Config:
    """Change settings of a config by strings as `load_config` takes them.

    Raises:
        ConfigError: as `load_config`.
    """
    return from_dict(Config, _overridden(to_dict(config), overrides))


def _overridden(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"--set {override!r}: write section.key=value, for example train.epochs=3")
        *tables, name = key.strip().split(".")
        target = values
        for table in tables:
            target = target.setdefault(table, {})
            if not isinstance(target, dict):
                raise ConfigError(f"--set {override!r}: {table} is a value, not a section")
        target[name] = _toml_value(text.strip())
    return values


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
