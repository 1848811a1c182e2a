"""Config dataclasses to plain values and back."""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from stale_edge.errors import ConfigError, cut, shown

ConfigT = TypeVar("ConfigT")
MOST_INTEGER = 2**63 - 1
"""Integers beyond it do not fit the 64-bit type of other programs."""


def to_dict(config: Any) -> dict[str, Any]:
    """Turn a config dataclass into plain JSON values; `from_dict` turns it back."""
    return typing.cast(dict[str, Any], _plain(dataclasses.asdict(config)))


def from_dict(
    cls: type[ConfigT], values: Mapping[str, Any], *, where: str = "", sections: Mapping[str, Any] | None = None
) -> ConfigT:
    """Build a config dataclass from plain values; keys left out keep their defaults.

    Where a field may be one of several dataclasses, each must have a field with a `Literal` type, and the one is built
    whose literal the values name.

    Args:
        cls: the dataclass.
        values: by field.
        where: prefix of the field names in messages.
        sections: dataclasses of fields whose annotation leaves them open.

    Raises:
        ConfigError: an unknown key (with the nearest known one), a wrong type, or a value out of range.
    """
    hints = {**typing.get_type_hints(cls), **(sections or {})}
    names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        full = f"{where}{key}"
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1)
            hint = f"did you mean {where}{near[0]}?" if near else f"allowed: {', '.join(names)}"
            raise ConfigError(f"unknown configuration key {cut(full)}; {hint}")
        arguments[key] = from_plain(hints[key], value, full)
    return cls(**arguments)


def from_plain(hint: Any, value: Any, key: str) -> Any:
    """Check one value against an annotation; integers pass as floats, lists as tuples, nothing else is converted.

    Args:
        hint: a dataclass, several of them to choose from, or the type of a field.
        value: plain JSON or TOML values.
        key: what the value is called in messages.

    Raises:
        ConfigError: as `from_dict`.
    """
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{key} is a section of settings; got {shown(value)}")
        try:
            return from_dict(typing.cast(type[Any], hint), value, where=f"{key}.")
        except ConfigError as error:
            raise ConfigError(_with_whole_key(str(error), key)) from error
    origin, choices = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value not in choices:
            raise ConfigError(f"{key} must be one of {', '.join(map(str, choices))}; got {shown(value)}")
        return value
    if origin in (types.UnionType, typing.Union):  # a `Literal | None` is the second
        if value is None and type(None) in choices:
            return None
        if all(map(dataclasses.is_dataclass, choices)):
            return from_plain(_named(choices, value, key), value, key)
        other = next(choice for choice in choices if choice is not type(None))
        if value == "none" and other in (int, float):  # TOML has no null
            return None
        return from_plain(other, value, key)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{key} must be a list; got {shown(value)}")
        return tuple(from_plain(choices[0], item, f"{key}[{i}]") for i, item in enumerate(value))
    if hint is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MOST_INTEGER:
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"{key} must be of type {hint.__name__}; got {shown(value)}")
    if isinstance(value, int) and abs(value) > MOST_INTEGER:
        raise ConfigError(f"{key} must be an integer of a size of at most {MOST_INTEGER}; got {shown(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{key} must be a finite number; got {shown(value)}")
    return value


def _with_whole_key(message: str, section: str) -> str:
    """Name the place of a setting: the settings of a network know their key as the section `model`, not inside it."""
    first, _, inner = section.partition(".")
    if not inner or f"{section}." in message:
        return message
    own = f"{first}.{inner.rpartition('.')[2]}."
    return message.replace(own if own in message else f"{first}.", f"{section}.")


def _named(choices: tuple[Any, ...], value: Any, key: str) -> Any:
    """Choose the dataclass whose literal the values name; of values that name none, the first."""
    literals: dict[str, dict[Any, Any]] = {}
    for choice in choices:
        tag, hint = next((n, h) for n, h in typing.get_type_hints(choice).items() if typing.get_origin(h) is Literal)
        literals.setdefault(tag, {}).update(dict.fromkeys(typing.get_args(hint), choice))
    ((tag, known),) = literals.items()
    if not isinstance(value, Mapping) or tag not in value:
        return choices[0]
    if not isinstance(value[tag], str) or value[tag] not in known:
        raise ConfigError(f"{key}.{tag} must be one of {', '.join(map(str, known))}; got {shown(value[tag])}")
    return known[value[tag]]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
