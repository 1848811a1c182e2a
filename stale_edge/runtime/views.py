"""Data that a page shows beside a video's detections: scores of the classes over time."""

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np

from stale_edge.report.view import ClassCurves
from stale_edge.runtime.windows import WindowPlan
from stale_edge.segments import FloatArray


def class_curves(
    names: Sequence[str], parts: Sequence[FloatArray], *, n_snippets: int, plan: WindowPlan | None
) -> ClassCurves:
    """Join the class scores of all windows to one curve per class.

    Args:
        names: of K classes.
        parts: scores (K, T) of the windows, in their order; T may differ from a window's number of snippets.
        n_snippets: of the whole video.
        plan: positions of the windows; None: one part is the whole video.

    Returns:
        Without a plan, one column per step of the network; with a plan, one column per snippet, taken from each window
        up to its seam with the next.
    """
    if plan is None:
        return ClassCurves(tuple(names), parts[0])
    scores = np.empty((len(names), n_snippets), dtype=np.float32)
    done = 0
    windows = list(plan.cut(n_snippets))
    for window, said in zip(windows, parts, strict=True):
        until = n_snippets if window is windows[-1] else round(window.seam)
        inside = (np.arange(done, until) - window.start + 0.5) / (window.end - window.start)  # in [0, 1)
        scores[:, done:until] = said[:, (inside * said.shape[1]).astype(np.int64)]
        done = until
    return ClassCurves(tuple(names), scores)


def link_to(video: Path, page: Path | None) -> str:
    """Write the address under which a page finds a video: relative to the page, or absolute if `page` is None."""
    if page is None:
        return video.resolve().as_uri()
    try:
        relative = os.path.relpath(video.resolve(), page.resolve().parent)
    except ValueError:  # another drive
        return video.resolve().as_uri()
    return quote(Path(relative).as_posix())
