"""The bootstrap over videos, against slow resampling by copies of videos."""

from typing import Any

import numpy as np
import pytest

from stale_edge.evaluation import mean_average_precision
from stale_edge.evaluation.noise import RESAMPLES, noise_of_change

LABELS = ("run", "jump")


def _world(seed: int, n_videos: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    rng = np.random.default_rng(seed)
    truth: dict[str, Any] = {}
    found: list[dict[str, Any]] = [{}, {}]
    for i in range(n_videos):
        start, label = float(rng.uniform(0, 50)), LABELS[i % 2]
        truth[f"v{i}"] = {"subset": "validation", "annotations": [{"label": label, "segment": [start, start + 20]}]}
        for results in found:
            shift = rng.normal(0, 4, (3, 2))
            results[f"v{i}"] = [
                {"label": label, "score": float(rng.random()), "segment": [start + min(a, b), start + 20 + max(a, b)]}
                for a, b in shift.tolist()
            ]
    return {"database": truth}, [{"results": results} for results in found]


def _slow(truth: Any, found: list[Any], draws: np.ndarray) -> float:
    """Copy each video as often as it is drawn, and evaluate."""
    changes = []
    for counts in draws:
        names = [(f"v{i}", copy) for i, n in enumerate(counts) for copy in range(int(n))]
        database = {f"{name}-{copy}": truth["database"][name] for name, copy in names}
        maps = [
            mean_average_precision(
                {"database": database}, {"results": {f"{n}-{c}": one["results"][n] for n, c in names}}
            ).average_mAP
            for one in found
        ]
        changes.append(maps[1] - maps[0])
    return float(np.std(changes))


def test_noise_is_that_of_slow_resampling() -> None:
    truth, found = _world(0, 12)
    draws = np.random.default_rng(0).multinomial(12, np.full(12, 1 / 12), RESAMPLES)
    noise = noise_of_change(truth, *found, classes=LABELS)
    # Copies of a video have equal scores, whose order changes AP a little: a tenth of the noise.
    assert noise == pytest.approx(_slow(truth, found, draws), rel=0.1)


def test_more_videos_have_less_noise_and_an_equal_detector_none() -> None:
    few, many = (noise_of_change(*_flat(_world(1, n)), classes=LABELS) for n in (10, 160))
    assert many < few / 2  # a quarter, by the root of 16
    truth, found = _world(1, 10)
    assert noise_of_change(truth, found[0], found[0], classes=LABELS) == 0.0


def _flat(world: tuple[Any, list[Any]]) -> tuple[Any, Any, Any]:
    truth, (before, after) = world
    return truth, before, after
