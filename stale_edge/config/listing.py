"""All settings as a list of keys, and as a TOML file with comments that `load_config` reads."""

import ast
import dataclasses
import inspect
import itertools
import json
import re
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Literal, NamedTuple

_COMMENT_WIDTH = 116
_RANGE = re.compile(r"(?:multiple of `?\w+`?|in [\[(][-\d.e]+, [-\d.e]+[\])]|[<>]=? `?(?:-?\d+(?:\.\d+)?|[a-z_]\w*)`?)")


class Setting(NamedTuple):
    """One key of a configuration.

    type: `int`, `float`, `bool`, `str`, or `list of` one of them.
    default: the value.
    range: allowed values, as short as possible; empty: all values of the type.
    """

    key: str
    type: str
    default: Any
    range: str
    meaning: str


def list_settings(config: Any) -> tuple[Setting, ...]:
    """List every key of a config in the order of its fields; its values are the defaults.

    Args:
        config: a config dataclass, for example a `Config`.
    """
    return tuple(_settings(config, ""))


def to_toml(config: Any, *, comments: bool = True) -> str:
    """Write a config as TOML; `load_config` reads the same config from it.

    Args:
        config: a config dataclass, for example a `Config`.
        comments: write type, range and meaning above each key.
    """
    tables: dict[str, list[str]] = {"": []}
    for setting in list_settings(config):
        table, _, name = setting.key.rpartition(".")
        lines = tables.setdefault(table, [])
        if comments:
            allowed = f", {setting.range}" if setting.range else ""
            wrapped = textwrap.wrap(f"{setting.type}{allowed}: {setting.meaning}", _COMMENT_WIDTH)
            lines += ["", *(f"# {line}" for line in wrapped)]
        lines.append(f"{name} = {_value(setting.default)}")
    parts = ["\n".join(lines if not table else [f"[{table}]", *lines]) for table, lines in tables.items() if lines]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _settings(config: Any, prefix: str) -> Iterator[Setting]:
    cls: Any = type(config)
    meanings, hints = _meanings(cls), typing.get_type_hints(cls)
    # Plain keys first: in TOML they must stand before the tables.
    for field in sorted(dataclasses.fields(cls), key=lambda f: dataclasses.is_dataclass(getattr(config, f.name))):
        value, key = getattr(config, field.name), f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            yield from _settings(value, f"{key}.")
        else:
            meaning, hint = meanings.get(field.name, ""), hints[field.name]
            yield Setting(key, _type(hint), value, _range(hint, meaning), meaning)


@cache
def _meanings(cls: Any) -> Mapping[str, str]:
    """Read the docstrings of the fields from the source, those of base classes included."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        body = typing.cast(
            ast.ClassDef, ast.parse(textwrap.dedent(inspect.getsource(typing.cast(type, base)))).body[0]
        ).body
        for line, after in itertools.pairwise(body):
            if (
                isinstance(line, ast.AnnAssign)
                and isinstance(line.target, ast.Name)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
            ):
                found[line.target.id] = " ".join(str(after.value.value).split())
    return found


def _type(hint: Any) -> str:
    origin, choices = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return type(choices[0]).__name__
    if origin in (types.UnionType, typing.Union):
        return _type(next(choice for choice in choices if choice is not type(None)))
    if origin is tuple:
        return f"list of {_type(choices[0])}"
    return str(hint.__name__)


def _range(hint: Any, meaning: str) -> str:
    for choice in (hint, *typing.get_args(hint)):
        if typing.get_origin(choice) is Literal:
            return "one of " + ", ".join(map(str, typing.get_args(choice)))
    return ", ".join(part.replace("`", "") for part in _RANGE.findall(meaning))


def _value(value: Any) -> str:
    if value is None:
        return '"none"'  # TOML has no null
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
