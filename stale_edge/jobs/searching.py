"""Finding actions by name in videos: a CLIP is exported once into a cache, later searches run without torch."""

import hashlib
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stale_edge.bundle import MANIFEST_NAME, read_bundle
from stale_edge.bundle.encoder_folder import is_encoder
from stale_edge.errors import CheckpointError, ClassBankError, DataError, MissingExtraError, StaleEdgeError
from stale_edge.interchange.subtitles import write_vtt
from stale_edge.interchange.timelines import Span, Timeline
from stale_edge.progress import Progress, silent
from stale_edge.runtime.adaptation import AdaptingLocalizer
from stale_edge.runtime.detect import Detector
from stale_edge.runtime.detect_inputs import find_inputs
from stale_edge.runtime.detect_output import DetectionRun, Found, summarize
from stale_edge.runtime.detect_settings import DetectSettings, OutputSettings

DEFAULT_ENCODER = "openai/clip-vit-base-patch32"
FOUND_SCORE = 0.2
"""A name whose best score is lower is not found: in simulated videos one absent name in twenty scores more."""
CACHE_VARIABLE = "STALE_EDGE_CACHE"
_CACHE_FORMAT = "find/1"
_OWN_CLASSES = ("walking", "running")
"""A bundle has classes of its own; a search does not look at them."""


@dataclass(frozen=True)
class FindSettings:
    """Settings of a search.

    encoder: CLIP by hub name or local folder, exported into the cache at its first use; or a bundle that
        `export --arch training-free` made.
    background: file of background prompts, one a line; None: the default list.
    rate: snippets a second, > 0; None: the default.
    min_score: lowest score of a detection, in [0, 1]; a name without any is not found.
    adapt_steps: steps of the adaptation to each video, >= 0; 0: none.
    threads: CPU threads, >= 1.
    device: as in `load_bundle`.
    """

    encoder: str = DEFAULT_ENCODER
    background: Path | None = None
    rate: float | None = None
    min_score: float = FOUND_SCORE
    adapt_steps: int = 0
    threads: int = 1
    device: str = "cpu"


@dataclass(frozen=True)
class FindRun:
    """What was found.

    run: the detections as text, and the seconds by stage.
    found: the detections of each video that could be read, best first.
    not_found: names without a detection, by video.
    prepare_s, adapt_s: seconds of opening (at the first use also exporting) the encoder, and of the adaptation.
    """

    run: DetectionRun
    found: Mapping[str, Found]
    not_found: Mapping[str, tuple[str, ...]]
    prepare_s: float
    adapt_s: float

    def to_vtt(self) -> str:
        """Write the detections of the one video as WebVTT.

        Raises:
            DataError: there are several videos.
        """
        if len(self.found) != 1:
            raise DataError(f"subtitles belong to one video; got {len(self.found)}: find in one by one, or write json")
        (one,) = self.found.values()
        spans = (Span(d.label, d.start_s, d.end_s, d.score) for d in one.detections)
        return write_vtt(Timeline(tuple(spans), one.span_s))

    def to_json(self) -> dict[str, object]:
        """Plain JSON values."""
        total = self.run.total
        return {
            "videos": {
                video: {
                    "duration_s": one.span_s,
                    "found": [[d.label, d.score, d.start_s, d.end_s] for d in one.detections],
                    "not_found": list(self.not_found[video]),
                }
                for video, one in self.found.items()
            },
            "errors": list(self.run.errors),
            "seconds": {
                "prepare": self.prepare_s,
                **{stage: total.seconds(stage) for stage in total.STAGES},
                "adapt": self.adapt_s,
            },
        }


