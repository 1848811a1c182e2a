"""Batches of videos through one session, inside the measuring process."""

import dataclasses
import gc
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from stale_edge.benchmarking.deployed_detector import DeployedDetector
from stale_edge.benchmarking.jobs import Job, is_stable
from stale_edge.benchmarking.output_check import compare_outputs
from stale_edge.benchmarking.synthetic import random_features
from stale_edge.errors import StaleEdgeError

PREPARE_SECONDS = 1.0
"""Longest warm-up of a batch size, in seconds; there are always at least three calls."""


class Batches:
    """One opened detector that runs on batches of any size.

    Raises:
        StaleEdgeError: an artifact or a package that the job needs is missing.
    """

    def __init__(self, job: Job) -> None:
        self._detector = DeployedDetector(job)
        self._precision, self._length, self._seed = job.precision, job.length, job.seed
        self.model_bytes = self._detector.model_bytes

    def prepare(self, batch: int, *, check: bool) -> dict[str, Any]:
        """Warm up a batch size; if `check`, compare its outputs with those of one video at a time.

        Returns:
            Only `refused`, the reason why this batch cannot be measured; or `seconds` of the last calls, and the fields
            of `Agreement` if checked.
        """
        fixed = self._detector.fixed_batch
        if fixed not in (None, batch):
            return {"refused": f"its file takes batches of {fixed} alone"}
        about: dict[str, Any] = {}
        if check:
            features = self._features(batch)
            alone = [self._detector.run(features[i : i + 1]) for i in range(batch)]
            expected = {name: np.concatenate([one[name] for one in alone]) for name in alone[0]}
            try:
                found = compare_outputs(
                    expected,
                    self._detector.run(features),
                    axis=self._detector.class_axis,
                    precision=self._precision,
                    what=f"a batch of {batch}",
                )
            except StaleEdgeError as error:
                return {"refused": str(error)}
            about = dataclasses.asdict(found)
        call, seconds = self._call(batch), list[float]()
        while len(seconds) < 3 or not (is_stable(seconds) or sum(seconds) > PREPARE_SECONDS):
            started = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - started)
        return about | {"seconds": seconds[-3:]}

    def window(self, batch: int, *, start: float, seconds: float) -> dict[str, Any]:
        """Call without pause from `start` on, for `seconds` and until the last call has ended.

        Args:
            batch: videos per call; must be prepared before.
            start: time by `time.monotonic`, which is one clock for all processes of a machine.
            seconds: length of the window.

        Returns:
            `begun`, start of the first call, and `ends`, end of each call; times by `time.monotonic`.
        """
        call, ends = self._call(batch), list[float]()
        gc.collect()
        time.sleep(max(0.0, start - time.monotonic() - 0.002))
        while (begun := time.monotonic()) < start:
            pass
        while not ends or ends[-1] < start + seconds:
            call()
            ends.append(time.monotonic())
        return {"begun": begun, "ends": ends}

    def _features(self, batch: int) -> Any:
        channels = self._detector.channels
        return np.stack([random_features(self._length, channels, seed=self._seed + i) for i in range(batch)])

    def _call(self, batch: int) -> Callable[[], object]:
        features = self._features(batch)
        return lambda: self._detector.run(features)
