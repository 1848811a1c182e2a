"""The display matrix of a video: how its stored pictures are turned and mirrored for display."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_ONE = 1 << 16
_RIGHT_ANGLE = 0.02
"""Tolerance of a rotation by a multiple of 90 degrees; cameras write no other rotations."""


class Orientation(NamedTuple):
    """Steps applied to a stored picture, in this order: swap its axes, mirror left and right, mirror top and bottom."""

    swap_axes: bool = False
    mirror_columns: bool = False
    mirror_rows: bool = False

    def apply(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Turn a picture (H, W, 3) for display; contiguous."""
        if self.swap_axes:
            picture = picture.swapaxes(0, 1)
        if self.mirror_columns:
            picture = picture[:, ::-1]
        if self.mirror_rows:
            picture = picture[::-1]
        return np.ascontiguousarray(picture)


UPRIGHT = Orientation()


def read_orientation(matrix: bytes) -> Orientation | None:
    """Read a display matrix: nine int32, row by row, 16.16 fixed point (libavutil/display.h).

    The stored point (p, q) is shown at x = a p + c q, y = b p + d q, where the matrix begins a b u c d v.

    Returns:
        The steps for a picture, or None if the rotation is not a multiple of 90 degrees.
    """
    values = np.frombuffer(matrix, dtype=np.int32, count=9).astype(np.float64) / _ONE
    a, b, c, d = (float(values[i]) for i in (0, 1, 3, 4))
    size = math.hypot(a, b)
    if size == 0:
        return None
    straight, swapped = max(abs(b), abs(c)) / size, max(abs(a), abs(d)) / size
    if straight < _RIGHT_ANGLE and d != 0:
        return Orientation(False, a < 0, d < 0)
    if swapped < _RIGHT_ANGLE and c != 0:
        return Orientation(True, c < 0, b < 0)
    return None
