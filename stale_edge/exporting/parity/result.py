"""Limits and results of the parity check; one type for all kinds of files."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from stale_edge.errors import ParityError


@dataclass(frozen=True)
class Budget:
    """Allowed differences between a file and its source. None: not limited, only reported."""

    max_difference: float | None
    """Largest difference of every output, relative to the largest number in it (at least 1); class logits only where
    decisions agree."""
    max_score_difference: float | None
    """Largest difference of scores between matched detections."""
    max_flipped: float
    """Share of snippets whose hard decision may flip, in [0, 1]."""
    min_matched: float
    """Share of confident detections that the file must find again (same label, tIoU >= 0.95), in [0, 1]."""
    max_map_loss: float
    """Largest loss of average mAP, in points; compared only where there are labels, and widened by `map_noise`."""
    min_cosine: float | None = None
    """Smallest cosine between features of a picture, in [-1, 1]; for visual encoders only."""


BUDGETS: Mapping[str, Budget] = {
    "fp32": Budget(1e-4, 1e-4, max_flipped=0.0, min_matched=1.0, max_map_loss=0.01),
    "fp16": Budget(None, None, max_flipped=0.001, min_matched=0.95, max_map_loss=0.1),
    "int8": Budget(None, None, max_flipped=0.01, min_matched=0.75, max_map_loss=0.5),
    "int8-static": Budget(None, None, max_flipped=0.01, min_matched=0.98, max_map_loss=0.3),
}
"""Budgets by precision. The demo's trained detectors (200 videos, T = 100) meet them: fp16 flips 0.01 % and matches
99 %; int8 flips 0.1 % and matches 93 %. After a quarter of the training, while scores and masks are still flat, 98 %
(fp16) and 84 % (int8) match; a broken file matches few.

The kit promises the allowed changes of mAP. Matching is strict: on a segment of ten snippets, a boundary that moves by
one is no match. Where there are no labels, only matching keeps a broken file off a device.
"""


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Comparison of one file with its source. A field that was not compared keeps its default.

    max_difference: largest difference by output, computed as in `Budget.max_difference`.
    n_snippets, flipped_snippets: number of snippets with a hard decision, and of those where it flips. For a visual
        encoder: number of pictures, and of those whose likeliest class changes.
    shape_flips: number of flipped snippets in batches of other sizes.
    n_videos, different: number of videos compared, and names of those that must be equal but are not.
    n_detections, matched_detections: number of the model's confident detections, and share found again, in [0, 1].
    max_score_difference: between matched detections; for a visual encoder, between class probabilities.
    near_ties: number of videos compared with another outcome, which the model reaches when its outputs move as little
        as the file's; only where scores are limited.
    average_mAP, model_average_mAP: percent; None without labels.
    map_noise: standard deviation of the change of average mAP if other videos had been drawn, in points (bootstrap); 0
        where the loss is within the budget anyway.
    min_cosine, mean_cosine: between features of pictures.
    failures: values beyond the budget; if empty, the file may be kept.
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
    map_noise: float = 0.0
    min_cosine: float | None = None
    mean_cosine: float | None = None
    failures: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """True if the file may be kept."""
        return not self.failures

    @property
    def map_change(self) -> float | None:
        """Return the change of average mAP, in points; None without labels."""
        if self.average_mAP is None or self.model_average_mAP is None:
            return None
        return self.average_mAP - self.model_average_mAP

    @property
    def allowed_map_loss(self) -> float:
        """Largest loss that is accepted, in points: the budget's, widened by two standard deviations of its noise."""
        return self.budget.max_map_loss + 2 * self.map_noise

    def checked(self, problems: Iterable[str] = ()) -> "Parity":
        """Return a copy with `failures`: the given problems, then every value beyond the budget."""
        return replace(self, failures=tuple(dict.fromkeys((*problems, *self._beyond_budget()))))

    def within(self, budget: Budget) -> bool:
        """Check whether decisions, detections and mAP are within a budget."""
        return (
            self.flipped_snippets <= budget.max_flipped * self.n_snippets
            and self.matched_detections >= budget.min_matched
            and (self.map_change is None or -self.map_change <= budget.max_map_loss + 2 * self.map_noise)
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
        if self.map_change is not None and not -self.map_change <= self.allowed_map_loss:
            noise = f" and {2 * self.map_noise:.2f} for the noise of few videos" if self.map_noise else ""
            yield f"average mAP changes by {self.map_change:+.2f} points, allowed loss {budget.max_map_loss:g}{noise}"
        if budget.min_cosine is not None and not (self.min_cosine or 0.0) >= budget.min_cosine:
            yield f"the least cosine is {self.min_cosine:.6f}, allowed {budget.min_cosine:g}"


def refuse_failures(parities: Sequence[Parity], compared_on: str) -> None:
    """Stop an export with files that failed the parity check.

    Args:
        compared_on: the videos of the comparison, for the message.

    Raises:
        ParityError: at least one file failed; the message names all that did, with the values beyond the budget.
    """
    failed = [parity for parity in parities if not parity.passed]
    if failed:
        details = "\n".join(f"  {parity.file}: {'; '.join(parity.failures)}" for parity in failed)
        raise ParityError(
            f"{len(failed)} of {len(parities)} artifacts decide differently from the checkpoint on {compared_on}; "
            f"nothing was written:\n{details}\n{parity_table(parities)}\n"
            "next: the same command with --keep-passing writes the others, with --report it keeps in float32 the "
            "layers that change decisions"
        )


def parity_table(parities: Iterable[Parity]) -> str:
    """Format measured values, one line of at most 80 characters per file, then what is allowed per precision."""
    rows = [("file", "flipped", "matched", "mAP", "")]
    allowed: dict[str, str] = {}
    for parity in parities:
        budget, change = parity.budget, parity.map_change
        rows.append(
            (
                parity.file,
                f"{parity.flipped_snippets}/{parity.n_snippets}" if parity.n_snippets else "-",
                f"{parity.matched_detections:.1%}",
                "not measured" if change is None else f"{parity.average_mAP:.2f} {change:+.2f}",
                "passed" if parity.passed else "FAILED",
            )
        )
        line = f"{budget.max_flipped:.1%} flipped, {budget.min_matched:.1%} matched, {budget.max_map_loss:g} mAP lost"
        noise = f" (and {2 * parity.map_noise:.2f} for the noise of few videos)" if parity.map_noise else ""
        allowed.setdefault(f"{line}{noise}", parity.precision)
    limits = [f"  allowed {precision}: {line}" for line, precision in allowed.items()]
    return "\n".join([columns(rows), *limits])


def columns(rows: Iterable[tuple[str, ...]]) -> str:
    """Align rows of cells in columns, indented by two spaces."""
    cells = list(rows)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )
