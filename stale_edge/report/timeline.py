"""Draw detections against the ground truth on the time axis of a video."""

import io
from collections.abc import Sequence

from stale_edge.report.canvas import new_figure
from stale_edge.segments import Detection


def timeline(
    detections: Sequence[Detection],
    *,
    duration_s: float,
    ground_truth: Sequence[tuple[str, float, float]] = (),
    title: str = "",
    min_score: float = 0.0,
) -> bytes:
    """Draw one lane per class: ground truth as outlines above, detections as bars whose depth of colour is the score.

    Args:
        detections: of one video, in any order.
        duration_s: length of the video in seconds, > 0.
        ground_truth: (label, start_s, end_s) of every annotated action; may be empty.
        title: printed above the lanes.
        min_score: detections below are left out.

    Returns:
        A PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ValueError: `duration_s` is not > 0.
    """
    if not duration_s > 0:
        raise ValueError(f"duration_s must be > 0 seconds, got {duration_s}")
    shown = sorted((d for d in detections if d.score >= min_score), key=lambda d: d.score)
    lanes = _lanes(shown, ground_truth)
    best = max((d.score for d in shown), default=1.0) or 1.0
    figure = new_figure(9.0, 0.9 + 0.5 * max(1, len(lanes)))
    from matplotlib.patches import Patch

    axes = figure.add_subplot()
    for label, start_s, end_s in ground_truth:
        axes.broken_barh(
            [(start_s, end_s - start_s)],
            (lanes[label] + 0.06, 0.3),
            facecolors="#d9d9d9",
            edgecolors="#555555",
            linewidth=0.8,
        )
    for detection in shown:
        axes.broken_barh(
            [(detection.start_s, detection.end_s - detection.start_s)],
            (lanes[detection.label] - 0.36, 0.36),
            facecolors=(0.07, 0.36, 0.65, max(0.08, detection.score / best)),
        )
    axes.set_xlim(0, duration_s)
    axes.set_ylim(-0.5, max(1, len(lanes)) - 0.5)
    axes.set_yticks(list(lanes.values()), list(lanes))
    axes.invert_yaxis()
    axes.set_xlabel("seconds")
    axes.grid(axis="x", color="#eeeeee")
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    legend = [Patch(facecolor="#115ca6", label="detected, darker is surer")]
    if ground_truth:
        legend.append(Patch(facecolor="#d9d9d9", edgecolor="#555555", label="annotated"))
    figure.legend(handles=legend, loc="outside upper right", ncols=2, fontsize=8, frameon=False)
    if title:
        axes.set_title(title, loc="left", fontsize=10)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _lanes(detections: Sequence[Detection], ground_truth: Sequence[tuple[str, float, float]]) -> dict[str, int]:
    """Give every class a lane: annotated classes first, then detected ones by their best score."""
    order = list(dict.fromkeys(label for label, _, _ in ground_truth))
    order += [d.label for d in sorted(detections, key=lambda d: -d.score) if d.label not in order]
    return {label: lane for lane, label in enumerate(dict.fromkeys(order))}
