"""The feature contract, enforced: features that a detector was not made for are refused before it runs.

A wrong window or encoder does not crash a network but gives wrong results silently; so nothing is converted to fit.
"""

from pathlib import Path
from typing import Any

import numpy as np

from stale_edge.bundle import FeatureContract
from stale_edge.config import FeatureSpec, FrameGrid, RelativeGrid, TimeGrid
from stale_edge.errors import FeatureContractError
from stale_edge.segments import FloatArray

UNSPECIFIED_ENCODER = FeatureSpec().encoder


def checked_features(features: Any, contract: FeatureContract, *, any_length: bool = False) -> FloatArray:
    """Check features against the contract and convert them to float32.

    Args:
        features: (T, C) or (B, T, C), float16, float32 or float64, finite.
        contract: the bundle's.
        any_length: leave T free even where the graph's T is fixed, for features that are resampled next.

    Returns:
        The same shape, float32, contiguous; shares memory if nothing had to change.

    Raises:
        FeatureContractError: (a ValueError) wrong type, number of axes, C or T, empty, or not finite.
    """
    array = _array(features)
    if array.dtype.kind != "f":
        raise FeatureContractError(
            f"features must be floating point (float16, float32 or float64); got {array.dtype}; "
            "integers are quantized or counted values, not encoder features"
        )
    if array.ndim not in (2, 3):
        raise FeatureContractError(f"features must have shape (T, C) or (B, T, C); got {array.shape}")
    if 0 in array.shape:
        raise FeatureContractError(f"features are empty: shape {array.shape}; at least one snippet is needed")
    if array.shape[-1] != contract.channels:
        raise FeatureContractError(
            f"features must have C = {contract.channels} channels (encoder {contract.encoder}); "
            f"got {array.shape[-1]}, shape {array.shape}"
        )
    if contract.length is not None and not any_length and array.shape[-2] != contract.length:
        raise FeatureContractError(
            f"features must have T = {contract.length} snippets, the length this detector was made for; "
            f"got {array.shape[-2]}, shape {array.shape}; resample them, or call detect, which does"
        )
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, which is refused below
        values: FloatArray = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(values).all():
        where = tuple(int(index) for index in np.argwhere(~np.isfinite(values))[0])
        raise FeatureContractError(f"features must be finite float32 values; got {array[where]} at index {where}")
    return values


def check_feature_spec(contract: FeatureContract, spec: FeatureSpec) -> None:
    """Refuse a data set whose features are of another kind than the detector's; unspecified fields pass.

    Raises:
        FeatureContractError: another encoder, width, frame rate, stride or preprocessing; all differences are named.
    """
    differences = []
    if contract.channels != spec.channels:
        differences.append(f"C is {spec.channels}, the contract says {contract.channels}")
    if UNSPECIFIED_ENCODER not in (contract.encoder, spec.encoder) and contract.encoder != spec.encoder:
        differences.append(f"encoder is {spec.encoder!r}, the contract says {contract.encoder!r}")
    for name in ("fps", "stride", "num_frames"):
        got, wanted = getattr(spec, name), getattr(contract, name)
        if got is not None and wanted is not None and got != wanted:
            differences.append(f"{name} is {got}, the contract says {wanted}")
    if contract.preprocessing != spec.preprocessing:
        differences.append(f"preprocessing is {spec.preprocessing}, the contract says {contract.preprocessing}")
    if differences:
        raise FeatureContractError(f"these features are not what the model was trained on: {'; '.join(differences)}")


def check_spec_near(contract: FeatureContract, source: Path) -> None:
    """Refuse features if a `feature_spec.json` beside them, or one folder up, says that they are of another kind.

    Args:
        contract: the bundle's.
        source: a feature file, or a folder of them.

    Raises:
        DataError: the `feature_spec.json` cannot be read.
        FeatureContractError: see `check_feature_spec`.
    """
    from stale_edge.data import read_feature_spec
    from stale_edge.data.folder import FEATURE_SPEC_FILE

    folder = source if source.is_dir() else source.parent
    for place in (folder, folder.parent):
        if (place / FEATURE_SPEC_FILE).is_file():
            check_feature_spec(contract, read_feature_spec(place / FEATURE_SPEC_FILE))
            return


def time_grid(contract: FeatureContract, *, duration_s: float) -> TimeGrid:
    """Make the time grid of a video's snippets.

    The grid follows the frames if features are not resampled and the contract says how frames became features; else T
    snippets divide the video evenly.
    """
    if contract.resampling == "none" and None not in (contract.fps, contract.stride, contract.num_frames):
        fps, stride, num_frames = (float(x or 0) for x in (contract.fps, contract.stride, contract.num_frames))
        return FrameGrid(fps, stride, num_frames, duration_s)
    return RelativeGrid(duration_s)


def first_snippet(contract: FeatureContract) -> float:
    """Give the place of a feature in its snippet, in snippets: 0 on an even grid, else half a feature's frames."""
    grid = time_grid(contract, duration_s=1.0)
    return 0.5 * grid.num_frames / grid.stride if isinstance(grid, FrameGrid) else 0.0


def implied_duration_s(contract: FeatureContract, n_snippets: int) -> float | None:
    """Compute a video's length from its snippets: T * stride / fps seconds; None where the contract does not say."""
    if contract.fps is None or contract.stride is None:
        return None
    return n_snippets * contract.stride / contract.fps


def _array(features: Any) -> np.ndarray[Any, np.dtype[Any]]:
    try:
        return np.asarray(features)
    except (TypeError, ValueError) as error:
        raise FeatureContractError(f"features must be an array of shape (T, C) or (B, T, C): {error}") from error
