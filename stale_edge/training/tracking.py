"""Give the numbers of every epoch to an experiment tracker, through accelerate."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from stale_edge.config.training import TrainConfig

FOLDER = "tracker"


def tracker_settings(config: TrainConfig, out: Path) -> dict[str, Any]:
    """Give the arguments of `Accelerator` that choose the tracker; none without one.

    Raises:
        ModuleNotFoundError: the tracker is not installed. Accelerate itself would train without it.
    """
    if config.tracker == "none":
        return {}
    importlib.import_module(config.tracker)
    return {"log_with": config.tracker, "project_dir": str(out)}


def track(accelerator: Accelerator, record: Mapping[str, Any]) -> None:
    """Send the numbers of one epoch's record; values that are no numbers stay in metrics.jsonl."""
    numbers = {name: value for name, value in record.items() if isinstance(value, int | float) and name != "epoch"}
    accelerator.log(numbers, step=record["epoch"])
