"""Turn features or videos into the text of a file of detections, for `stale-edge detect`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from stale_edge.errors import DataError, FeatureContractError, StaleEdgeError, reason
from stale_edge.progress import Progress, silent
from stale_edge.report.view import ClassCurves
from stale_edge.runtime.contract import check_spec_near, implied_duration_s
from stale_edge.runtime.detect_inputs import Input, find_inputs
from stale_edge.runtime.detect_output import DetectionRun, Found, summarize
from stale_edge.runtime.detect_settings import DetectSettings, OutputSettings
from stale_edge.runtime.fusion import Fusion
from stale_edge.runtime.loading import load_bundle
from stale_edge.runtime.recommendation import AUTO
from stale_edge.runtime.text_encoder import choose_classes
from stale_edge.runtime.video_reader import VideoReader
from stale_edge.runtime.views import class_curves
from stale_edge.runtime.windows import WindowPlan, check_windows
from stale_edge.segments import FloatArray


class Detector:
    """A bundle opened for many inputs, one after the other.

    Args:
        settings: how to detect.
        for_page: collect also the thumbnails and curves that a page shows.

    Raises:
        ValueError: window or overlap is not allowed.
        BundleError, VerificationError, ClassBankError: the bundle or the class names cannot be used.
    """

    def __init__(self, settings: DetectSettings, *, for_page: bool = False) -> None:
        check_windows(settings.window, settings.overlap)
        self.localizer = load_bundle(
            settings.bundle,
            runtime=settings.runtime,
            precision=settings.precision,
            threads=settings.threads,
            device=settings.device,
        )
        self.bank = self.localizer.class_bank
        self.encoded: tuple[str, ...] = ()
        if settings.classes is not None:
            self.bank, self.encoded = choose_classes(settings.bundle, self.bank, settings.classes)
        self._fusion = None if settings.class_scores is None else Fusion(settings.class_scores, names=self.bank.names)
        self._settings = settings
        self._for_page = for_page
        self._contract = self.localizer.feature_contract
        if settings.preprocessing is not None:
            self._contract = replace(self._contract, preprocessing=settings.preprocessing)
        self._reader = VideoReader(
            settings.bundle,
            self._contract,
            encoder=settings.encoder,
            precision=settings.encoder_precision,
            threads=settings.threads,
            device=settings.device,
            runtime=settings.encoder_runtime,
            skip_similar=settings.skip_similar,
        )

    @property
    def snippet_s(self) -> float | None:
        """Seconds of a snippet, as the bundle's feature contract says; None: it does not say."""
        return implied_duration_s(self.localizer.feature_contract, 1)

    def open_encoder(self, videos: Sequence[Path] = ()) -> None:
        """Open the visual encoder now, so that its errors are reported once and not for every video.

        Args:
            videos: what will be read; a recommended way to run the encoder depends on how long they are together.

        Raises:
            StaleEdgeError: there is no encoder, it does not match the feature contract, or nothing is recommended.
        """
        if self._reader.runtime == AUTO:
            self._reader = self._reader.recommended(videos)
        _ = self._reader.opened

    def detect(self, item: Input, *, progress: Progress = silent) -> Found:
        """Find the actions in one input.

        Args:
            progress: called with how far a video has been read.

        Raises:
            StaleEdgeError: the input cannot be used; the message names it.
        """
        try:
            if item.problem:
                raise DataError(item.problem)
            found = self._in_video(item, progress) if item.is_video else self._in_features(item)
            if self._fusion is not None:
                found = replace(found, detections=self._fusion(item.video, found.detections))
        except StaleEdgeError as error:
            if str(item.source) in str(error):
                raise
            raise DataError(f"{item.source}: {error}") from error
        except (OSError, MemoryError) as error:
            raise DataError(f"{item.source}: {item.video} cannot be read: {reason(error)}") from error
        found.timings.video_s = found.span_s
        return replace(found, provider=self.localizer.provider)

    def _in_video(self, item: Input, progress: Progress) -> Found:
        settings = self._settings
        found = self._reader.detect(
            item.path,
            self.localizer,
            class_bank=self.bank,
            window=settings.window,
            overlap=settings.overlap,
            for_page=self._for_page,
            progress=progress,
        )
        curves = self._curves(found.class_scores, found.n_snippets)
        return Found(item.video, found.detections, found.span_s, found.timings, found.notes, found.thumbnails, curves)

    def _in_features(self, item: Input) -> Found:
        settings, contract = self._settings, self._contract
        check_spec_near(contract, item.source)
        features = item.features(lazily=settings.window is not None)
        seconds = settings.duration_s if settings.duration_s is not None else item.duration_s
        if seconds is None:
            seconds = implied_duration_s(contract, features.shape[0])
        if seconds is None:
            raise DataError(
                f"{item.source}: nobody says how long this video is: the bundle's feature contract has no fps and "
                "stride; give --duration SECONDS"
            )
        try:
            found = self.localizer.measure(
                features,
                duration_s=seconds,
                class_bank=self.bank,
                window=settings.window,
                overlap=settings.overlap,
                keep_scores=self._for_page,
            )
        except FeatureContractError as error:
            where = item.source / item.video if item.source.is_dir() else item.source
            raise FeatureContractError(f"{where}: {error}") from error
        curves = self._curves(found.class_scores, features.shape[0])
        return Found(item.video, found.detections, seconds, found.timings, curves=curves)

    def _curves(self, parts: Sequence[FloatArray] | None, n_snippets: int) -> ClassCurves | None:
        window = self._settings.window
        if not parts:
            return None
        plan = None if window is None else WindowPlan.of(window, self._settings.overlap)
        return class_curves(self.bank.names, parts, n_snippets=n_snippets, plan=plan)


def detect_files(
    settings: DetectSettings | Path,
    inputs: Sequence[Path],
    *,
    output: OutputSettings | None = None,
    progress: Progress = silent,
) -> DetectionRun:
    """Detect actions in videos, feature files, folders of them, or whole data sets; one bad file does not end the run.

    A `feature_spec.json` beside features, or one folder up, must match the bundle's feature contract; so must the
    encoder that reads videos.

    Args:
        settings: how to detect; a path means that bundle with default settings.
        inputs: videos, feature files, folders of either, or data set folders.
        output: format of the text; None: JSON.
        progress: called with (stage, done, total).

    Raises:
        ValueError: a duration is not > 0, or window or overlap is not allowed.
        BundleError, VerificationError, ClassBankError: the bundle, the class names or the encoder cannot be used.
        FeatureContractError: the encoder does not match the bundle; both values are named.
        DataError: two inputs have the same name, a folder has no features and no videos, or no input could be used.
    """
    output = OutputSettings() if output is None else output
    if not isinstance(settings, DetectSettings):
        settings = DetectSettings(settings)
    detector = Detector(settings, for_page=output.format == "html")
    items = find_inputs(inputs)
    if output.format == "srt" and len(items) != 1:
        raise DataError(f"subtitles belong to one video; got {len(items)}: detect one by one, or write json")
    if any(item.is_video for item in items):
        detector.open_encoder([item.path for item in items if item.is_video])
    found: list[Found] = []
    errors = []
    for done, item in enumerate(items):
        progress("detect", done, len(items))
        try:
            found.append(detector.detect(item, progress=progress))
        except StaleEdgeError as error:
            errors.append(str(error))
    progress("detect", len(items), len(items))
    return summarize(found, errors, items, output=output, encoded=detector.encoded, snippet_s=detector.snippet_s)
