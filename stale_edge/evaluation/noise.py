"""Noise of a comparison of two detectors on few videos: a bootstrap over the videos."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from stale_edge.evaluation.layouts import PredictionTable, Seconds, TruthTable, prediction_table, truth_table
from stale_edge.evaluation.matching import holders, rank_predictions
from stale_edge.evaluation.mean_ap import ACTIVITYNET_THRESHOLDS

RESAMPLES = 200
MOST_VIDEOS = 1000
"""Of more videos the noise is below every budget, and a bootstrap takes minutes."""


def noise_of_change(
    truth: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any], *, classes: Collection[str]
) -> float:
    """Estimate the standard deviation of a change of average mAP, in points, if other videos had been drawn.

    The same resampled videos are used before and after, so a change that is the same everywhere has no noise. Every
    video is matched once; a video that is drawn twice counts twice. 200 resamples, a fixed seed.

    Args:
        truth: ActivityNet's layout, every video; up to `MOST_VIDEOS` of them, beyond which 0 is returned.
        before, after: detections of two detectors in these videos, ActivityNet's layout.
        classes: names of the classes that count.
    """
    table, videos = truth_table(truth, None, classes)
    if len(videos) > MOST_VIDEOS:
        return 0.0
    rng = np.random.default_rng(0)
    weights = rng.multinomial(len(videos), np.full(len(videos), 1 / len(videos)), RESAMPLES).astype(np.float64)
    old, new = (
        _resampled_maps(table, prediction_table(found, table.classes, videos), weights) for found in (before, after)
    )
    return float(np.nanstd(new - old))


def _resampled_maps(truth: TruthTable, predictions: PredictionTable, weights: Seconds) -> Seconds:
    """(R,) average mAP in percent for weights (R, V) of the videos; NaN: no action is drawn."""
    thresholds = np.asarray(ACTIVITYNET_THRESHOLDS)
    order = rank_predictions(predictions)
    taken = holders(truth, predictions, thresholds)
    right = np.zeros((len(thresholds), len(order) + 1), dtype=bool)
    np.put_along_axis(right, taken, True, axis=1)  # -1 is the column after the last one
    right = right[:, :-1][:, order]
    label, video = predictions.label[order], predictions.video[order]
    bounds = np.searchsorted(label, np.arange(len(truth.classes) + 1))
    sums, counted = np.zeros(len(weights)), np.zeros(len(weights))
    for k in range(len(truth.classes)):
        own = slice(bounds[k], bounds[k + 1])
        n_actions = weights[:, truth.video[truth.label == k]].sum(axis=1)  # (R,)
        drawn = np.where(video[own] >= 0, weights[:, video[own]], 1.0)  # (R, P)
        area = np.zeros(len(weights))
        for good in right[:, own]:
            hits = drawn * good
            total = np.cumsum(drawn, axis=1)
            precision = np.divide(np.cumsum(hits, axis=1), total, out=np.zeros_like(total), where=total > 0)
            envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
            area += (envelope * hits).sum(axis=1)
        there = n_actions > 0
        sums[there] += 100 * area[there] / n_actions[there] / len(thresholds)
        counted += there
    maps: Seconds = np.divide(sums, counted, out=np.full(len(weights), np.nan), where=counted > 0)
    return maps
