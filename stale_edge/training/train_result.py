"""The result of a training run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class TrainResult:
    """The result of a training run.

    best, last: checkpoint folders; `best` is the one with the highest validation mAP, `last` where none was validated.
    epochs: epochs completed.
    best_epoch: the epoch of `best`.
    average_mAP: of `best` on the validation videos, percent; None when nothing was validated.
    records: one per epoch, as in `metrics.jsonl`.
    notes: messages for the user.
    warnings: what is wrong with the run, each with the next command.
    leads: whether this process is the one to report; several processes get equal results otherwise.
    """

    best: Path
    last: Path
    epochs: int
    best_epoch: int
    average_mAP: float | None  # noqa: N815
    records: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]
    leads: bool
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, without `leads`."""
        values = {key: value for key, value in vars(self).items() if key != "leads"}
        paths = {"best": str(self.best), "last": str(self.last)}
        lists = {key: list(values[key]) for key in ("records", "notes", "warnings")}
        return {**values, **paths, **lists}

    def summary(self) -> str:
        """Say in a few lines how the run ended."""
        loss = f"loss {self.records[-1]['loss']:.3f} after {self.epochs} epochs"
        best = "not validated" if self.average_mAP is None else f"average mAP {self.average_mAP:.2f} %"
        return "\n".join([f"{loss}; best epoch {self.best_epoch}, {best}: {self.best}", *self.notes])
