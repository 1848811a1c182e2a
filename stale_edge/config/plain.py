"""Config dataclasses to plain values and back."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from stale_edge.errors import ConfigError

ConfigT = TypeVar("ConfigT")


def to_dict(config: Any) -> dict[str, Any]:
    """Turn a config dataclass into plain JSON values; `from_dict` turns it back."""
    return typing.cast(dict[str, Any], _plain(dataclasses.asdict(config)))


def from_dict(cls: type[ConfigT], values: Mapping[str, Any], *, where: str = "") -> ConfigT:
    """Build a config dataclass from plain values; keys left out keep their defaults.

    Raises:
        ConfigError: an unknown key (with the nearest known one), a wrong type, or a value out of range.
    """
    hints = typing.get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        full = f"{where}{key}"
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1)
            hint = f"did you mean {where}{near[0]}?" if near else f"allowed: {', '.join(names)}"
            raise ConfigError(f"unknown configuration key {full}; {hint}")
        arguments[key] = _coerce(hints[key], value, full)
    return cls(**arguments)


def _coerce(hint: Any, value: Any, key: str) -> Any:
    """Check one value against its annotation; integers pass as floats, lists as tuples, nothing else is bent."""
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{key} is a section of settings; got {value!r}")
        return from_dict(typing.cast(type[Any], hint), value, where=f"{key}.")
    origin, choices = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value not in choices:
            raise ConfigError(f"{key} must be one of {', '.join(map(str, choices))}; got {value!r}")
        return value
    if origin in (types.UnionType, typing.Union):  # a `Literal | None` is the second
        if value is None and type(None) in choices:
            return None
        return _coerce(next(choice for choice in choices if choice is not type(None)), value, key)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{key} must be a list; got {value!r}")
        return tuple(_coerce(choices[0], item, f"{key}[{i}]") for i, item in enumerate(value))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"{key} must be of type {hint.__name__}; got {value!r}")
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
