"""Results as text for display."""

from collections.abc import Mapping
from typing import Any

COLUMNS = ("what", "T", "median", "x eager", "x ref.", "util", "size MB")
"""Only seven, so that a table fits into 80 characters; the JSON has the rest. `x eager`: times faster than PyTorch
eager on the network as trained, with class embeddings computed once; `x ref.`: than the reference."""
THROUGHPUT_COLUMNS = ("detector", "T", "latency")
"""First columns; one column for each setup follows."""


def table_rows(results: Mapping[str, Any]) -> list[list[str]]:
    """Format the rows of a run in the measured order, one list of `COLUMNS` each; unknown values are a dash.

    Peers that could not be measured come last.
    """
    return [
        [
            f"{row['variant']} {row['runtime']} {row['precision']}" + ("" if row["device"] == "cpu" else " on CUDA"),
            str(row["length"]),
            format_seconds(row["seconds"]["median"]),
            format_ratio(row.get("speedup_as_trained")),
            format_ratio(row["speedup"]),
            "-" if row["utilization"] is None else f"{row['utilization']:.0%}",
            format_megabytes(row["model_bytes"]),
        ]
        for row in results["rows"]
    ] + [
        [f"{peer['variant']} {peer['runtime']} {peer['precision']}", str(peer["length"]), "not measured"]
        + ["-"] * (len(COLUMNS) - 3)
        for peer in results.get("peers", ())
        if peer["not_measured"]
    ]


def note_lines(results: Mapping[str, Any]) -> list[str]:
    """List the compile time of each peer, and the reason for each peer and setup that was not measured."""
    setups = results.get("throughput", {}).get("rows", ())
    entries = [(peer, "") for peer in results.get("peers", ())] + [(row, f", {_setup(row)}") for row in setups]
    lines = []
    for row, setup in entries:
        name = f"{row['runtime']} {row['precision']}, T = {row['length']}{setup}"
        if row["not_measured"]:
            lines.append(f"{name}: not measured: {row['not_measured']}")
        elif row.get("compile_seconds") is not None:
            lines.append(f"{name}: compiled in {format_seconds(row['compile_seconds'])}")
    return lines


def throughput_table(results: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Format videos per second next to the latency, one row per product and length.

    Returns:
        columns: `THROUGHPUT_COLUMNS`, then one per setup: batches of one session on one thread, then two cores.
        rows: latency is the median of one video in the detector's row of `results`; a dash means not measured; a star
            marks the choice of `--recommend` for a length.
    """
    latencies = {
        (row["runtime"], row["precision"], row["length"]): row["seconds"]["median"]
        for row in results["rows"]
        if (row["variant"], row["device"]) == ("detector", "cpu")
    }
    chosen = {
        (one["runtime"], one["precision"], one["length"])
        for one in results.get("recommendation", {}).get("lengths", ())
    }
    setups: dict[str, None] = {}
    rates: dict[tuple[str, str, int], dict[str, str]] = {}
    for row in results["throughput"]["rows"]:
        key, setup, rate = (row["runtime"], row["precision"], row["length"]), _setup(row), row["videos_per_second"]
        setups[setup] = None
        rates.setdefault(key, {})[setup] = "-" if rate is None else _rate(rate["median"])
    rows = [
        [
            f"{key[0]} {key[1]}" + (" *" if key in chosen else ""),
            str(key[2]),
            format_seconds(latencies[key]),
            *(of_setup[setup] for setup in setups),
        ]
        for key, of_setup in rates.items()
    ]
    return [*THROUGHPUT_COLUMNS, *setups], rows


def _rate(videos_per_second: float) -> str:
    return f"{videos_per_second:.0f}" if videos_per_second >= 100 else f"{videos_per_second:.3g}"


def _setup(row: Mapping[str, Any]) -> str:
    """Return a short name of a setup."""
    cores = {(1, 1): "", (1, 2): "2 threads", (2, 1): "2 sessions"}[row["sessions"], row["threads"]]
    batch = "" if cores and row["batch"] == 1 else f"batch {row['batch']}"
    return ", ".join(part for part in (cores, batch) if part)


def machine_line(results: Mapping[str, Any]) -> str:
    """Describe the machine of a run in one line."""
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
    """Format a time with three digits, in a suitable unit."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"


def format_megabytes(n_bytes: int | None) -> str:
    """Format a size in units of 10^6 bytes, with a decimal only below 100; a dash if it is unknown."""
    if n_bytes is None:
        return "-"
    return f"{n_bytes / 1e6:.1f}" if n_bytes < 1e8 else f"{n_bytes / 1e6:.0f}"


def format_ratio(ratio: float | None) -> str:
    """Format a ratio; a dash if it is unknown."""
    if ratio is None:
        return "-"
    return f"{ratio:.3g} x" if ratio < 1000 else f"{ratio / 1000:.3g}k x"
