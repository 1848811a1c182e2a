"""Summarise several runs, and add the figures of one part to the JSON."""

import json
import statistics
from pathlib import Path
from typing import Any

from stale_edge.bundle.files import write_file_atomically
from stale_edge.machine import machine_card

SCHEMA = "stale-edge-release-findings/1"


def spread(values: list[float]) -> dict[str, Any]:
    """Compute mean and standard deviation (None for a single value), and keep the values."""
    mean = statistics.fmean(values)
    return {"mean": mean, "std": statistics.stdev(values) if len(values) > 1 else None, "values": values}


def put_part(path: Path, part: str, result: dict[str, Any], settings: dict[str, Any]) -> None:
    """Write a part and its machine to the file; other parts in the file are kept."""
    found = json.loads(path.read_text()) if path.is_file() else {}
    found |= {
        "schema": SCHEMA,
        "features": "simulated",
        "settings": settings,
        part: result | {"machine": machine_card()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file_atomically(path, (json.dumps(found, indent=1, allow_nan=False) + "\n").encode())
