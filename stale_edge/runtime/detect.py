"""Turn features or videos into the text of a file of detections, for `stale-edge detect`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from stale_edge.config import Preprocessing
from stale_edge.data import Annotations, read_annotations, read_split
from stale_edge.errors import DataError, FeatureContractError, StaleEdgeError, reason
from stale_edge.progress import Progress, silent
from stale_edge.report.formats import FORMATTERS, SELECTIONS, Selection, meaningful_decimals, to_html
from stale_edge.report.view import ClassCurves, Thumbnail, Truth, VideoView
from stale_edge.runtime.contract import check_spec_near, implied_duration_s
from stale_edge.runtime.detect_inputs import Input, find_inputs
from stale_edge.runtime.localizer import load_bundle
from stale_edge.runtime.recommendation import AUTO
from stale_edge.runtime.text_encoder import choose_classes
from stale_edge.runtime.timings import StageTimings
from stale_edge.runtime.video_reader import VideoReader
from stale_edge.runtime.views import class_curves, link_to
from stale_edge.runtime.windows import WindowPlan, check_windows
from stale_edge.segments import Detection, FloatArray, find_video

_MOST_ERRORS = 5
"""Number of bad inputs named when every input is bad, so that the line stays short."""


@dataclass(frozen=True)
class DetectSettings:
    """Settings of detection: everything but the inputs.

    bundle: the bundle's folder.
    classes: names to look for, from the bundle's class bank or any that its text encoder reads; None: the whole bank.
    duration_s: length in seconds, > 0, of every video that is given as features; None: from its data set's
        annotations, else T * stride / fps of the bundle's feature contract.
    runtime, precision, threads, device: as in `load_bundle`.
    window, overlap: as in `Localizer.detect`; with a window, `.npy` files and videos are read window by window.
    encoder: visual encoder for videos; None: the bundle's.
    encoder_precision, encoder_runtime: precision and runtime as in `load_encoder`; runtime `auto` is the fastest way
        that `bench --video --recommend` found for this machine, its precision with it.
    preprocessing: how pictures are prepared, and the only way accepted of features; None: as the contract says.
    skip_similar: as in `FrameSettings`; None: every picture is encoded.
    """

    bundle: Path
    classes: tuple[str, ...] | None = None
    duration_s: float | None = None
    runtime: str = "onnxruntime"
    precision: str = "fp32"
    threads: int = 1
    window: int | None = None
    overlap: int | None = None
    encoder: Path | None = None
    encoder_precision: str = "fp32"
    device: str = "cpu"
    encoder_runtime: str = "onnxruntime"
    preprocessing: Preprocessing | None = None
    skip_similar: float | None = None


@dataclass(frozen=True)
class OutputSettings:
    """Settings of the output.

    format: `json` (ActivityNet's layout), `csv`, `srt` (one video alone) or `html`.
    page: path of the `html` file, for relative links to the videos; None: absolute links.
    truth: annotations that `html` shows beside the detections; None: those of the data set, if there is one.
    min_score: lowest score that is written, in [0, 1]; None: the format's own limit.
    top_k: largest number of detections per video, >= 1; None: the format's own.

    Raises:
        ValueError: an unknown format.
    """

    format: str = "json"
    page: Path | None = None
    truth: Path | None = None
    min_score: float | None = None
    top_k: int | None = None

    @property
    def selection(self) -> Selection:
        """Which detections are written; a score that is given replaces the format's own limits."""
        chosen = SELECTIONS[self.format]
        if self.min_score is not None:
            chosen = replace(chosen, min_score=self.min_score, min_share=0.0)
        return chosen if self.top_k is None else replace(chosen, top_k=self.top_k)

    def __post_init__(self) -> None:
        if self.format not in FORMATTERS:
            raise ValueError(f"the output format must be one of {', '.join(FORMATTERS)}; got {self.format!r}")


@dataclass(frozen=True)
class Found:
    """Detections in one video.

    span_s: seconds that its snippets cover; segments lie in [0, span_s].
    notes: parts of it that could not be read.
    thumbnails, curves: for a page, if requested.
    provider: what computed the detector, as `Localizer.provider`; empty: not recorded.
    """

    video: str
    detections: list[Detection]
    span_s: float
    timings: StageTimings
    notes: tuple[str, ...] = ()
    thumbnails: tuple[Thumbnail, ...] = ()
    curves: ClassCurves | None = None
    provider: str = ""


@dataclass(frozen=True)
class DetectionRun:
    """Detections in several inputs.

    text: the detections of every input that could be read, in the requested format.
    errors: one line for every input that could not be read; equal lines appear once.
    encoded: class names that the class bank lacks and that the bundle's text encoder embedded.
    timings: seconds by stage, for each video.
    has_videos: whether a video was among the inputs, and not only features.
    notes: parts that could not be read, by video; only videos that have such parts.
    providers: what computed the detector, as `Localizer.provider`; without repetition.
    n_written, n_left_out: number of detections in the text, and of those that the selection left out.
    """

    text: str
    errors: tuple[str, ...]
    encoded: tuple[str, ...] = ()
    timings: Mapping[str, StageTimings] = field(default_factory=dict)
    has_videos: bool = False
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    providers: tuple[str, ...] = ()
    n_written: int = 0
    n_left_out: int = 0

    @property
    def total(self) -> StageTimings:
        """Sum of the stages over all videos."""
        summed = StageTimings()
        for timings in self.timings.values():
            summed.add(timings)
        return summed


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


def summarize(
    found: Sequence[Found],
    errors: Sequence[str],
    items: Sequence[Input],
    *,
    output: OutputSettings,
    encoded: tuple[str, ...] = (),
    snippet_s: float | None = None,
) -> DetectionRun:
    """Format the detections of many inputs.

    Args:
        found: detections of the inputs that could be used; errors: one line for each of the others.
        items: the inputs.
        output: format and selection.
        encoded: class names that were embedded.
        snippet_s: seconds of a snippet, which times are rounded to; None: unknown.

    Raises:
        DataError: there are errors and no input could be used (the first few errors are named), or the annotations to
            show cannot be read.
    """
    lines = tuple(dict.fromkeys(errors))  # an error of a whole folder is reported once, not per video
    if lines and not found:
        more = f"; and {len(lines) - _MOST_ERRORS} more" if len(lines) > _MOST_ERRORS else ""
        raise DataError("; ".join(lines[:_MOST_ERRORS]) + more)
    results = {one.video: output.selection.of(one.detections) for one in found}
    left_out = {one.video: len(one.detections) - len(results[one.video]) for one in found}
    durations = {one.video: one.span_s for one in found}
    if output.format == "html":
        truth = None if output.truth is None else read_annotations(output.truth)
        views = _views(found, items, page=output.page, truth=truth)
        text = to_html(results, durations=durations, views=views, left_out=left_out)
    else:
        text = FORMATTERS[output.format](results, durations=durations, decimals=meaningful_decimals(snippet_s))
    return DetectionRun(
        text,
        lines,
        encoded,
        {one.video: one.timings for one in found},
        any(item.is_video for item in items),
        {one.video: one.notes for one in found if one.notes},
        tuple(dict.fromkeys(one.provider for one in found if one.provider)),
        n_written=sum(map(len, results.values())),
        n_left_out=sum(left_out.values()),
    )


def _views(
    found: Sequence[Found], items: Sequence[Input], *, page: Path | None, truth: Annotations | None
) -> dict[str, VideoView]:
    by_name = {item.video: item for item in items}
    views = {}
    for one in found:
        item = by_name[one.video]
        actions = item.truth
        if truth is not None:
            name = find_video(one.video, truth.videos)
            actions = tuple(Truth(*action) for action in truth.videos[name].actions) if name else None
        link = link_to(item.path, page) if item.is_video else None
        views[one.video] = VideoView(link, one.thumbnails, one.curves, actions)
    return views


def class_list(text: str) -> tuple[str, ...]:
    """Read the class names of `--classes`: a file with one name per line, or the names themselves, separated by commas.

    Raises:
        DataError: the file cannot be used, or there is no name.
    """
    if Path(text).is_file():
        return read_split(Path(text))
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names or (len(names) == 1 and Path(text).suffix in (".txt", ".list")):
        raise DataError(f"--classes {text!r}: no such file; give a file with one class name a line, or name,name,...")
    return names
