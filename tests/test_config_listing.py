"""The list of settings, and the TOML files that are made of it."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from stale_edge.cli.app import app
from stale_edge.config import Config, config_from_dict, load_config, to_dict, with_overrides
from stale_edge.config.listing import Setting, list_settings, to_toml
from stale_edge.errors import ConfigError
from stale_edge.model.architectures import ARCHITECTURES


def _default(architecture: str) -> Config:
    return load_config(None, [f'model.architecture="{architecture}"'], architectures=ARCHITECTURES)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_key_has_a_meaning_and_every_number_of_the_common_sections_a_range(architecture: str) -> None:
    for setting in list_settings(_default(architecture)):
        assert setting.meaning, setting.key
        if setting.key.startswith("train.") and setting.type in ("int", "float"):
            assert setting.range or "any integer" in setting.meaning, setting.key


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_lowest_value_of_a_stated_range_is_the_lowest_that_is_accepted(architecture: str) -> None:
    config = _default(architecture)
    for setting in list_settings(config):
        found = re.match(r">=? (\d+)|in ([\[(])(\d+)", setting.range)
        if setting.type not in ("int", "float") or found is None:
            continue
        below = float(found[1] or found[3]) - 1
        name = setting.key.rpartition(".")[2]  # a section inside `model` checks itself and does not know where it is
        with pytest.raises(ConfigError, match=rf"\b{name} must be"):
            with_overrides(config, [f"{setting.key}={below:.0f}"], architectures=ARCHITECTURES)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("comments", [True, False])
def test_a_written_file_gives_the_same_config(architecture: str, comments: bool) -> None:
    config = _default(architecture)
    values: dict[str, Any] = tomllib.loads(to_toml(config, comments=comments))
    assert config_from_dict(values, ARCHITECTURES) == config


def test_a_missing_number_is_written_as_none_and_read_again() -> None:
    config = with_overrides(_default("actionformer"), ["loss.offset_weight=none"], architectures=ARCHITECTURES)
    assert to_dict(config)["loss"]["offset_weight"] is None
    assert config_from_dict(tomllib.loads(to_toml(config)), ARCHITECTURES) == config


def test_the_command_lists_a_section_and_writes_a_file(tmp_path: Path) -> None:
    runner, written = CliRunner(), tmp_path / "my.toml"
    listed = runner.invoke(app, ["config", "train.epochs"])
    assert listed.exit_code == 0
    assert "train.epochs = 0   (int, >= 0)" in listed.output
    assert runner.invoke(app, ["config", "--arch", "linear", "--out", str(written)]).exit_code == 0
    assert load_config(written, architectures=ARCHITECTURES) == _default("linear")
    wrong = runner.invoke(app, ["config", "train.epoch"])
    assert isinstance(wrong.exception, ConfigError)
    assert "sections and keys at the top are classes, videos, model, train, loss, decode" in str(wrong.exception)


def test_a_setting_has_its_type_range_and_meaning() -> None:
    settings = {setting.key: setting for setting in list_settings(_default("paper"))}
    assert settings["model.dropout"] == Setting(
        "model.dropout", "float", 0.1, "in [0, 1)", "Dropout probability in training, in [0, 1)."
    )
    assert settings["decode.mask_thresholds"].type == "list of float"
    assert settings["model.masking"].range == "one of maskformer, cnn, none, ground-truth"
