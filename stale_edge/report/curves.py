"""Draw curves side by side: own measurements and published values."""

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from stale_edge.report.canvas import new_figure


@dataclass(frozen=True)
class Line:
    """One curve.

    x, y: numbers, equally many.
    spread: standard deviation at each point, drawn as a band; None: unknown.
    published: drawn dashed and hollow, to differ from own measurements.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    spread: tuple[float, ...] | None = None
    published: bool = False


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    categories: names of the places 1, 2, ... of x, whose points are then not joined; empty: x is a scale.
    """

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    log_y: bool = False
    categories: tuple[str, ...] = ()


def draw_panels(panels: Sequence[Panel], *, caption: str, kind: Literal["png", "svg"] = "png") -> bytes:
    """Draw panels beside each other with one caption below; equal input gives equal bytes.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ValueError: there is no panel, or the numbers of x and y differ.
    """
    if not panels:
        raise ValueError("a figure needs at least one panel")
    for line in (line for panel in panels for line in panel.lines):
        if len(line.x) != len(line.y) or (line.spread is not None and len(line.spread) != len(line.x)):
            raise ValueError(f"line {line.label!r} needs as many numbers as places: {len(line.y)} and {len(line.x)}")
    width = 4.6 * len(panels) + 0.4
    figure = new_figure(width, 4.6)
    import matplotlib

    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for number, line in enumerate(panel.lines):
            color = "#777777" if line.published else f"C{number % 10}"
            style: dict[str, Any] = {"linestyle": "--", "markerfacecolor": "none"} if line.published else {}
            marker = _MARKERS[number % len(_MARKERS)] if line.published else "o"
            if panel.categories:
                style |= {"linestyle": "none"}
                if line.spread is not None:
                    axes.errorbar(line.x, line.y, yerr=line.spread, fmt="none", ecolor=color, capsize=3)
            axes.plot(line.x, line.y, color=color, marker=marker, markersize=4, label=line.label, **style)
            if line.spread is not None and not panel.categories:
                low = [value - width for value, width in zip(line.y, line.spread, strict=True)]
                high = [value + width for value, width in zip(line.y, line.spread, strict=True)]
                axes.fill_between(line.x, low, high, color=color, alpha=0.15, linewidth=0)
        axes.set_title(panel.title, fontsize="medium")
        axes.set_xlabel(panel.x_label)
        axes.set_ylabel(panel.y_label)
        if panel.categories:
            places = range(1, len(panel.categories) + 1)
            axes.set_xticks(places, panel.categories, rotation=30, ha="right", fontsize="small")
            axes.set_xlim(0.5, len(panel.categories) + 0.5)
        if panel.log_y:
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize="small")
    figure.supxlabel(textwrap.fill(caption, round(_CHARACTERS_PER_INCH * width)), fontsize="small")
    buffer = io.BytesIO()
    metadata: dict[str, Any] = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    with matplotlib.rc_context({"svg.hashsalt": "stale-edge", "svg.fonttype": "none"}):
        figure.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()


_CHARACTERS_PER_INCH = 13.5
"""Width of caption text, in characters per inch."""
_MARKERS = "sD^vo"
"""Markers of published curves, which all have one color."""
