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
    """Average mAP of one detector in percent, on trained classes and on other classes; None: it knows no others."""

    detector: str
    seen: float
    unseen: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"detector": self.detector, "seen_average_mAP": self.seen, "unseen_average_mAP": self.unseen}


_INSTEAD = {
    LINEAR: ("the linear probe", f"train with {LINEAR_SETTINGS} here"),
    TRAINING_FREE: ("the detector without training", "stale-edge find needs no training"),
}
"""What a rung is called in a warning, and what to do where it is not beaten."""


def shortfall(ladder: Sequence[Rung]) -> str | None:
    """Describe which earlier rungs the last detector does not beat; None: it is better on both kinds of classes.

    Raises:
        ValueError: the ladder has no linear probe.
    """
    *earlier, last = ladder
    if not any(rung.detector == LINEAR for rung in earlier):
        raise ValueError(f"a ladder needs a rung {LINEAR!r}; got {', '.join(rung.detector for rung in ladder)}")
    said = []
    for rung in sorted(earlier, key=lambda rung: rung.detector != LINEAR):
        parts = (("seen", last.seen, rung.seen), ("unseen", last.unseen, rung.unseen))
        behind = [
            f"{own:.1f} against {other:.1f} on {kind} classes"
            for kind, own, other in parts
            if own is not None and other is not None and own <= other
        ]
        if behind:
            name, instead = _INSTEAD[rung.detector]
            said.append(f"{last.detector} does not beat {name} ({' and '.join(behind)}, average mAP): {instead}")
    return "; ".join(said) or None
