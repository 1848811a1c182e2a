"""Draw how far scores are from the share of right detections."""

import io
from typing import Any

from stale_edge.report.canvas import new_figure


def reliability_figure(report: Any) -> bytes:
    """Draw the reliability of scores, and below it how many detections have them.

    Args:
        report: a `stale_edge.evaluation.zero_shot.StrictReport`.

    Returns:
        A PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure = new_figure(5.5, 6.5)
    upper, lower = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    bins = report.reliability
    middles = [(number + 0.5) / len(bins) for number in range(len(bins))]
    drawn = [one if one.n else None for one in bins]
    upper.bar(
        [middle for middle, one in zip(middles, drawn, strict=True) if one],
        [one.right for one in drawn if one],
        width=0.9 / len(bins),
        color="#4c78a8",
        label="right (tIoU 0.5)",
    )
    upper.plot([one.score for one in drawn if one], [one.right for one in drawn if one], "o", color="#b2182b",
               markersize=4, label="at the mean score")  # fmt: skip
    upper.plot([0, 1], [0, 1], color="#333333", linestyle="--", linewidth=1, label="calibrated")
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="share of detections that is right")
    upper.set_title(f"Reliability, expected calibration error {report.expected_calibration_error:.3f}")
    upper.axvline(report.operating_score, color="#f58518", linewidth=1.2, label="score of the highest F1")
    upper.legend(frameon=False, loc="lower right", fontsize=8)
    lower.bar(middles, [one.n for one in bins], width=0.9 / len(bins), color="#9aa0a6")
    lower.set_yscale("symlog")
    lower.set(xlabel="score", ylabel="detections")
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
