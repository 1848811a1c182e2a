"""Detect actions in a video file: decode, encode, detect; in constant memory with windows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stale_edge.bundle import ClassBank, FeatureContract, read_bundle
from stale_edge.config import ExtractConfig
from stale_edge.errors import BundleError, DataError
from stale_edge.progress import Progress, silent
from stale_edge.report.view import Thumbnail
from stale_edge.runtime.base import BaseLocalizer
from stale_edge.runtime.contract import check_feature_spec
from stale_edge.runtime.encoder_recommendation import announced_s, recommended_encoder
from stale_edge.runtime.streaming import StreamingLocalizer
from stale_edge.runtime.timings import Measured, StageTimings, Watch
from stale_edge.runtime.visual_encoder import VisualEncoder, load_encoder
from stale_edge.segments import Detection, FloatArray

if TYPE_CHECKING:
    from stale_edge.video import Snippet

LIVE_S = 3600.0
"""Seconds that a live source counts as where start-up matters: it has no announced length."""


class VideoFindings(NamedTuple):
    """Detections in a video.

    detections: best first.
    n_snippets: T.
    span_s: seconds that its snippets cover; segments lie in [0, span_s].
    notes: parts that could not be read, one sentence each.
    timings: seconds of reading, encoder, network and post-processing.
    thumbnails: small pictures of it, by rising time; empty unless requested.
    class_scores: as in `runtime.timings.Measured`; None unless requested.
    """

    detections: list[Detection]
    n_snippets: int
    span_s: float
    notes: tuple[str, ...]
    timings: StageTimings
    thumbnails: tuple[Thumbnail, ...]
    class_scores: list[FloatArray] | None


@dataclass(frozen=True)
class VideoReader:
    """Reads videos by a bundle's feature contract; the encoder is opened for the first video.

    encoder: an encoder folder; None: the one in the bundle.
    contract: the bundle's; its `preprocessing` says how pictures are prepared.
    precision, runtime, device: as in `load_encoder`.
    threads: CPU threads, >= 1. A file's pictures are encoded by as many threads at once; a live picture by all.
    skip_similar, batch: as in `FrameSettings`.
    live: pictures come one by one, and each is wanted at once.
    """

    bundle: Path
    contract: FeatureContract
    encoder: Path | None = None
    precision: str = "fp32"
    threads: int = 1
    device: str = "cpu"
    runtime: str = "onnxruntime"
    skip_similar: float | None = None
    batch: int = ExtractConfig.batch
    live: bool = False

    @cached_property
    def opened(self) -> VisualEncoder:
        """The encoder, checked against the contract.

        Raises:
            BundleError: no encoder is given or in the bundle, or not in this precision.
            FeatureContractError: it does not match the contract; both values are named.
            DataError: the contract does not say how videos are sampled.
        """
        if self.encoder is None and not read_bundle(self.bundle).manifest.of_role("visual_encoder"):
            raise BundleError(
                f"{self.bundle} takes features: it holds no visual encoder to read videos with; give --encoder, or "
                "export the bundle with --encoder"
            )
        fps, stride = self.sampling
        encoder = load_encoder(
            self.encoder or self.bundle,
            precision=self.precision,
            threads=self.threads if self.live else 1,
            runtime=self.runtime,
            at_once=1 if self.live else self.threads,
            device=self.device,
        )
        way = self.contract.preprocessing
        check_feature_spec(self.contract, encoder.feature_spec(fps=fps, stride=stride, preprocessing=way))
        return encoder

    def recommended(self, videos: Sequence[Path]) -> "VideoReader":
        """Return this reader with the runtime, precision and batch that are fastest here for these videos together.

        Args:
            videos: what will be read; not used by a live reader, whose source counts as long.

        Raises:
            BundleError: nothing is recommended for this encoder, machine and number of threads.
        """
        fps, stride = self.sampling
        seconds = LIVE_S if self.live else announced_s(videos)
        choice = recommended_encoder(
            self.encoder or self.bundle, n_pictures=round(seconds * fps / stride), threads=self.threads
        )
        return replace(self, runtime=choice.runtime, precision=choice.precision, batch=choice.batch)

    @property
    def sampling(self) -> tuple[float, int]:
        """Frames per second, and frames per snippet.

        Raises:
            DataError: the contract does not say.
        """
        if self.contract.fps is None or self.contract.stride is None:
            raise DataError(
                f"{self.bundle}: its feature contract does not say at which fps and stride videos are sampled; "
                "extract features as for its training (stale-edge features), and give those"
            )
        return self.contract.fps, self.contract.stride

    def detect(
        self,
        path: Path,
        localizer: BaseLocalizer,
        *,
        class_bank: ClassBank,
        window: int | None = None,
        overlap: int | None = None,
        for_page: bool = False,
        progress: Progress = silent,
    ) -> VideoFindings:
        """Find the actions in a video.

        Args:
            path: a video file.
            localizer: of this reader's bundle.
            class_bank: the classes to look for.
            window, overlap: as in `Localizer.detect`; with a window, memory does not grow with the video.
            for_page: keep small pictures of it, and the network's class scores.
            progress: called with (stage, seconds done, seconds announced, name).

        Raises:
            StaleEdgeError: there is no encoder, or the file cannot be read as a video.
        """
        from stale_edge.video import FrameSettings, ThumbnailStrip, Timings, open_sampled, snippet_features, watch_video

        encoder, (fps, stride), spent = self.opened, self.sampling, Timings()
        strip = ThumbnailStrip()
        settings = FrameSettings(
            self.batch, self.threads, preprocessing=self.contract.preprocessing, skip_similar=self.skip_similar
        )
        found: list[Detection] = []
        with open_sampled(path, settings, rate=fps / stride) as source:
            watch = watch_video(progress, source, path.stem)

            def look(snippet: "Snippet") -> None:
                if for_page:
                    strip.add(snippet)
                watch(snippet)

            blocks = snippet_features(
                source, encoder, rate=fps / stride, settings=settings, timings=spent, on_snippet=look
            )
            if window is None:
                features = np.concatenate(list(blocks))
                n_snippets, span_s = len(features), len(features) * stride / fps
                measured = localizer.measure(features, duration_s=span_s, class_bank=class_bank, keep_scores=for_page)
            else:
                clock = Watch(class_scores=[] if for_page else None)
                stream = StreamingLocalizer(
                    localizer, window=window, overlap=overlap, class_bank=class_bank, watch=clock
                )
                for block in blocks:
                    found += stream.push(block)
                found = sorted(found + stream.finish(), key=lambda detection: -detection.score)
                measured = Measured(found, clock.timings, clock.class_scores)
                n_snippets, span_s = stream.n_snippets, stream.n_snippets * stride / fps
            notes = source.notes
        timings = measured.timings
        timings.decode_s, timings.encoder_s = spent.decode_s, spent.preprocess_s + spent.encoder_s
        timings.frames_sampled, timings.frames_encoded = n_snippets, spent.n_encoded
        pictures = tuple(Thumbnail(*one) for one in strip.pictures)
        return VideoFindings(measured.detections, n_snippets, span_s, notes, timings, pictures, measured.class_scores)
