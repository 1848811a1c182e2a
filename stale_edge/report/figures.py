"""Draw the loss curve of a training run and the latency curve of a benchmark."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from stale_edge.report.canvas import new_figure


def loss_terms(record: Mapping[str, Any]) -> list[str]:
    """Name the terms of the objective in a record of `metrics.jsonl`: the keys between loss and gradient norm."""
    names = list(record)
    return names[names.index("loss") + 1 : names.index("gradient_norm")]


def loss_curve(records: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw the loss and its terms over the epochs, and the validation mAP on an axis of its own.

    Args:
        records: of `metrics.jsonl`, one per epoch, with `epoch`, `loss`, its terms and `gradient_norm` in this order;
            `average_mAP` (percent) if the epoch was validated.

    Returns:
        A PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ValueError: there is no record.
    """
    if not records:
        raise ValueError("a loss curve needs at least one epoch; got no records")
    figure = new_figure(8.0, 4.0)
    from matplotlib.ticker import MaxNLocator

    axes = figure.add_subplot()
    epochs = [record["epoch"] for record in records]
    axes.plot(epochs, [record["loss"] for record in records], color="#222222", linewidth=2, marker=".", label="loss")
    for term in loss_terms(records[0]):
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


def latency_curve(results: Mapping[str, Any]) -> bytes:
    """Draw time, multiply-accumulates and peak memory over video length, like Figure 4 of the thesis.

    Args:
        results: of a benchmark run, schema `stale-edge-bench/1`.

    Returns:
        A PNG. The shaded band is from the fastest call to the 90th percentile.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ValueError: the run has no row.
    """
    rows = results["rows"]
    if not rows:
        raise ValueError("a latency curve needs at least one row; the benchmark has none")
    lines: dict[tuple[str, str, str, str], list[Mapping[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row["length"]):
        lines.setdefault((row["variant"], row["runtime"], row["precision"], row["device"]), []).append(row)
    figure = new_figure(12.0, 4.6)
    from matplotlib.ticker import MaxNLocator, NullFormatter, StrMethodFormatter

    time_axes, work_axes, memory_axes = figure.subplots(1, 3, width_ratios=(1.5, 1, 1))
    artifacts = list(dict.fromkeys(key[1:] for key in lines if key[0] in ("detector", "localizer")))
    for (variant, runtime, precision, device), measured in lines.items():
        lengths = [row["length"] for row in measured]
        seconds = [row["seconds"] for row in measured]
        fixed = _COLORS.get(f"{variant} {runtime}") or _COLORS.get(variant)
        style: dict[str, Any] = {
            "color": fixed or f"C{artifacts.index((runtime, precision, device)) % 10}",
            "linestyle": _LINES[variant],
            "linewidth": 1.6,
            "marker": "o",
            "markersize": 3.5,
        }
        label = f"{variant}, {runtime} {precision}" + ("" if device == "cpu" else f", {device}")
        time_axes.plot(lengths, [1e3 * value["median"] for value in seconds], label=label, **style)
        low, high = ([1e3 * value[end] for value in seconds] for end in ("min", "p90"))
        time_axes.fill_between(lengths, low, high, color=style["color"], alpha=0.15, linewidth=0)
        if all(row["peak_rss_bytes"] is not None for row in measured):
            memory_axes.plot(lengths, [row["peak_rss_bytes"] / 1e6 for row in measured], **style)
        # One line, of the first variant measured: the others do the same work, or slightly less.
        first = next(key for key in lines if key[0] == variant)
        if first == (variant, runtime, precision, device) and all(row["gmacs"] is not None for row in measured):
            work_axes.plot(lengths, [row["gmacs"] for row in measured], label=variant, **style)
    for axes, title in ((time_axes, "time, ms"), (work_axes, "GMACs"), (memory_axes, "peak memory, MB")):
        axes.set_title(title, fontsize="medium")
        axes.set_xlabel("video length T, snippets")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.grid(alpha=0.25)
    for axes in (time_axes, work_axes):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    memory_axes.set_ylim(bottom=0)
    if work_axes.lines:
        work_axes.legend(frameon=False, fontsize="small")
    figure.legend(
        *time_axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize="small"
    )
    figure.suptitle(
        f"{results['machine']['cpu']}, {results['protocol']['threads']} thread(s), medians", fontsize="medium"
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


_LINES = {"reference": "-", "as-trained": "-", "detector": "-", "localizer": "--", "text": ":", "postprocess": "-."}
"""Line style by the part that a row measures."""

_COLORS = {
    "reference": "#222222",
    "as-trained pytorch": "#cc3311",
    "as-trained onnxruntime": "#ee7733",
    "as-trained torch-compile": "#882255",
    "text": "#777777",
    "postprocess": "#aa8800",
}
"""Color of parts that are not artifacts; detector and localizer share one for each runtime, precision and device."""
