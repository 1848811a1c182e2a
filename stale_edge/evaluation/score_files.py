"""Evaluation of files, for the command `score`."""

import json
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stale_edge.errors import DataError, reason
from stale_edge.evaluation.diagnosis import Diagnosis, diagnose
from stale_edge.evaluation.layouts import prediction_table, truth_table
from stale_edge.evaluation.mean_ap import ACTIVITYNET_THRESHOLDS, EvaluationResult, evaluate_tables
from stale_edge.paths import MOST_TEXT_BYTES, read_regular


def score_files(
    truth_path: Path,
    predictions_path: Path,
    *,
    subset: str | None = "validation",
    tiou_thresholds: Sequence[float] = ACTIVITYNET_THRESHOLDS,
    classes: Collection[str] | None = None,
) -> EvaluationResult:
    """Evaluate a file of predictions against a file of ground truth, both in ActivityNet's layout.

    Args:
        truth_path, predictions_path: JSON files; see `mean_average_precision` for their layout.
        subset, tiou_thresholds, classes: see `mean_average_precision`.

    Raises:
        DataError: a file is missing, is not JSON, or breaks the layout; the message names file, video and row.
        ValueError: a threshold is out of range.
    """
    truth_document, predictions_document = _read_json(Path(truth_path)), _read_json(Path(predictions_path))
    try:
        truth, videos = truth_table(truth_document, subset, classes)
    except ValueError as error:
        raise DataError(f"{truth_path}: {error}") from error
    try:
        predictions = prediction_table(predictions_document, truth.classes, videos)
    except ValueError as error:
        raise DataError(f"{predictions_path}: {error}") from error
    _, result = evaluate_tables(truth, predictions, tiou_thresholds)
    return result


def diagnose_files(
    truth_path: Path,
    predictions_path: Path,
    *,
    subset: str | None = "validation",
    tiou_thresholds: Sequence[float] = ACTIVITYNET_THRESHOLDS,
    bins: str = "activitynet",
) -> Diagnosis:
    """Analyse the errors of a file of predictions; see `diagnosis.diagnose`.

    Raises:
        DataError: a file is missing, is not JSON, or breaks the layout; the message names the files.
    """
    truth, predictions = _read_json(Path(truth_path)), _read_json(Path(predictions_path))
    try:
        return diagnose(truth, predictions, subset=subset, tiou_thresholds=tiou_thresholds, bins=bins)
    except ValueError as error:
        raise DataError(f"{truth_path}, {predictions_path}: {error}") from error


def parse_thresholds(text: str) -> tuple[float, ...]:
    """Read tIoU thresholds from the command line: `0.5:0.95:0.05` (first:last:step) or `0.3,0.5`.

    `0.5:0.95:0.05` equals `ACTIVITYNET_THRESHOLDS` to the bit.

    Raises:
        ValueError: the text has another form, the step does not lead from first to last, or a value is not in (0, 1].
    """
    separator = ":" if ":" in text else ","
    try:
        numbers = [float(part) for part in text.split(separator)]
    except ValueError:
        numbers = []
    if separator == ":" and len(numbers) == 3 and numbers[2] > 0:
        first, last, step = numbers
        n_steps = round((last - first) / step)
        is_whole = n_steps >= 0 and math.isclose(first + n_steps * step, last, abs_tol=1e-9)
        numbers = np.linspace(first, last, n_steps + 1).tolist() if is_whole else []
    elif separator == ":":
        numbers = []
    if not numbers or not all(0 < number <= 1 for number in numbers):
        raise ValueError(
            f"tIoU thresholds must be first:last:step such as 0.5:0.95:0.05, or a list such as 0.3,0.5,0.7, "
            f"each in (0, 1]; got {text!r}"
        )
    return tuple(numbers)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(read_regular(path, most=MOST_TEXT_BYTES).decode("utf-8-sig"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a readable JSON file: {reason(error)}") from error
