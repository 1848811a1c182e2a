"""Draw pseudo-labels: how many there are of each kind, and one video's."""

import io
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from stale_edge.report.canvas import new_figure

_COLOURS = {1: "tab:green", 0: "tab:gray", -1: "tab:orange"}


def label_plot(counts: Mapping[str, int], *, example: tuple[str, NDArray[Any], NDArray[Any]] | None = None) -> bytes:
    """Draw the counts as bars, and beside them scores and labels of one class in one video.

    Args:
        counts: number of labels by kind.
        example: title, scores (T,) and labels (T,) of 1, 0 and -1; None: no video shows a class.

    Returns:
        A PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure = new_figure(9.0, 3.0, dots_per_inch=100)
    bars, timeline = figure.subplots(1, 2, width_ratios=(1, 2))
    bars.bar(list(counts), list(counts.values()), color=list(_COLOURS.values()))
    bars.set_ylabel("snippets, of the video's classes")
    if example is not None:
        title, scores, labels = example
        timeline.plot(scores, color="black", linewidth=1)
        for kind, colour in _COLOURS.items():
            places = (labels == kind).nonzero()[0]
            timeline.scatter(places, scores[places], color=colour, s=12, label=f"{kind}")
        timeline.legend(title="label")
        timeline.set_title(title)
    timeline.set_xlabel("snippet")
    timeline.set_ylabel("score")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
