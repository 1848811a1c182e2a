"""Reading JSON strictly: every field is of its type or refused by name, no key stands twice, NaN is no number."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from stale_edge.errors import BundleError

Json = dict[str, Any]


def parse_json(text: str, where: str) -> Any:
    """Parse JSON without Python's extensions.

    Raises:
        BundleError: not JSON, a key twice in one object, or NaN or an infinity; `where` is named.
    """
    try:
        return json.loads(text, object_pairs_hook=_distinct_keys, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where} is not valid JSON: {error}") from error


def table_of(value: object, where: str) -> Mapping[str, Any]:
    """Take a JSON object or raise BundleError."""
    if not isinstance(value, Mapping):
        raise BundleError(f"{where} must be a JSON object; got {type(value).__name__}")
    return value


def list_of(value: object, where: str) -> Sequence[Any]:
    """Take a JSON list or raise BundleError."""
    if not isinstance(value, list | tuple):
        raise BundleError(f"{where} must be a JSON list; got {type(value).__name__}")
    return value


def string_of(value: object, where: str) -> str:
    """Take a non-empty string or raise BundleError."""
    if not isinstance(value, str) or not value:
        raise BundleError(f"{where} must be a non-empty string; got {value!r}")
    return value


def integer_of(value: object, where: str, *, least: int) -> int:
    """Take an integer of at least `least`, no boolean, or raise BundleError."""
    if type(value) is not int or value < least:
        raise BundleError(f"{where} must be an integer >= {least}; got {value!r}")
    return value


def exact_keys(table: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
    """Raise BundleError unless the object has these keys and no other."""
    missing = [key for key in keys if key not in table]
    unknown = sorted(set(table) - set(keys))
    if missing or unknown:
        said = [f"{words} {', '.join(names)}" for words, names in (("missing", missing), ("unknown", unknown)) if names]
        raise BundleError(f"{where}: {'; '.join(said)}; its keys are {', '.join(keys)}")


def _distinct_keys(pairs: list[tuple[str, Any]]) -> Json:
    table = dict(pairs)
    if len(table) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice in one object")
    return table


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")
