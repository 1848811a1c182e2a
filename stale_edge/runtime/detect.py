"""`stale-edge detect`: feature files in, text for people or programs out."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from stale_edge.data import FeatureFolder, read_features, read_split
from stale_edge.errors import DataError
from stale_edge.report.formats import Formatter, to_csv, to_html, to_json, to_srt
from stale_edge.runtime.contract import implied_duration_s
from stale_edge.runtime.localizer import Localizer, load_bundle
from stale_edge.segments import Detection, FloatArray

LoadFeatures = Callable[[], FloatArray]

FORMATTERS: dict[str, Formatter] = {"json": to_json, "csv": to_csv, "srt": to_srt, "html": to_html}


def detect_files(
    bundle: Path,
    inputs: Sequence[Path],
    *,
    classes: Path | None = None,
    output_format: str = "json",
    duration_s: float | None = None,
    runtime: str = "onnxruntime",
    precision: str = "fp32",
    threads: int = 1,
    progress: Callable[..., None] | None = None,
) -> str:
    """Detect actions in feature files and write them down.

    Args:
        bundle: the bundle's folder.
        inputs: feature files, a video each and called like it, or folders of them; no video may come twice.
        classes: file with the class names to look for, one a line; None: all of the bundle's.
        output_format: `json` (ActivityNet's layout), `csv`, `srt` (one video alone) or `html`.
        duration_s: length of the one video, > 0; None: T * stride / fps as the bundle's feature contract says.
        runtime, precision, threads: as in `load_bundle`.
        progress: called with (stage, done, total) after every video.

    Raises:
        ValueError: an unknown format, subtitles of several videos, or one duration for several videos.
        DataError: no video, a video twice, an unreadable file, or nothing says how long a video is.
        StaleEdgeError: the bundle cannot be used, or features do not fit it.
    """
    if output_format not in FORMATTERS:
        raise ValueError(f"output format must be one of {', '.join(FORMATTERS)}; got {output_format!r}")
    videos = dict(_videos(inputs))
    if len(videos) > 1 and duration_s is not None:
        raise DataError(f"one duration cannot be that of {len(videos)} videos; detect them one by one")
    if len(videos) > 1 and output_format == "srt":
        raise DataError(f"subtitles belong to one video; got {len(videos)}: detect one by one, or write json")
    localizer = load_bundle(bundle, runtime=runtime, precision=precision, threads=threads)
    names = None if classes is None else read_split(classes)
    results: dict[str, list[Detection]] = {}
    durations: dict[str, float] = {}
    for done, (video, load) in enumerate(videos.items(), start=1):
        features = load()
        durations[video] = duration_s if duration_s is not None else _duration_s(localizer, video, features)
        results[video] = localizer.detect(features, duration_s=durations[video], class_bank=names)
        if progress is not None:
            progress("detect", done, len(videos))
    return FORMATTERS[output_format](results, durations=durations)


def _videos(inputs: Sequence[Path]) -> Iterator[tuple[str, LoadFeatures]]:
    seen: dict[str, Path] = {}
    for path in map(Path, inputs):
        if path.is_dir():
            folder = FeatureFolder(path)
            found: list[tuple[str, LoadFeatures]] = [(video, partial(folder.load, video)) for video in folder.videos]
        else:
            found = [(path.stem, partial(read_features, path))]
        for video, load in found:
            if video in seen:
                raise DataError(f"video {video} comes twice, from {seen[video]} and {path}; name it once")
            seen[video] = path
            yield video, load
    if not seen:
        raise DataError(f"no feature file in {', '.join(map(str, inputs)) or 'the inputs'}")


def _duration_s(localizer: Localizer, video: str, features: FloatArray) -> float:
    implied = implied_duration_s(localizer.feature_contract, len(features))
    if implied is None:
        raise DataError(
            f"{video}: nothing says how long the video is: the bundle's feature contract has no fps and stride; "
            "give the duration in seconds (--duration)"
        )
    return implied
