"""Evaluation by ActivityNet's rules: average precision over tIoU thresholds, closed and open set."""

from stale_edge.evaluation.mean_ap import (
    ACTIVITYNET_THRESHOLDS,
    THUMOS_THRESHOLDS,
    EvaluationResult,
    average_precision,
    mean_average_precision,
)
from stale_edge.evaluation.score_files import parse_thresholds, score_files

__all__ = [
    "ACTIVITYNET_THRESHOLDS",
    "THUMOS_THRESHOLDS",
    "EvaluationResult",
    "average_precision",
    "mean_average_precision",
    "parse_thresholds",
    "score_files",
]
