"""Settings of ActionFormer's targets and losses."""

from dataclasses import dataclass

from stale_edge.config.checks import require


@dataclass(frozen=True)
class PointObjectiveConfig:
    """Targets and losses of the points. The defaults are those of THUMOS14."""

    center_radius: float | None = 1.5
    """A point is assigned an action if it lies this near its middle, in strides of its level, > 0; None: anywhere
    in the action."""
    offset_weight: float | None = 1.0
    """Weight of the offset loss, > 0; None: it is scaled to the class loss."""
    label_smoothing: float = 0.0
    """Share of each class target that is spread over all classes, in [0, 1)."""
    initial_normalizer: float = 100.0
    """Initial divisor of the losses, > 0; it moves towards the number of positive points of a batch."""

    def __post_init__(self) -> None:
        _require(
            self.center_radius is None or self.center_radius > 0,
            "center_radius",
            self.center_radius,
            "a number > 0, or nothing",
        )
        _require(
            self.offset_weight is None or self.offset_weight > 0,
            "offset_weight",
            self.offset_weight,
            "a number > 0, or nothing",
        )
        _require(0 <= self.label_smoothing < 1, "label_smoothing", self.label_smoothing, "a number in [0, 1)")
        _require(self.initial_normalizer > 0, "initial_normalizer", self.initial_normalizer, "a number > 0")


def _require(condition: bool, key: str, value: object, allowed: str) -> None:
    require(condition, f"loss.{key}", value, allowed)
