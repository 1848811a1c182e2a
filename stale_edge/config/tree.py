"""A training run's settings, and the files they are read from."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from stale_edge.config.decoding import DecodeConfig
from stale_edge.config.model import ModelConfig, ModelSettings
from stale_edge.config.plain import from_dict, to_dict
from stale_edge.config.policies import DecodeSettings
from stale_edge.config.training import LossConfig, TrainConfig
from stale_edge.errors import ConfigError, reason, shown
from stale_edge.paths import MOST_TEXT_BYTES, read_regular

CONFIG_FILE = "config.toml"
"""File with the settings in the folder of a run."""


@dataclass(frozen=True)
class Config:
    """All settings of a training run; every checkpoint and bundle stores them resolved."""

    model: ModelSettings = field(default_factory=ModelConfig)
    """Settings of the network; `architecture` names its row."""
    train: TrainConfig = field(default_factory=TrainConfig)
    loss: Any = field(default_factory=LossConfig)
    """Settings of the architecture's objective; `LossConfig` for STALE."""
    decode: DecodeSettings = field(default_factory=DecodeConfig)
    """Settings of decoding; `policy` names its row."""
    classes: str = ""
    """File with the class names to train on, one a line (a published split); empty: all classes of the data set."""
    videos: str = ""
    """File with the videos to train on, one a line, all of the training subset; empty: the whole subset."""


class Sections(Protocol):
    """The sections of a config that depend on the architecture."""

    @property
    def model(self) -> type[Any]:
        """Dataclass of the section `model`."""
        ...

    @property
    def loss(self) -> type[Any]:
        """Dataclass of the section `loss`."""
        ...

    @property
    def train(self) -> TrainConfig:
        """Default of the section `train`."""
        ...

    @property
    def decode(self) -> DecodeSettings:
        """Default of the section `decode`; its class is that of the section unless the section names a policy."""
        ...


def config_from_dict(values: Mapping[str, Any], architectures: Mapping[str, Sections]) -> Config:
    """Build a config from plain values, as `to_dict` gives them; keys left out keep their defaults.

    Args:
        values: by section.
        architectures: the table, `stale_edge.model.architectures.ARCHITECTURES`.

    Raises:
        ConfigError: as `from_dict`, or an architecture that the table does not have.
    """
    section = values.get("model", {})
    name = section.get("architecture", "paper") if isinstance(section, Mapping) else "paper"
    if not isinstance(name, str) or name not in architectures:
        raise ConfigError(f"model.architecture must be one of {', '.join(architectures)}; got {shown(name)}")
    row = architectures[name]
    decode = values.get("decode", {})
    sections = {"model": row.model, "train": type(row.train), "loss": row.loss, "decode": DecodeSettings}
    given = {"model": {"architecture": name}, "loss": {}, "decode": to_dict(row.decode), **values}
    if isinstance(decode, Mapping) and decode.get("policy", row.decode.policy) == row.decode.policy:
        given["decode"] = {**to_dict(row.decode), **decode}
    train = values.get("train", {})
    if isinstance(train, Mapping):
        given["train"] = {**to_dict(row.train), **train}
    return from_dict(Config, given, sections=sections)


def load_config(path: Path | None, overrides: Sequence[str] = (), *, architectures: Mapping[str, Sections]) -> Config:
    """Read a TOML file over the defaults, then `section.key=value` overrides over the file.

    Args:
        path: TOML file with the tables of `Config`, the folder of a run, which has one, or None for the defaults alone.
        overrides: strings such as `train.epochs=3` or `model.text.encoder=tuned`; values are TOML, bare words strings.
        architectures: the table, `stale_edge.model.architectures.ARCHITECTURES`.

    Raises:
        ConfigError: the file is unreadable, a key is unknown (the nearest one is named), or a value is not allowed.
    """
    values: dict[str, Any] = {}
    if path is not None:
        path = path / CONFIG_FILE if path.is_dir() else path
        try:
            values = tomllib.loads(read_regular(path, most=MOST_TEXT_BYTES).decode())
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"{path}: not a readable TOML file: {reason(error)}") from error
    return config_from_dict(_overridden(values, overrides), architectures)


def with_overrides(config: Config, overrides: Sequence[str], *, architectures: Mapping[str, Sections]) -> Config:
    """Change settings of a config by strings as `load_config` takes them.

    Raises:
        ConfigError: as `load_config`.
    """
    return config_from_dict(_overridden(to_dict(config), overrides), architectures)


def _overridden(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"--set {shown(override)}: write section.key=value, for example train.epochs=3")
        *tables, name = key.strip().split(".")
        target = values
        for table in tables:
            target = target.setdefault(table, {})
            if not isinstance(target, dict):
                raise ConfigError(f"--set {shown(override)}: {table} is a value, not a section")
        target[name] = _toml_value(text.strip())
    return values


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):  # no TOML, or a number of more digits than Python reads
        return text
