"""Strict reading of JSON: a field of a wrong type is refused by name; double keys and NaN are refused."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from stale_edge.errors import BundleError, cut, reason, shown

Json = dict[str, Any]
MOST_INTEGER = 2**63 - 1
"""Largest integer accepted; many programs cannot store a larger one."""
MOST_CHARACTERS = 500
"""Largest length of a name or a path, in characters."""


def parse_json(text: str, where: str) -> Any:
    """Parse JSON without Python's extensions.

    Raises:
        BundleError: not JSON, a key twice in one object, NaN, an infinity, a number beyond float64, or an integer
            beyond `MOST_INTEGER`; the message names `where`.
    """
    try:
        return json.loads(
            text, object_pairs_hook=_distinct_keys, parse_constant=_no_constant, parse_int=_integer, parse_float=_float
        )
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where} is not valid JSON: {reason(error)}") from error


def table_of(value: object, where: str) -> Mapping[str, Any]:
    """Return a JSON object or raise BundleError."""
    if not isinstance(value, Mapping):
        raise BundleError(f"{where} must be a JSON object; got {type(value).__name__}")
    return value


def list_of(value: object, where: str) -> Sequence[Any]:
    """Return a JSON list or raise BundleError."""
    if not isinstance(value, list | tuple):
        raise BundleError(f"{where} must be a JSON list; got {type(value).__name__}")
    return value


def string_of(value: object, where: str) -> str:
    """Return a non-empty string of at most `MOST_CHARACTERS` or raise BundleError."""
    if not isinstance(value, str) or not value:
        raise BundleError(f"{where} must be a non-empty string; got {shown(value)}")
    if len(value) > MOST_CHARACTERS:
        raise BundleError(f"{where} may have at most {MOST_CHARACTERS} characters; got {len(value)}: {shown(value)}")
    return value


def integer_of(value: object, where: str, *, least: int) -> int:
    """Return an integer >= `least`, not a boolean, or raise BundleError."""
    if type(value) is not int or value < least:
        raise BundleError(f"{where} must be an integer >= {least}; got {shown(value)}")
    return value


def exact_keys(table: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
    """Raise BundleError unless the object has these keys and no other."""
    missing = [key for key in keys if key not in table]
    unknown = sorted(set(table) - set(keys))
    if missing or unknown:
        said = [
            f"{words} {cut(', '.join(names))}" for words, names in (("missing", missing), ("unknown", unknown)) if names
        ]
        raise BundleError(f"{where}: {'; '.join(said)}; its keys are {', '.join(keys)}")


def _distinct_keys(pairs: list[tuple[str, Any]]) -> Json:
    table = dict(pairs)
    if len(table) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {shown(twice)} stands twice in one object")
    return table


def _integer(text: str) -> int:
    if len(text) > 20 or abs(int(text)) > MOST_INTEGER:
        raise ValueError(f"an integer may have a size of at most {MOST_INTEGER}; got {shown(text)}")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"a number must be finite in float64; got {shown(text)}")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")
