"""What the server does with a bundle, without HTTP: detect, infer, stream, through one bounded queue."""

import math
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stale_edge.bundle import ClassBank
from stale_edge.errors import DataError
from stale_edge.runtime.contract import implied_duration_s
from stale_edge.runtime.loading import load_bundle
from stale_edge.runtime.localizer import Localizer
from stale_edge.runtime.streaming import StreamingLocalizer
from stale_edge.runtime.text_encoder import choose_classes
from stale_edge.runtime.video_reader import VideoReader
from stale_edge.segments import Detection, FloatArray
from stale_edge.serving.batching import BatchingWorker
from stale_edge.serving.bodies import video_features

MOST_CLASSES = 1000
DEFAULT_WINDOW = 100


@dataclass(frozen=True)
class ServeSettings:
    """How a bundle is served.

    bundle: its folder. runtime, precision, threads, device: as in `load_bundle`.
    most_waiting: requests that may wait, >= 1; further ones get status 429.
    most_together: videos of equal T in one call of the network, >= 1.
    most_bytes: size of a request's body, >= 1; larger ones get status 413.
    most_streams: WebSocket streams at once, >= 1.
    """

    bundle: Path
    runtime: str = "onnxruntime"
    precision: str = "fp32"
    threads: int = 1
    device: str = "cpu"
    most_waiting: int = 64
    most_together: int = 8
    most_bytes: int = 256 << 20
    most_streams: int = 16


class Service:
    """A bundle with its queue; `close` finishes what waits.

    Raises:
        StaleEdgeError: the bundle cannot be used.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        localizer = load_bundle(
            settings.bundle,
            runtime=settings.runtime,
            precision=settings.precision,
            threads=settings.threads,
            device=settings.device,
        )
        if not isinstance(localizer, Localizer):
            raise DataError("a server runs one runtime; name it in place of auto")
        self.localizer = localizer
        self.reader = VideoReader(settings.bundle, localizer.feature_contract, threads=settings.threads)
        self.worker = BatchingWorker(most_waiting=settings.most_waiting, most_together=settings.most_together)

    def close(self) -> None:
        """Finish what waits and stop."""
        self.worker.close()

    def bank(self, classes: Sequence[str] | None) -> ClassBank:
        """Choose classes; new names are read by the bundle's text encoder.

        Raises:
            DataError: too many. ClassBankError: a name cannot be read.
        """
        if classes is None:
            return self.localizer.class_bank
        if not 1 <= len(classes) <= MOST_CLASSES:
            raise DataError(f"classes must be 1 to {MOST_CLASSES} names; got {len(classes)}")
        return choose_classes(self.settings.bundle, self.localizer.class_bank, tuple(classes))[0]

    def detect(self, features: FloatArray, duration_s: float | None, classes: Sequence[str] | None) -> "Future[Any]":
        """Queue the features (T, C) of a video; the result is a list of detections.

        Raises:
            DataError, ClassBankError: the request cannot be used.
            QueueFullError: try again later.
        """
        if features.ndim != 2 or len(features) == 0:
            raise DataError(f"features must be (T, C) with T >= 1; got shape {features.shape}")
        seconds = (
            implied_duration_s(self.localizer.feature_contract, len(features)) if duration_s is None else duration_s
        )
        if seconds is None or not math.isfinite(seconds) or seconds <= 0:
            raise DataError(f"give duration_s, the length of the video in seconds, > 0; got {seconds}")
        bank = self.bank(classes)
        key = ("detect", features.shape, None if classes is None else tuple(classes))
        return self.worker.submit(key, (features, seconds, bank), self._detect_together)

    def detect_video(self, body: bytes, classes: Sequence[str] | None) -> "Future[Any]":
        """Queue a video in memory; its frames are encoded in the queue's thread too."""
        bank = self.bank(classes)

        def run(items: Sequence[Any]) -> list[list[Detection]]:
            features = video_features(items[0], self.reader)
            fps, stride = self.reader.sampling
            return [self.localizer.detect(features, duration_s=len(features) * stride / fps, class_bank=bank)]

        return self.worker.submit(object(), body, run)

    def infer(self, features: FloatArray, class_embeddings: FloatArray | None) -> "Future[Any]":
        """Queue the network alone; the result holds its outputs by name."""
        return self.worker.submit(
            object(), features, lambda items: [self.localizer.forward(items[0], class_embeddings)]
        )

    def stream(self, classes: Sequence[str] | None, window: int | None, snippet_s: float | None) -> StreamingLocalizer:
        """Start a live stream of snippets."""
        contract = self.localizer.feature_contract
        return StreamingLocalizer(
            self.localizer,
            window=window or contract.resample_to or DEFAULT_WINDOW,
            snippet_s=snippet_s,
            class_bank=self.bank(classes),
        )

    def _detect_together(self, items: Sequence[tuple[FloatArray, float, ClassBank]]) -> list[list[Detection]]:
        bank = items[0][2]
        if len(items) == 1:
            return [self.localizer.detect(items[0][0], duration_s=items[0][1], class_bank=bank)]
        return self.localizer.detect_together(
            np.stack([features for features, _, _ in items]), durations_s=[item[1] for item in items], class_bank=bank
        )


def plain(detections: Sequence[Detection]) -> list[dict[str, Any]]:
    """Give detections as in ActivityNet's layout."""
    return [
        {"label": d.label, "score": float(d.score), "segment": [float(d.start_s), float(d.end_s)]} for d in detections
    ]
