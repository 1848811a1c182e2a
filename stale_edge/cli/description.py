"""What `inspect` prints: a description of a bundle, encoder or checkpoint in lines of at most 80 columns."""

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

WIDTH = 80
_HASH = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{28,}\b")
_MOST_NAMES = 8
_NOT_COLUMNS = ("sha256", "note", "weights")
"""Keys of files that would make a table too wide; notes stand below the table, the rest is in --json."""


def describe_in_lines(description: Mapping[str, Any]) -> Iterator[str]:
    """Write a description: scalars first in each part, lists of files as tables, notes below them."""
    for title, value in description.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            yield from ("", title, *_files(value))
        elif isinstance(value, dict):
            yield from ("", title, *_pairs(value))
        else:
            yield from _wrapped(f"{title}: ", value)


def _pairs(values: Mapping[str, Any]) -> Iterator[str]:
    """Write one key a line; what was compared becomes a table."""
    plain = {key: value for key, value in values.items() if not _is_comparison(value)}
    width = max((len(str(key)) for key in plain), default=0)
    for key, value in plain.items():
        yield from _wrapped(f"  {key!s:{width}}  ", value)
    for key, value in values.items():
        if _is_comparison(value):
            yield from ("", f"  {key}, compared with the model", *_comparisons(value))


def _is_comparison(value: Any) -> bool:
    return isinstance(value, dict) and any(isinstance(one, dict) and "passed" in one for one in value.values())


def _comparisons(value: Mapping[str, Any]) -> Iterator[str]:
    rows = [
        [
            name,
            _text(one.get("flipped_snippets")),
            _percent(one.get("matched_detections")),
            _text(one.get("average_mAP")),
            _text(one.get("passed")),
        ]
        for name, one in value.items()
    ]
    return _table(["file", "flipped", "matched", "mAP", "passed"], rows)


def _files(entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    keys = [
        key
        for key in entries[0]
        if key not in _NOT_COLUMNS
        and not any(isinstance(entry.get(key), dict | list) for entry in entries)
        and any(entry.get(key) is not None for entry in entries)
    ]
    rows = [[_text(entry.get(key)) for key in keys] for entry in entries]
    while len(keys) > 1 and sum(_widths(keys, rows)) + 2 * len(keys) > WIDTH:  # the first columns say the most
        keys, rows = keys[:-1], [row[:-1] for row in rows]
    yield from _table(keys, rows)
    for entry in entries:
        for key in ("weights", "note"):
            if isinstance(entry.get(key), str) and entry[key]:
                yield from _wrapped("  ", f"{entry.get(keys[0])}: {entry[key]}")


def _widths(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(columns, *rows, strict=True)]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = _widths(columns, rows)
    for row in (columns, *rows):
        first, *rest = (
            f"{cell:<{width}}" if index == 0 else f"{cell:>{width}}"
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  " + "  ".join([first, *rest]).rstrip()


def _wrapped(head: str, value: Any) -> list[str]:
    """Write a value after its name; further lines begin below the value."""
    indent = " " * min(len(head), 24)
    lines = textwrap.wrap(
        head + _text(value), WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return lines or [head.rstrip()]


def _percent(value: Any) -> str:
    return "-" if value is None else f"{100 * value:.1f}%"


def _text(value: Any) -> str:
    if value is None or value in ("", [], {}):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(
            f"{key} ({_text(item)})" if isinstance(item, dict) and item else f"{key} {_text(item)}"
            for key, item in value.items()
        )
    if isinstance(value, list | tuple):
        more = f", … ({len(value)})" if len(value) > _MOST_NAMES else ""
        return ", ".join(_text(item) for item in value[:_MOST_NAMES]) + more
    return _HASH.sub(r"\1…", str(value))
