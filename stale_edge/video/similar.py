"""Pictures that hardly differ from the last encoded one, which need not be encoded."""

import numpy as np

from stale_edge.segments import FloatArray
from stale_edge.video.preprocess import ClipPreprocess

GRID = 8
"""A picture is compared in GRID x GRID fields, so that a small thing that moves is not lost in a still picture."""


class SimilarPictures:
    """Compares prepared pictures with the last one that was new.

    The change of a picture is the largest change of the mean colour of any of its fields, in any channel, as a share of
    the range of brightness. Changes add up: each picture is compared with the last encoded one, not with its neighbour.

    Args:
        preprocess: prepared the pictures.
        threshold: largest change of a similar picture, in (0, 1).
    """

    def __init__(self, preprocess: ClipPreprocess, threshold: float) -> None:
        self._scale = np.array(preprocess.std, np.float32) / (255 * preprocess.rescale_factor)
        self._threshold = threshold
        self._last: FloatArray | None = None

    def is_new(self, pixels: FloatArray) -> bool:
        """Check whether a picture (3, height, width) differs from the last new one; if so, it becomes that one."""
        fields = self._fields(pixels)
        if self._last is not None and float(np.abs(fields - self._last).max()) <= self._threshold:
            return False
        self._last = fields
        return True

    def _fields(self, pixels: FloatArray) -> FloatArray:
        """Average the fields of a picture; (3, GRID, GRID), or less for a tiny picture."""
        for axis in (1, 2):
            size = pixels.shape[axis]
            starts = np.unique(np.arange(min(GRID, size)) * size // GRID)
            counts = np.diff(np.append(starts, size)).astype(np.float32)
            sums: FloatArray = np.add.reduceat(pixels, starts, axis=axis)
            pixels = np.divide(sums, counts[:, None] if axis == 1 else counts, dtype=np.float32)
        fields: FloatArray = pixels * self._scale[:, None, None]
        return fields
