"""JSON Schema, as far as the schema of `manifest.json` uses it.

A full validator brings five packages, one of them compiled; a device has none of them. These keywords are all that the
schema needs, and one that is not here is refused, so that none is silently ignored. Tests compare the verdicts with
those of the `jsonschema` package.
"""

import functools
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stale_edge.bundle.json_fields import Json

SCHEMA_PATH = Path(__file__).with_name("manifest.schema.json")

_NOTES = ("$schema", "$defs", "title", "description")
_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "null": lambda value: value is None,
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: (
        not isinstance(value, bool) and (isinstance(value, int) or (isinstance(value, float) and value.is_integer()))
    ),
}
_BOUNDS: Mapping[str, tuple[Callable[[Any, Any], bool], str]] = {
    "minimum": (lambda value, bound: value >= bound, ">="),
    "maximum": (lambda value, bound: value <= bound, "<="),
    "exclusiveMinimum": (lambda value, bound: value > bound, ">"),
    "exclusiveMaximum": (lambda value, bound: value < bound, "<"),
}


@functools.cache
def manifest_schema() -> Json:
    """Read the schema that is shipped with the package."""
    schema: Json = json.loads(SCHEMA_PATH.read_text(encoding="utf-8"))
    return schema


def schema_problems(value: Any, schema: Json, *, root: Json | None = None, at: str = "") -> list[str]:
    """Compare JSON values with a schema.

    Args:
        value: plain JSON values.
        schema: of the keywords that this module knows.
        root: where `$ref` looks for `$defs`; None: the schema itself.
        at: JSON pointer to the value, for messages.

    Returns:
        One line a disagreement, beginning with its JSON pointer; empty: the value is as the schema says.

    Raises:
        ValueError: the schema has a keyword that is not known here.
    """
    root = schema if root is None else root
    problems: list[str] = []
    for keyword, rule in schema.items():
        if keyword in _NOTES:
            continue
        if keyword not in _KEYWORDS:
            raise ValueError(f"the schema uses {keyword!r}, which is none of {', '.join(_KEYWORDS)}")
        problems += _KEYWORDS[keyword](value, rule, schema, root, at)
    return problems


def _ref(value: Any, rule: Any, _schema: Json, root: Json, at: str) -> list[str]:
    found: Any = root
    for part in str(rule).removeprefix("#/").split("/"):
        found = found[part]
    return schema_problems(value, found, root=root, at=at)


def _type(value: Any, rule: Any, _schema: Json, _root: Json, at: str) -> list[str]:
    return [] if _TYPES[rule](value) else [f"{at or '/'} must be of type {rule}; got {_short(value)}"]


def _const(value: Any, rule: Any, _schema: Json, _root: Json, at: str) -> list[str]:
    same = type(value) is type(rule) and value == rule
    return [] if same else [f"{at} must be {json.dumps(rule)}; got {_short(value)}"]


def _enum(value: Any, rule: Any, _schema: Json, _root: Json, at: str) -> list[str]:
    known = any(type(value) is type(item) and value == item for item in rule)
    return [] if known else [f"{at} must be one of {json.dumps(rule)}; got {_short(value)}"]


def _required(value: Any, rule: Any, _schema: Json, _root: Json, at: str) -> list[str]:
    return [f"{at or '/'} lacks {key}" for key in rule if isinstance(value, dict) and key not in value]


def _properties(value: Any, rule: Any, _schema: Json, root: Json, at: str) -> list[str]:
    if not isinstance(value, dict):
        return []
    known = ((key, inner) for key, inner in rule.items() if key in value)
    return [line for key, inner in known for line in schema_problems(value[key], inner, root=root, at=f"{at}/{key}")]


def _additional(value: Any, rule: Any, schema: Json, _root: Json, at: str) -> list[str]:
    if rule is not False:
        raise ValueError("additionalProperties can only be false here")
    unknown = [key for key in value if key not in schema["properties"]] if isinstance(value, dict) else []
    return [f"{at or '/'} has the unknown key {key}" for key in unknown]


def _items(value: Any, rule: Any, _schema: Json, root: Json, at: str) -> list[str]:
    items = enumerate(value) if isinstance(value, list) else ()
    return [line for i, item in items for line in schema_problems(item, rule, root=root, at=f"{at}/{i}")]


def _min_items(value: Any, rule: Any, _schema: Json, _root: Json, at: str) -> list[str]:
    few = isinstance(value, list) and len(value) < rule
    return [f"{at} must have at least {rule} items; got {len(value)}"] if few else []


def _min_length(value: Any, rule: Any, _schema: Json, _root: Json, at: str) -> list[str]:
    short = isinstance(value, str) and len(value) < rule
    return [f"{at} must have at least {rule} characters; got {_short(value)}"] if short else []


def _pattern(value: Any, rule: Any, _schema: Json, _root: Json, at: str) -> list[str]:
    other = isinstance(value, str) and re.search(rule, value) is None
    return [f"{at} must match {rule}; got {_short(value)}"] if other else []


def _any_of(value: Any, rule: Any, _schema: Json, root: Json, at: str) -> list[str]:
    attempts = [schema_problems(value, choice, root=root, at=at) for choice in rule]
    if not all(attempts):
        return []
    return [f"{at or '/'} is none of what is allowed: {' | '.join(attempt[0] for attempt in attempts)}"]


def _bound(keyword: str) -> Callable[[Any, Any, Json, Json, str], list[str]]:
    def check(value: Any, rule: Any, _schema: Json, _root: Json, at: str) -> list[str]:
        holds, sign = _BOUNDS[keyword]
        outside = _TYPES["number"](value) and not holds(value, rule)
        return [f"{at} must be {sign} {rule}; got {_short(value)}"] if outside else []

    return check


_KEYWORDS: Mapping[str, Callable[[Any, Any, Json, Json, str], list[str]]] = {
    "$ref": _ref,
    "type": _type,
    "const": _const,
    "enum": _enum,
    "required": _required,
    "properties": _properties,
    "additionalProperties": _additional,
    "items": _items,
    "minItems": _min_items,
    "minLength": _min_length,
    "pattern": _pattern,
    "anyOf": _any_of,
    **{keyword: _bound(keyword) for keyword in _BOUNDS},
}


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
