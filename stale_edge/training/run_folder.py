"""A training run's folder, written so that a kill at any moment can be resumed from.

state.pt        everything the next epoch starts from; replaced last and atomically, so it alone defines the progress;
                a line with format and sha256, then what `torch.save` writes
metrics.jsonl   one line an epoch; lines past the state belong to an epoch that will be run again, and are dropped
last/, best/    checkpoints; after a kill they may be one epoch ahead of the state, which writes them again
loss.png        the loss curve
tracker/        event files of `train.tracker`; after a kill an epoch that is run again replaces its points
config.toml     the settings, resolved, for the next run
.starting       until the first epoch is complete: nothing here is worth keeping
"""

import contextlib
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stale_edge.bundle.files import write_file_atomically
from stale_edge.bundle.locks import sweep, writing
from stale_edge.config.tree import CONFIG_FILE
from stale_edge.errors import TrainingError, cut, shown

FORMAT = "stale-edge-run/2"
_UNSEALED_FORMAT = "stale-edge-run/1"
"""Format of older states: `torch.save` without a digest, which does not find all damage."""
MAY_DIFFER = {"epochs", "device", "workers", "tracker"}
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
        self.config = self.root / CONFIG_FILE
        self._starting = self.root / ".starting"

    def prepare(self, *, resume: bool) -> None:
        """Make the folder.

        Raises:
            TrainingError: it holds files that a new run would overwrite, or it is a file.
        """
        if self.root.exists() and not self.root.is_dir():
            raise TrainingError(f"{self.root}: a run needs a folder, and this is a file")
        held = self.root.is_dir() and any(path != self._starting for path in self.root.iterdir())
        if not resume and held:
            what = "a training run" if self.state.exists() or self.metrics.exists() else "files"
            raise TrainingError(f"{self.root}: already holds {what}; choose another folder, or --resume the run")
        if held and not self.state.exists() and not self._starting.exists():
            raise TrainingError(
                f"{self.root}: has files but no {self.state.name} to go on from; --resume would start over and "
                "overwrite them: choose another folder"
            )
        self.root.mkdir(parents=True, exist_ok=True)
        sweep(self.root)
        if not self.state.exists():
            self._starting.touch()

    def settings(self) -> dict[str, Any] | None:
        """Give the section `train` of the run here; None: no epoch of a run is complete.

        Raises:
            TrainingError: as `read_state_file`.
        """
        if not self.state.exists():
            return None
        return dict(_with_new_keys(read_state_file(self.state).identity)["config"]["train"])

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from training into this folder.

        Raises:
            BusyError: another process does; it is named.
        """
        self.root.parent.mkdir(parents=True, exist_ok=True)
        with writing(self.root, wait_s=0):
            yield

    def write_state(self, state: RunState) -> None:
        """Replace the state atomically: a kill leaves the old one or the new one."""
        buffer = io.BytesIO()
        torch.save(vars(state), buffer)
        content = buffer.getbuffer()
        write_file_atomically(self.state, f"{FORMAT} {hashlib.sha256(content).hexdigest()}\n".encode(), content)
        self._starting.unlink(missing_ok=True)

    def read_state(self, identity: Mapping[str, Any]) -> RunState | None:
        """Read the state of a run; None when no epoch of it is complete.

        Raises:
            TrainingError: the file is no state, was damaged, or is of a run with another configuration or other data.
        """
        if not self.state.exists():
            return None
        state = read_state_file(self.state)
        differences = list(_differences(_with_new_keys(state.identity), identity))
        if differences:
            raise TrainingError(f"{self.root}: cannot resume with other settings or data: {'; '.join(differences)}")
        return state

    def read_metrics(self, *, up_to_epoch: int) -> list[dict[str, Any]]:
        """Read the records of the epochs that the state has completed; what a kill left behind them is dropped."""
        records: list[dict[str, Any]] = []
        if up_to_epoch == 0:
            return records
        try:
            lines = self.metrics.read_text(encoding="utf-8").splitlines()[:up_to_epoch]
            records = [dict(json.loads(line)) for line in lines]
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise TrainingError(f"{self.metrics}: not readable, line by line, as JSON objects: {error}") from error
        if [record.get("epoch") for record in records] != list(range(1, up_to_epoch + 1)):
            raise TrainingError(f"{self.metrics}: must hold the epochs 1 to {up_to_epoch} that {self.state} completed")
        return records

    def write_metrics(self, records: list[dict[str, Any]]) -> None:
        """Replace the metrics file."""
        lines = [json.dumps(record, allow_nan=False) + "\n" for record in records]
        write_file_atomically(self.metrics, "".join(lines).encode())


def read_state_file(path: Path) -> RunState:
    """Read a state and compare its bytes with the digest in its first line.

    Raises:
        TrainingError: the file is no state, or was damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TrainingError(f"{path}: not a readable training state: {error.strerror or error}") from error
    head, _, body = content.partition(b"\n")
    is_sealed = head.startswith(f"{FORMAT} ".encode())
    if is_sealed and head != f"{FORMAT} {hashlib.sha256(body).hexdigest()}".encode():
        raise TrainingError(f"{path}: the training state is truncated or changed; go on from a copy, or train anew")
    try:
        values = torch.load(io.BytesIO(body if is_sealed else content), map_location="cpu", weights_only=True)
        if not is_sealed and values.pop("format") != _UNSEALED_FORMAT:
            raise ValueError(f"it is not of format {FORMAT}")
        return RunState(**values)
    except Exception as error:  # torch raises a dozen types for a file that is not its own
        raise TrainingError(
            f"{path}: not a readable training state: {type(error).__name__}: {cut(str(error), 200)}"
        ) from error


def _with_new_keys(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Add settings that a run of an earlier version does not know, with the values that describe what it did."""
    config = identity["config"]
    model, train = config["model"], config["train"]
    architecture = model.get("architecture", "paper")
    if architecture in ("paper", "release", "light"):
        model = {"rescoring": "none", **model}
    if architecture in ("paper", "release"):
        normalize = "none" if architecture == "release" else "data-mean"
        model = {"features": {"normalize": normalize, "l2": "none"}, "feature_dropout": 0.0, **model}
    train = {"optimizer": "adam", "schedule": "constant", "warmup_epochs": 0, "average_decay": 0.0, **train}
    return {**identity, "config": {**config, "model": model, "train": train}}


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], where: str = "") -> Any:
    for key in sorted({*old, *new}):
        before, now = old.get(key), new.get(key)
        if where == "config.train." and key in MAY_DIFFER:
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            yield from _differences(before, now, f"{where}{key}.")
        elif before != now:
            yield f"{where}{key} was {shown(before)}, is {shown(now)}"
