"""What a parity check allows and what it measured: one type, whatever kind of file was compared."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from stale_edge.errors import ParityError


@dataclass(frozen=True)
class Budget:
    """How far a file may be from what it was made from. None: not limited, only reported."""

    max_difference: float | None
    """Of every output, as a part of the largest number in it (at least 1); class logits where decisions agree."""
    max_score_difference: float | None
    """Between matched detections."""
    max_flipped: float
    """Part of the snippets whose hard decision may be another, in [0, 1]."""
    min_matched: float
    """Part of the confident detections that must be there again: same label, tIoU >= 0.95, in [0, 1]."""
    max_map_change: float
    """Of average mAP, in points, either way; compared only where there are labels."""
    min_cosine: float | None = None
    """Between features of pictures, in [-1, 1]; of visual encoders alone."""


BUDGETS: Mapping[str, Budget] = {
    "fp32": Budget(1e-4, 1e-4, max_flipped=0.0, min_matched=1.0, max_map_change=0.01),
    "fp16": Budget(None, None, max_flipped=0.001, min_matched=0.95, max_map_change=0.1),
    "int8": Budget(None, None, max_flipped=0.01, min_matched=0.75, max_map_change=0.5),
    "int8-static": Budget(None, None, max_flipped=0.01, min_matched=0.98, max_map_change=0.3),
}
"""The demo's trained detectors (200 videos, T = 100) stay inside: fp16 flips 0.01 %, matches 99 %; int8 0.1 % and 93 %.
After a quarter of the training, while scores and masks are still flat, 98 % and 84 % match; of a broken file few.

The allowed changes of mAP are the kit's promise. Matching is strict, since on a segment of ten snippets a boundary that
moves by one is no match; where there are no labels, it is what keeps a broken file off a device.
"""


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How one file compares with what it was made from. What was not compared keeps its default.

    max_difference: largest difference by output, as `Budget.max_difference` counts it.
    n_snippets, flipped_snippets: snippets with a hard decision, and those of them where it is another. For a visual
        encoder: pictures, and those whose likeliest class is another.
    shape_flips: flipped snippets in batches of other sizes.
    n_videos, different: videos compared, and names of those that must be equal and are not.
    n_detections, matched_detections: confident detections of the model, and the part found again, in [0, 1].
    max_score_difference: between matched detections; for a visual encoder between probabilities of classes.
    near_ties: videos compared with another outcome that the model itself reaches when its outputs move as little as the
        file's do; only where scores are limited.
    average_mAP: percent; None without labels, `model_average_mAP` likewise.
    min_cosine, mean_cosine: between features of pictures.
    failures: what is beyond the budget; empty: the file may be kept.
    """

    file: str
    precision: str
    budget: Budget
    max_difference: dict[str, float] = field(default_factory=dict)
    n_snippets: int = 0
    flipped_snippets: int = 0
    shape_flips: int = 0
    n_videos: int = 0
    different: tuple[str, ...] = ()
    n_detections: int = 0
    matched_detections: float = 1.0
    max_score_difference: float = 0.0
    near_ties: int = 0
    average_mAP: float | None = None  # noqa: N815 - the name in published result files
    model_average_mAP: float | None = None  # noqa: N815
    min_cosine: float | None = None
    mean_cosine: float | None = None
    failures: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the file may be kept."""
        return not self.failures

    @property
    def map_change(self) -> float | None:
        """Change of average mAP, in points; None without labels."""
        if self.average_mAP is None or self.model_average_mAP is None:
            return None
        return self.average_mAP - self.model_average_mAP

    def checked(self, problems: Iterable[str] = ()) -> "Parity":
        """Give this with `failures`: problems found elsewhere, then everything beyond the budget."""
        return replace(self, failures=tuple(dict.fromkeys((*problems, *self._beyond_budget()))))

    def within(self, budget: Budget) -> bool:
        """Say whether decisions, detections and mAP are within a budget."""
        return (
            self.flipped_snippets <= budget.max_flipped * self.n_snippets
            and self.matched_detections >= budget.min_matched
            and (self.map_change is None or abs(self.map_change) <= budget.max_map_change)
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            **asdict(self),
            "different": list(self.different),
            "failures": list(self.failures),
            "passed": self.passed,
        }

    def _beyond_budget(self) -> Iterator[str]:
        budget = self.budget
        if budget.max_difference is not None:
            for name, value in self.max_difference.items():
                if not value <= budget.max_difference:
                    yield f"{name} differs by {value:.2g}, allowed {budget.max_difference:g}"
        if budget.max_flipped == 0 and self.shape_flips:
            yield f"{self.shape_flips} snippets flip on batches of other sizes, allowed none"
        flipped = self.flipped_snippets / max(1, self.n_snippets)
        if not flipped <= budget.max_flipped:
            yield f"{self.flipped_snippets} of {self.n_snippets} snippets flip, allowed {budget.max_flipped:.1%}"
        if self.different:
            yield f"other detections in {', '.join(self.different[:3])}, allowed in none of {self.n_videos} videos"
        if not self.matched_detections >= budget.min_matched:
            yield f"{self.matched_detections:.1%} of detections match, at least {budget.min_matched:.1%} must"
        if budget.max_score_difference is not None and not self.max_score_difference <= budget.max_score_difference:
            yield f"scores differ by {self.max_score_difference:.2g}, allowed {budget.max_score_difference:g}"
        if self.map_change is not None and not abs(self.map_change) <= budget.max_map_change:
            yield f"average mAP changes by {self.map_change:+.2f} points, allowed {budget.max_map_change:g}"
        if budget.min_cosine is not None and not (self.min_cosine or 0.0) >= budget.min_cosine:
            yield f"the least cosine is {self.min_cosine:.6f}, allowed {budget.min_cosine:g}"


def refuse_failures(parities: Sequence[Parity], compared_on: str) -> None:
    """Stop an export whose files decide differently.

    Args:
        compared_on: what they were compared on, for the message.

    Raises:
        ParityError: at least one failed; all that failed are named, with what is beyond the budget.
    """
    failed = [parity for parity in parities if not parity.passed]
    if failed:
        details = "\n".join(f"  {parity.file}: {'; '.join(parity.failures)}" for parity in failed)
        raise ParityError(
            f"{len(failed)} of {len(parities)} artifacts decide differently from the checkpoint on {compared_on}; "
            f"nothing was written:\n{details}\n{parity_table(parities)}"
        )


def parity_table(parities: Iterable[Parity]) -> str:
    """Lay out what was measured beside what is allowed, one line a file."""
    rows = [("file", "flipped snippets", "matched detections", "average mAP", "")]
    for parity in parities:
        budget, change = parity.budget, parity.map_change
        flipped = f"{parity.flipped_snippets} of {parity.n_snippets} (allowed {budget.max_flipped:.1%})"
        rows.append(
            (
                parity.file,
                flipped if parity.n_snippets else "-",
                f"{parity.matched_detections:.1%} of {parity.n_detections} (at least {budget.min_matched:.1%})",
                "not measured"
                if change is None
                else f"{parity.average_mAP:.2f} ({change:+.2f}, allowed {budget.max_map_change:g})",
                "passed" if parity.passed else "FAILED",
            )
        )
    return columns(rows)


def columns(rows: Iterable[tuple[str, ...]]) -> str:
    """Lay out rows of cells in columns of equal width, indented by two spaces."""
    cells = list(rows)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )
