"""Draw the loss curve of a training run."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from stale_edge.errors import MissingExtraError

TERMS = ("classification", "mask", "completeness", "consistency")


def loss_curve(records: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw the loss and its terms over the epochs, and the validation mAP on an axis of its own.

    Args:
        records: of `metrics.jsonl`, one an epoch, with `epoch`, `loss` and the terms; `average_mAP` (percent) where an
            epoch was validated.

    Returns:
        A PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ValueError: there is no record.
    """
    if not records:
        raise ValueError("a loss curve needs at least one epoch; got no records")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError as error:
        raise MissingExtraError('drawing needs matplotlib: pip install "stale-edge[report]"') from error

    figure = Figure(figsize=(8.0, 4.0), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    epochs = [record["epoch"] for record in records]
    axes.plot(epochs, [record["loss"] for record in records], color="#222222", linewidth=2, marker=".", label="loss")
    for term in TERMS:
        axes.plot(epochs, [record[term] for record in records], linewidth=1.2, label=term)
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss, mean over videos")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles, labels = axes.get_legend_handles_labels()
    validated = [record for record in records if record.get("average_mAP") is not None]
    if validated:
        right = axes.twinx()
        (line,) = right.plot(
            [record["epoch"] for record in validated],
            [record["average_mAP"] for record in validated],
            color="#b2182b",
            linestyle="--",
            marker="o",
            markersize=3,
        )
        right.set_ylabel("validation average mAP, %")
        right.set_ylim(bottom=0)
        handles, labels = [*handles, line], [*labels, "average mAP"]
    axes.legend(handles, labels, loc="center left", bbox_to_anchor=(1.1, 0.5), frameon=False)
    axes.grid(alpha=0.25)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
