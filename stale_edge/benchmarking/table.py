"""Results as text for people."""

from collections.abc import Mapping
from typing import Any

COLUMNS = ("what", "T", "median", "speedup", "util", "peak MB", "size MB")
"""Seven, so that a table fits 80 columns; the JSON has the rest."""


def table_rows(results: Mapping[str, Any]) -> list[list[str]]:
    """Format the rows of a run, one list of `COLUMNS` each, in the order measured; what is unknown is a dash."""
    return [
        [
            f"{row['variant']} {row['runtime']} {row['precision']}" + ("" if row["device"] == "cpu" else " on CUDA"),
            str(row["length"]),
            format_seconds(row["seconds"]["median"]),
            format_ratio(row["speedup"]),
            "-" if row["utilization"] is None else f"{row['utilization']:.0%}",
            format_megabytes(row["peak_rss_bytes"]),
            format_megabytes(row["model_bytes"]),
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


def format_megabytes(n_bytes: int | None) -> str:
    """Write a size in units of 10^6 bytes, a decimal only below 100; a dash when it is unknown."""
    if n_bytes is None:
        return "-"
    return f"{n_bytes / 1e6:.1f}" if n_bytes < 1e8 else f"{n_bytes / 1e6:.0f}"


def format_ratio(ratio: float | None) -> str:
    """Write how many times; a dash when it is unknown."""
    if ratio is None:
        return "-"
    return f"{ratio:.3g} x" if ratio < 1000 else f"{ratio / 1000:.3g}k x"
