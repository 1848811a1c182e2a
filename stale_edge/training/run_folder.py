"""A training run's folder, written so that a kill at any moment can be resumed from.

state.pt        everything the next epoch starts from; replaced last and atomically, so it alone says how far a run is
metrics.jsonl   one line an epoch; lines past the state belong to an epoch that will be run again, and are dropped
last/, best/    checkpoints; after a kill they may be one epoch ahead of the state, which writes them again
loss.png        the loss curve
"""

import json
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stale_edge.bundle.files import sync_folder, write_file_atomically
from stale_edge.errors import TrainingError

FORMAT = "stale-edge-run/1"
MAY_DIFFER = {"epochs", "device", "workers"}
"""Settings of `[train]` that a resumed run may change: none of them changes an epoch that was already run."""


@dataclass(frozen=True)
class RunState:
    """What the next epoch starts from.

    epoch: epochs completed.
    identity: what the run is (`run_identity`); resuming needs the same.
    weights: of the training model, consistency layers included.
    optimizer, scaler: their `state_dict()`.
    best_epoch, best_value: the best validation so far; 0 and None before the first.
    """

    epoch: int
    identity: dict[str, Any]
    weights: dict[str, Tensor]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    best_epoch: int
    best_value: float | None


class RunFolder:
    """Paths of a run and how its files are read and written."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.state = self.root / "state.pt"
        self.metrics = self.root / "metrics.jsonl"
        self.last = self.root / "last"
        self.best = self.root / "best"
        self.plot = self.root / "loss.png"

    def prepare(self, *, resume: bool) -> None:
        """Make the folder.

        Raises:
            TrainingError: it already holds a run or other files and `resume` is false, or it is a file.
        """
        if self.root.exists() and not self.root.is_dir():
            raise TrainingError(f"{self.root}: a run needs a folder, and this is a file")
        if not resume and self.root.is_dir() and any(self.root.iterdir()):
            held = "a training run" if self.state.exists() or self.metrics.exists() else "files"
            raise TrainingError(f"{self.root}: already holds {held}; choose another folder, or --resume the run")
        self.root.mkdir(parents=True, exist_ok=True)

    def write_state(self, state: RunState) -> None:
        """Replace the state atomically: a kill leaves the old one or the new one."""
        temporary = self.root / ".state.pt.part"
        with temporary.open("wb") as file:
            torch.save({"format": FORMAT, **vars(state)}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.state)
        sync_folder(self.root)

    def read_state(self, identity: Mapping[str, Any]) -> RunState | None:
        """Read the state of a run; None when it was killed before its first epoch was complete.

        Raises:
            TrainingError: the file is no state, or of a run with another configuration or other data.
        """
        if not self.state.exists():
            return None
        try:
            content = torch.load(self.state, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
            raise TrainingError(f"{self.state}: not a readable training state: {error}") from error
        if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
            raise TrainingError(f"{self.state}: not a training state of format {FORMAT}")
        state = RunState(**content)
        differences = list(_differences(state.identity, identity))
        if differences:
            raise TrainingError(f"{self.root}: cannot resume with other settings or data: {'; '.join(differences)}")
        return state

    def read_metrics(self, *, up_to_epoch: int) -> list[dict[str, Any]]:
        """Read the records of the epochs that the state has completed; what a kill left behind them is dropped."""
        records: list[dict[str, Any]] = []
        if up_to_epoch == 0:
            return records
        for line in self.metrics.read_text(encoding="utf-8").splitlines()[:up_to_epoch]:
            record = json.loads(line)
            records.append(record)
        if [record["epoch"] for record in records] != list(range(1, up_to_epoch + 1)):
            raise TrainingError(f"{self.metrics}: must hold the epochs 1 to {up_to_epoch} that {self.state} completed")
        return records

    def write_metrics(self, records: list[dict[str, Any]]) -> None:
        """Replace the metrics file."""
        lines = [json.dumps(record, allow_nan=False) + "\n" for record in records]
        write_file_atomically(self.metrics, "".join(lines).encode())


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], where: str = "") -> Any:
    for key in sorted({*old, *new}):
        before, now = old.get(key), new.get(key)
        if where == "config.train." and key in MAY_DIFFER:
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            yield from _differences(before, now, f"{where}{key}.")
        elif before != now:
            yield f"{where}{key} was {_short(before)}, is {_short(now)}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
