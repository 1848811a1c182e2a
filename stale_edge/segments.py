"""Segments, their overlap, detections, and names of videos: shared by all other packages."""

from collections.abc import Container
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
CONFIDENT = 0.3
"""Detections below this fraction of their video's best score are the tail of soft-NMS: not matched, and no subtitle."""


class Detection(NamedTuple):
    """One action found in a video.

    label: the class name.
    score: confidence, higher is better; in [0, 1] for the `paper` policy.
    start_s, end_s: the segment [start_s, end_s) in seconds from the start of the video.
    """

    label: str
    score: float
    start_s: float
    end_s: float


def tiou(segments: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float64]:
    """Compute the temporal intersection over union of every segment with every other.

    Two segments of zero length at the same place have an empty union; their tIoU is 0.

    Args:
        segments: (N, 2) [start, end) in any unit of time.
        others: (M, 2) in the same unit.

    Returns:
        (N, M) float64 in [0, 1].

    Raises:
        ValueError: an array is not of shape (N, 2).
    """
    for name, array in (("segments", segments), ("others", others)):
        if array.ndim != 2 or array.shape[1] != 2:
            raise ValueError(f"{name} must have shape (N, 2), [start, end) a row; got {array.shape}")
    a = np.asarray(segments, dtype=np.float64)
    b = np.asarray(others, dtype=np.float64)
    intersection = np.minimum(a[:, None, 1], b[None, :, 1]) - np.maximum(a[:, None, 0], b[None, :, 0])
    intersection = np.maximum(intersection, 0.0)
    union = (a[:, 1] - a[:, 0])[:, None] + (b[:, 1] - b[:, 0])[None, :] - intersection
    overlap: NDArray[np.float64] = np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)
    return overlap


def find_video(name: str, known: Container[str]) -> str | None:
    """Find a video among known names, where published files disagree about the prefix `v_` of ActivityNet's names.

    The name itself goes first; then the name with `v_` put before it; then the name without a leading `v_`.

    Returns:
        The known name, or None.
    """
    for candidate in (name, f"v_{name}", name.removeprefix("v_")):
        if candidate in known:
            return candidate
    return None
