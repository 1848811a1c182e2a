"""Results as text for people."""

from collections.abc import Mapping
from typing import Any

COLUMNS = ("what", "T", "median", "p90", "speedup", "GMACs", "GMACs/s", "utilization", "peak memory", "model")


def table_rows(results: Mapping[str, Any]) -> list[list[str]]:
    """Format the rows of a run, one list of `COLUMNS` each, in the order measured; what is unknown is a dash."""
    return [
        [
            f"{row['variant']} {row['runtime']} {row['precision']}" + ("" if row["device"] == "cpu" else " on CUDA"),
            str(row["length"]),
            format_seconds(row["seconds"]["median"]),
            format_seconds(row["seconds"]["p90"]),
            _number(row["speedup"], "{:.3g} x"),
            _number(row["gmacs"], "{:.3g}"),
            _number(row["gmacs_per_second"], "{:.3g}"),
            _number(row["utilization"], "{:.0%}"),
            format_bytes(row["peak_rss_bytes"]),
            format_bytes(row["model_bytes"]),
        ]
        for row in results["rows"]
    ]


def machine_line(results: Mapping[str, Any]) -> str:
    """Say in one line where a run was made."""
    machine, protocol = results["machine"], results["protocol"]
    load = machine["load_average_before"]
    parts = [
        machine["cpu"],
        f"{protocol['threads']} thread{'s' if protocol['threads'] > 1 else ''}"
        + (
            f" on CPU {', '.join(map(str, protocol['pinned_to_cpus']))}"
            if protocol["pinned_to_cpus"]
            else ", not pinned"
        ),
        f"load {load[0]:.2f} before" if load else "load unknown",
        f"{protocol['rounds']} rounds",
    ]
    if machine["gpu"]:
        parts.insert(1, machine["gpu"])
    return ", ".join(parts)


def format_seconds(seconds: float) -> str:
    """Write a time with three digits, in the unit that suits it."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"


def format_bytes(n_bytes: int | None) -> str:
    """Write a size in MB of 10^6 bytes; a dash when it is unknown."""
    return "-" if n_bytes is None else f"{n_bytes / 1e6:.3g} MB"


def _number(value: float | None, pattern: str) -> str:
    return "-" if value is None else pattern.format(value)
