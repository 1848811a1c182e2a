"""Convert the numbers that callers pass to the arrays that the core reads."""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatT = TypeVar("FloatT", np.float32, np.float64)


def float_array(values: ArrayLike, name: str, dtype: type[FloatT]) -> NDArray[FloatT]:
    """Convert numbers to a contiguous, aligned array of `dtype`; an array that is both already is not copied.

    Arrays must be of a floating type already: integers and objects are more often a mistake than intended. Lists of
    Python numbers are accepted. A finite number too large for `dtype` is refused rather than made infinite.

    Raises:
        ValueError: `values` is not an array of floats or a list of numbers, or a number does not fit.
    """
    given: NDArray[Any] = values if isinstance(values, np.ndarray) else _from_sequence(values, name)
    if given.dtype.kind != "f":
        raise ValueError(f"{name} must be of a floating type; got {given.dtype} (convert with .astype('float32'))")
    with np.errstate(over="ignore"):
        converted: NDArray[FloatT] = np.require(given, dtype=dtype, requirements=["C", "ALIGNED"])
    if given.dtype.itemsize > converted.dtype.itemsize:
        lost = np.isinf(converted) & np.isfinite(given)
        if lost.any():
            row = int(np.argwhere(lost)[0][0])
            raise ValueError(f"{name} row {row} holds a number too large for {converted.dtype}")
    return converted.reshape(given.shape)


def _from_sequence(values: ArrayLike, name: str) -> NDArray[Any]:
    try:
        given = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} must be an array or a list of rows of equal length: {error}") from error
    if given.dtype.kind in "iu" or given.size == 0:
        return given.astype(np.float64)
    return given
