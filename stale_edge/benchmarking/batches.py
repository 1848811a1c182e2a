"""Batches of videos through one session, inside the process that counts them."""

import dataclasses
import gc
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stale_edge.benchmarking.agreement import compare_outputs
from stale_edge.benchmarking.jobs import Job, is_stable
from stale_edge.benchmarking.workloads import DECODED, random_features
from stale_edge.errors import StaleEdgeError

PREPARE_SECONDS = 1.0
"""Warm-up of a batch size ends here at the latest, though not before three calls."""


class Batches:
    """One opened detector, run on as many videos at once as it is asked to.

    Raises:
        StaleEdgeError: an artifact or a package that the job needs is missing.
    """

    def __init__(self, job: Job) -> None:
        from stale_edge.bundle import read_bundle
        from stale_edge.runtime.backends import open_backend, runtime_of

        bundle, row = read_bundle(Path(job.bundle)), runtime_of(job.runtime, job.precision)
        entry = bundle.detector(runtime=row.files, precision=row.precisions[job.precision])
        self._backend = open_backend(
            bundle.checked_path(entry),
            runtime=job.runtime,
            precision=job.precision,
            threads=job.threads,
            outputs=DECODED,
        )
        self._precision, self._length, self._seed = job.precision, job.length, job.seed
        self._channels = bundle.manifest.feature_contract.channels
        self._embeddings = bundle.class_bank.embeddings
        self.model_bytes = entry.bytes

    def prepare(self, batch: int, *, check: bool) -> dict[str, Any]:
        """Warm a batch size up, and hold its outputs against those of one video at a time if `check`.

        Returns:
            `refused`, the reason why this batch cannot be counted, alone; or `seconds` of the last calls, and what
            `Agreement` holds if checked.
        """
        inputs = self._backend.inputs
        fixed = inputs[0].shape[0] if inputs is not None else None
        if isinstance(fixed, int) and fixed != batch:
            return {"refused": f"its file takes batches of {fixed} alone"}
        about: dict[str, Any] = {}
        if check:
            features = self._features(batch)
            alone = [self._run(features[i : i + 1]) for i in range(batch)]
            expected = [np.concatenate([outputs[k] for outputs in alone]) for k in range(len(DECODED))]
            try:
                seen = compare_outputs(
                    expected, self._run(features), precision=self._precision, what=f"a batch of {batch}"
                )
            except StaleEdgeError as error:
                return {"refused": str(error)}
            about = dataclasses.asdict(seen)
        call, seconds = self._call(batch), list[float]()
        while len(seconds) < 3 or not (is_stable(seconds) or sum(seconds) > PREPARE_SECONDS):
            started = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - started)
        return about | {"seconds": seconds[-3:]}

    def window(self, batch: int, *, start: float, seconds: float) -> dict[str, Any]:
        """From `start` on, call without pause until `seconds` have passed and the call then at work has ended.

        Args:
            batch: videos a call, prepared before.
            start: of `time.monotonic`, one clock for all processes of a machine.
            seconds: length of the window.

        Returns:
            `begun`, when the first call began, and `ends`, when each call ended.
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
        return np.stack([random_features(self._length, self._channels, seed=self._seed + i) for i in range(batch)])

    def _call(self, batch: int) -> Callable[[], object]:
        features = self._features(batch)
        return lambda: self._backend.run(features, self._embeddings)

    def _run(self, features: Any) -> Sequence[Any]:
        outputs = self._backend.run(features, self._embeddings)
        return [outputs[name] for name in DECODED]
