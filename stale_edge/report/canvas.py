"""An empty figure of matplotlib without a display."""

from typing import Any

from stale_edge.errors import MissingExtraError


def new_figure(width: float, height: float, *, dots_per_inch: int = 110) -> Any:
    """Make an empty figure whose parts keep out of each other's way.

    Args:
        width, height: inches, > 0.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError('drawing needs matplotlib: pip install "stale-edge[report]"') from error
    figure = Figure(figsize=(width, height), dpi=dots_per_inch, layout="constrained")
    FigureCanvasAgg(figure)
    return figure
