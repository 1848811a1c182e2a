"""Compares two runs of the benchmark and finds the rows that got slower."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stale_edge.errors import StaleEdgeError, reason, shown
from stale_edge.paths import MOST_TEXT_BYTES, read_regular

SCHEMA = "stale-edge-bench/1"
TOLERANCE = 0.05
"""Smallest relative change of a median that counts as a change."""
Trend = Literal["slower", "faster", "same"]
Key = tuple[str, str, str, str, int, int]
Row = Mapping[str, Any]
_KEY_FIELDS = ("variant", "device", "runtime", "precision", "threads", "length")

RULE = (
    f"slower: more than {TOLERANCE:.0%} slower, and the 95 % intervals of the medians do not meet, both in seconds and "
    "in relation to the reference; where a run has no reference, in seconds alone; on another machine, in relation to "
    "the reference alone"
)


@dataclass(frozen=True)
class Change:
    """A row that is in both runs."""

    name: str
    old_median_s: float
    new_median_s: float
    old_speedup: float | None
    new_speedup: float | None
    trend: Trend

    @property
    def ratio(self) -> float:
        """New median divided by the old one; above 1 means slower."""
        return self.new_median_s / self.old_median_s


@dataclass(frozen=True)
class Comparison:
    """Comparison of two runs.

    same_machine: whether both ran on the same kind of processor with the same number of allowed CPUs.
    changes: changes of the rows in both runs, in the order of the new run.
    only_old, only_new: names of rows that only one run has.
    """

    same_machine: bool
    changes: tuple[Change, ...]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]

    @property
    def slower(self) -> tuple[Change, ...]:
        """Rows that got slower."""
        return tuple(change for change in self.changes if change.trend == "slower")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, including the rule."""
        return {
            "rule": RULE,
            "same_machine": self.same_machine,
            "changes": [
                {
                    "row": change.name,
                    "old_median": change.old_median_s,
                    "new_median": change.new_median_s,
                    "ratio": change.ratio,
                    "old_speedup": change.old_speedup,
                    "new_speedup": change.new_speedup,
                    "verdict": change.trend,
                }
                for change in self.changes
            ],
            "only_old": list(self.only_old),
            "only_new": list(self.only_new),
        }

    def to_text(self) -> str:
        """List in a few lines the rows that got slower, those that got faster, and those that cannot be compared."""
        lines = [f"{change.name}: {_describe(change)}" for change in self.changes if change.trend != "same"]
        n_same = sum(change.trend == "same" for change in self.changes)
        lines.append(f"{len(self.slower)} of {len(self.changes)} rows got slower, {n_same} stayed the same")
        if not self.same_machine:
            lines.append("another machine: compared in relation to the reference alone")
        lines += [f"only in the old run: {name}" for name in self.only_old]
        lines += [f"only in the new run: {name}" for name in self.only_new]
        return "\n".join(lines)


def read_results(path: Path) -> dict[str, Any]:
    """Read the JSON of an earlier run.

    Raises:
        StaleEdgeError: it cannot be read, or is not a run of this schema.
    """
    try:
        results: Any = json.loads(read_regular(path, most=MOST_TEXT_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise StaleEdgeError(f"{path}: not a readable benchmark result: {reason(error)}") from error
    schema = results.get("schema") if isinstance(results, dict) else None
    if schema != SCHEMA:
        raise StaleEdgeError(f'{path}: not a benchmark result: "schema" is {shown(schema)}, not {SCHEMA!r}')
    return dict(results)


def compare_results(old: Mapping[str, Any], new: Mapping[str, Any]) -> Comparison:
    """Compare two runs row by row, by `RULE`.

    With time alone, everything is slower on a busier day. With the ratio to the reference alone, everything is slower
    when the reference gets faster. So a row counts as slower or faster only if both agree.

    Args:
        old: result of `run_benchmark` at an earlier time, or on another machine.
        new: the new result.

    Raises:
        StaleEdgeError: the runs have no row in common.
    """
    new_rows, old_rows = _by_key(new), _by_key(old)
    common = [key for key in new_rows if key in old_rows]
    if not common:
        raise StaleEdgeError(
            "the two benchmark results have no row in common: the same variants, runtimes, precisions, threads and "
            "lengths must be measured to compare them"
        )
    same_machine = all(_machine(new).get(field) == _machine(old).get(field) for field in ("cpu", "allowed_cpus", "gpu"))
    return Comparison(
        same_machine=same_machine,
        changes=tuple(_compare(new_rows[key], old_rows[key], same_machine=same_machine) for key in common),
        only_old=tuple(_name(key) for key in old_rows if key not in new_rows),
        only_new=tuple(_name(key) for key in new_rows if key not in old_rows),
    )


def _compare(new: Row, old: Row, *, same_machine: bool) -> Change:
    """Compare a row in seconds, and in relation to the reference; a change counts only if both agree."""
    trends = set()
    if same_machine:
        trends.add(_trend(new, old, 1.0, 1.0))
    references = _reference_s(new), _reference_s(old)
    if None not in references:
        trends.add(_trend(new, old, *references))
    trend: Trend = trends.pop() if len(trends) == 1 else "same"
    return Change(_name(_key(new)), _median(old), _median(new), old["speedup"], new["speedup"], trend)


def _trend(new: Row, old: Row, new_unit: float, old_unit: float) -> Trend:
    """Compare two medians, each in its own unit."""
    ratio = (_median(new) / new_unit) / (_median(old) / old_unit)
    new_low, new_high = (end / new_unit for end in new["interval"])
    old_low, old_high = (end / old_unit for end in old["interval"])
    if ratio > 1 + TOLERANCE and new_low > old_high:
        return "slower"
    if ratio < 1 / (1 + TOLERANCE) and new_high < old_low:
        return "faster"
    return "same"


def _median(row: Row) -> float:
    return float(row["seconds"]["median"])


def _reference_s(row: Row) -> Any:
    """Give the median of a row's reference, in seconds; None for a reference itself, and where there is none."""
    return None if row["speedup"] is None or row["variant"] == "reference" else row["speedup"] * _median(row)


def _by_key(results: Mapping[str, Any]) -> dict[Key, Row]:
    """Index the rows, each with the `interval` of its median; a protocol without intervals gives the extremes."""
    rows = results["rows"]
    intervals = results.get("protocol", {}).get("median_interval_seconds") or [None] * len(rows)
    return {
        _key(row): {**row, "interval": interval or (row["seconds"]["min"], row["seconds"]["max"])}
        for row, interval in zip(rows, intervals, strict=True)
    }


def _key(row: Mapping[str, Any]) -> Key:
    variant, device, runtime, precision, threads, length = (row[field] for field in _KEY_FIELDS)
    return variant, device, runtime, precision, threads, length


def _name(key: Key) -> str:
    variant, device, runtime, precision, threads, length = key
    return f"{variant} ({runtime} {precision}, {device}, {threads} thread{'s' if threads > 1 else ''}, T = {length})"


def _describe(change: Change) -> str:
    factor = change.ratio if change.trend == "slower" else 1 / change.ratio
    text = f"{change.trend}, {change.old_median_s * 1e3:.3g} -> {change.new_median_s * 1e3:.3g} ms ({factor:.2f} x)"
    if change.old_speedup is None or change.new_speedup is None:
        return text
    return f"{text}, speedup {change.old_speedup:.3g} -> {change.new_speedup:.3g}"


def _machine(results: Mapping[str, Any]) -> Mapping[str, Any]:
    machine: Mapping[str, Any] = results.get("machine", {})
    return machine