def find(
    videos: Sequence[Path | str],
    names: Sequence[str],
    *,
    settings: FindSettings | None = None,
    output: OutputSettings | None = None,
    progress: Progress = silent,
) -> FindRun:
    """Find named actions in videos, without training and without annotations.

    Args:
        videos: video files, or folders of them.
        names: distinct names of actions, in plain words.
        settings: encoder and limits; None: the defaults.
        output: format of the text; None: HTML.
        progress: called with (stage, done, total).

    Raises:
        ClassBankError: there is no name, one is there twice, or one cannot be read.
        DataError: an input is no video, or no video could be read.
        CheckpointError, MissingExtraError: the encoder cannot be had; the message says how to get it.
        StaleEdgeError: the encoder's export failed its parity check, or a file is damaged.
    """
    settings = FindSettings() if settings is None else settings
    output = replace(OutputSettings("html") if output is None else output, min_score=settings.min_score)
    names = check_names(names)
    items = find_inputs([Path(video) for video in videos])
    features = [item for item in items if not item.is_video]
    if features:
        raise DataError(f"{features[0].path}: find takes videos; got features; use stale-edge detect for them")
    if output.format == "srt" and len(items) != 1:
        raise DataError(f"subtitles belong to one video; got {len(items)}: find in one by one, or write json")
    missing = [item.path for item in items if not item.path.is_file()]
    if missing:
        raise DataError(f"{missing[0]}: no such file; give a video or a folder of videos, then the names to find")
    started = time.perf_counter()
    bundle = prepared_bundle(settings, progress=progress)
    detector = Detector(
        DetectSettings(bundle, classes=names, threads=settings.threads, device=settings.device),
        for_page=output.format == "html",
    )
    detector.open_encoder([item.path for item in items])
    adapting = AdaptingLocalizer(detector.localizer, steps=settings.adapt_steps)
    if settings.adapt_steps:
        detector.localizer = adapting  # type: ignore[assignment]
    prepare_s = time.perf_counter() - started
    found: dict[str, Found] = {}
    errors = []
    for done, item in enumerate(items):
        progress("find", done, len(items))
        try:
            one = detector.detect(item, progress=progress)
        except StaleEdgeError as error:
            errors.append(str(error))
            continue
        kept = [d for d in one.detections if d.score >= settings.min_score]
        found[item.video] = replace(one, detections=kept)
    progress("find", len(items), len(items))
    run = summarize(list(found.values()), errors, items, output=output, snippet_s=detector.snippet_s)
    not_found = {video: _absent(names, one) for video, one in found.items()}
    return FindRun(run, found, not_found, prepare_s, adapting.adapt_s)


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """Refuse names that cannot be searched for, before anything is opened.

    Raises:
        ClassBankError: there is none, or one is empty or there twice.
    """
    words = tuple(" ".join(name.split()) for name in names)
    if not words or not all(words):
        raise ClassBankError('find needs names of actions after the video, for example "pole vault"; got none, or "" ')
    twice = sorted({name for name in words if words.count(name) > 1})
    if twice:
        raise ClassBankError(f"names must be distinct; more than once: {', '.join(twice)}")
    return words


def cache_folder() -> Path:
    """Give the folder of exported encoders: $STALE_EDGE_CACHE, else stale-edge in $XDG_CACHE_HOME or ~/.cache."""
    own = os.environ.get(CACHE_VARIABLE)
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stale-edge"


def prepared_bundle(settings: FindSettings, *, progress: Progress = silent) -> Path:
    """Give the bundle to search with; a CLIP that was not used before is exported into the cache, which needs torch.

    Raises:
        DataError: the encoder is a folder of a kind that cannot be used.
        CheckpointError, MissingExtraError: it cannot be had; the message says how to get it.
        ParityError: its export differs from it; nothing was kept.
    """
    source = Path(settings.encoder)
    if is_encoder(source):
        raise DataError(
            f"{source} is a visual encoder alone, and names need its text encoder too; give the CLIP it was made of, "
            "or a bundle of stale-edge export --arch training-free"
        )
    if (source / MANIFEST_NAME).is_file():
        architecture = read_bundle(source).manifest.architecture
        if architecture != "training-free":
            raise DataError(
                f"{source} is a bundle of {architecture}; find takes one of training-free, or a CLIP; to use this one: "
                "stale-edge detect"
            )
        return source
    target = cache_folder() / "find" / _cache_name(settings)
    if not (target / MANIFEST_NAME).is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        _export(settings, target, progress)
    return target


def _export(settings: FindSettings, target: Path, progress: Progress) -> None:
    try:
        from stale_edge.exporting.clip_to_bundle import export_training_free
        from stale_edge.model.training_free.prompts import Prompts, read_prompts
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"the first search with {settings.encoder} exports it, which needs {error.name}: "
            "pip install 'stale-edge[train,export,video,text]'; later searches do not"
        ) from error
    prompts = Prompts() if settings.background is None else Prompts(background=read_prompts(settings.background))
    try:
        export_training_free(
            settings.encoder,
            target,
            classes=_OWN_CLASSES,
            prompts=prompts,
            rate=settings.rate,
            formats=("onnx",),
            precisions=("fp32",),
            progress=progress,
        )
    except CheckpointError as error:
        if Path(settings.encoder).is_dir():
            raise
        raise CheckpointError(
            f"there is no CLIP {settings.encoder!r} here; where there is a network: hf download {settings.encoder} "
            "--local-dir clip, then --encoder clip"
        ) from error


def _cache_name(settings: FindSettings) -> str:
    """Name the cached bundle after everything that it depends on."""
    folder = Path(settings.encoder)
    files = sorted(file for file in folder.iterdir() if file.is_file()) if folder.is_dir() else []
    parts = {
        "format": _CACHE_FORMAT,
        "source": str(folder.resolve()) if files else settings.encoder,
        "files": [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files],
        "background": None if settings.background is None else settings.background.read_text(encoding="utf-8"),
        "rate": settings.rate,
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
    return f"{re.sub(r'[^A-Za-z0-9.-]+', '-', folder.name) or 'clip'}-{digest}"


def _absent(names: Sequence[str], found: Found) -> tuple[str, ...]:
    labels = {d.label for d in found.detections}
    return tuple(name for name in names if name not in labels)
