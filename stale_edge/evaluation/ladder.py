"""The ladder of detectors reported with an mAP: no training, a linear probe, then the detector itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LINEAR = "linear"
TRAINING_FREE = "training-free"
LINEAR_SETTINGS = "--arch linear"
"""Command-line flags that train the linear probe of the ladder."""


@dataclass(frozen=True)
class Rung:
    """Average mAP of one detector in percent, on trained classes and on other classes."""

    detector: str
    seen: float
    unseen: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"detector": self.detector, "seen_average_mAP": self.seen, "unseen_average_mAP": self.unseen}


def shortfall(ladder: Sequence[Rung]) -> str | None:
    """Describe where the last detector is not better than the linear probe; None: it is better on both kinds.

    Raises:
        ValueError: the ladder has no linear probe.
    """
    probe = next((rung for rung in ladder if rung.detector == LINEAR), None)
    if probe is None:
        raise ValueError(f"a ladder needs a rung {LINEAR!r}; got {', '.join(rung.detector for rung in ladder)}")
    last = ladder[-1]
    parts = (("seen", last.seen, probe.seen), ("unseen", last.unseen, probe.unseen))
    behind = [f"{own:.1f} against {linear:.1f} on {kind} classes" for kind, own, linear in parts if own <= linear]
    if not behind:
        return None
    return (
        f"{last.detector} does not beat the linear probe ({' and '.join(behind)}, average mAP): "
        f"train with {LINEAR_SETTINGS} here"
    )
