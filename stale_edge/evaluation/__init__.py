"""Evaluation by ActivityNet's rules: average precision over tIoU thresholds, closed and open set."""

from stale_edge.evaluation.files import parse_thresholds, score_files
from stale_edge.evaluation.mean_ap import (
    ACTIVITYNET_THRESHOLDS,
    THUMOS_THRESHOLDS,
    EvaluationResult,
    average_precision,
    mean_average_precision,
)

__all__ = [
    "ACTIVITYNET_THRESHOLDS",
    "THUMOS_THRESHOLDS",
    "EvaluationResult",
    "average_precision",
    "mean_average_precision",
    "parse_thresholds",
    "score_files",
]
