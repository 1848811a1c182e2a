"""`convert`: any file of segments to any other; the formats are the two tables below."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stale_edge.bundle.files import write_file_atomically
from stale_edge.data.annotations import Annotations, parse_database, read_annotations, read_json, refusing
from stale_edge.errors import DataError, shown
from stale_edge.interchange.editing import write_cuts
from stale_edge.interchange.elan import read_elan, write_elan
from stale_edge.interchange.fiftyone import read_fiftyone, write_fiftyone
from stale_edge.interchange.label_studio import read_label_studio, write_label_studio
from stale_edge.interchange.subtitles import write_srt, write_vtt
from stale_edge.interchange.tables import read_csv, write_audacity, write_csv
from stale_edge.interchange.timelines import (
    Timeline,
    Timelines,
    checked,
    of_annotations,
    to_annotations,
    to_detections,
)
from stale_edge.paths import MOST_TEXT_BYTES, inside, read_regular
from stale_edge.report.formats import to_layout
from stale_edge.segments import find_video

Write = Callable[[Timelines, Mapping[str, str]], str]
WriteOne = Callable[[str, Timeline, str], str]

WRITERS: Mapping[str, Write] = {
    "annotations": lambda found, _: _json(to_annotations(found).to_layout()),
    "detections": lambda found, _: _json(to_layout(to_detections(found))),
    "csv": lambda found, _: write_csv(found),
    "label-studio": lambda found, media: write_label_studio(found, media=media),
    "fiftyone": lambda found, _: write_fiftyone(found),
}
"""Formats of one file for all videos; the second argument holds the address of each video."""

ONE_VIDEO: Mapping[str, tuple[str, WriteOne]] = {
    "vtt": (".vtt", lambda _, found, __: write_vtt(found)),
    "srt": (".srt", lambda _, found, __: write_srt(found)),
    "elan": (".eaf", lambda video, found, media: write_elan(video, found, media=media)),
    "audacity": (".txt", lambda _, found, __: write_audacity(found)),
    "otio": (".otio", lambda video, found, media: write_cuts(video, found, ".otio", media=media)),
    "edl": (".edl", lambda video, found, media: write_cuts(video, found, ".edl", media=media)),
    "fcpxml": (".fcpxml", lambda video, found, media: write_cuts(video, found, ".fcpxml", media=media)),
}
"""Formats of one file per video: suffix, and what writes it of name, segments and address."""

PICTURES = ("clips", "sheet")
"""Formats that are cut from the videos themselves."""

FORMATS = (*WRITERS, *ONE_VIDEO, *PICTURES)

READERS: Mapping[str, Callable[[Any, str], dict[str, Timeline]]] = {
    "annotations": lambda document, where: of_annotations(_parsed(document, where)),
    "detections": lambda document, where: _of_detections(document, where),
    "label-studio": read_label_studio,
    "fiftyone": read_fiftyone,
}
"""Formats of JSON that are read; `.csv` and `.eaf` are recognised by their suffix."""


@dataclass(frozen=True)
class ConvertOptions:
    """What a conversion may need beside its source.

    to: one of `FORMATS`; None: as the suffix of the target says.
    durations: annotations that say the length and subset of each video, where the source does not.
    videos: folder of the videos, for clips, sheets, their addresses and lengths.
    min_score: detections that score less are left out.
    """

    to: str | None = None
    durations: Path | None = None
    videos: Path | None = None
    min_score: float = 0.0


@dataclass(frozen=True)
class Converted:
    """What was written: the format, its files, and how many videos and segments they hold."""

    to: str
    files: tuple[Path, ...]
    n_videos: int
    n_segments: int


def convert(source: Path, target: Path, options: ConvertOptions | None = None) -> Converted:
    """Convert annotations or detections to another format.

    Args:
        source: JSON of ActivityNet (annotations, detections), Label Studio or FiftyOne; CSV; an ELAN file or a folder
            of them.
        target: a file; for formats of one video, a folder if there are several videos.
        options: format, lengths, videos, smallest score.

    Raises:
        DataError: the source cannot be read, or the format needs what is not known; the message says how to give it.
        MissingExtraError: a package that the format needs is not installed.
    """
    options = ConvertOptions() if options is None else options
    timelines = _completed(read_timelines(source), options)
    to = options.to or _format_of(target, timelines)
    media = {} if options.videos is None else _videos(options.videos, timelines)
    counts = len(timelines), sum(len(timeline.spans) for timeline in timelines.values())
    if to in PICTURES:
        return Converted(to, tuple(_write_pictures(to, target, timelines, media)), *counts)
    addresses = {video: path.resolve().as_uri() for video, path in media.items()}
    if to in WRITERS:
        _write(target, WRITERS[to](timelines, addresses))
        return Converted(to, (target,), *counts)
    suffix, write = ONE_VIDEO[to]
    if len(timelines) == 1 and target.suffix.lower() == suffix:
        files = {target: next(iter(timelines))}
    else:
        files = {inside(target, video, suffix=suffix): video for video in timelines}
    for path, video in files.items():
        _write(path, write(video, timelines[video], addresses.get(video, "")))
    return Converted(to, tuple(files), *counts)


def read_timelines(source: Path) -> dict[str, Timeline]:
    """Read a file of any known format, or a folder of ELAN files.

    Raises:
        DataError: it cannot be read, or is of no known format.
    """
    files = sorted(source.glob("*.eaf")) if source.is_dir() else [source]
    if source.is_dir() and not files:
        raise DataError(f"{source}: no .eaf file in this folder; give a file, or a folder of ELAN's files")
    if files[0].suffix.lower() == ".eaf":
        return _of_elan(files)
    if source.suffix.lower() == ".csv":
        return read_csv(_text(source), str(source))
    document = read_json(source, refusing(source))
    kind = _kind(document)
    if kind is None:
        raise DataError(
            f"{source}: of no known format; known are JSON with database (annotations), results (detections), labels "
            "(FiftyOne) or a list of tasks (Label Studio), .csv and .eaf"
        )
    try:
        return READERS[kind](document, str(source))
    except (AttributeError, KeyError, TypeError, IndexError) as error:
        raise DataError(f"{source}: not laid out as {kind} is: {type(error).__name__}: {error}") from error


def _kind(document: Any) -> str | None:
    if isinstance(document, list):
        return "label-studio"
    keys = {"database": "annotations", "results": "detections", "labels": "fiftyone"}
    return next((kind for key, kind in keys.items() if isinstance(document, dict) and key in document), None)


def _parsed(document: Any, where: str) -> Annotations:
    return Annotations(parse_database(document, refusing(Path(where))))


def _of_detections(document: Any, where: str) -> dict[str, Timeline]:
    return {
        video: Timeline(
            tuple(checked(f"{where}, {video}", one["label"], one["segment"], one.get("score", 1.0)) for one in found)
        )
        for video, found in document["results"].items()
    }


def _of_elan(files: Iterable[Path]) -> dict[str, Timeline]:
    timelines: dict[str, Timeline] = {}
    for path in files:
        name, timeline = read_elan(_text(path), str(path))
        video = name or path.stem
        if video in timelines:
            raise DataError(f"{path}: the video {shown(video)} occurs in two files; keep one")
        timelines[video] = timeline
    return timelines


def _completed(timelines: dict[str, Timeline], options: ConvertOptions) -> dict[str, Timeline]:
    """Leave out low scores; add lengths and subsets that the source does not say."""
    known = {} if options.durations is None else read_annotations(options.durations).videos
    lengths = {} if options.videos is None else _videos(options.videos, timelines)
    completed = {}
    for video, timeline in timelines.items():
        kept = tuple(span for span in timeline.spans if span.score is None or span.score >= options.min_score)
        found = find_video(video, known)
        duration, subset = timeline.duration_s, timeline.subset
        if found is not None:
            duration, subset = duration or known[found].duration_s, subset or known[found].subset
        if duration is None and video in lengths:
            duration = _length(lengths[video])
        completed[video] = replace(timeline, spans=kept, duration_s=duration, subset=subset)
    return completed


def _videos(folder: Path, timelines: Timelines) -> dict[str, Path]:
    from stale_edge.video.source import VIDEO_SUFFIXES

    files = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in VIDEO_SUFFIXES}
    return {video: files[name] for video in timelines if (name := find_video(video, files)) is not None}


def _length(path: Path) -> float:
    from stale_edge.video import open_video

    with open_video(path) as source:
        for _ in source:
            pass
        return source.end_s


def _write_pictures(to: str, target: Path, timelines: Timelines, media: Mapping[str, Path]) -> Iterable[Path]:
    from stale_edge.interchange.clips import contact_sheet, write_clips

    missing = [video for video in timelines if video not in media]
    if missing:
        names = ", ".join(missing[:5])
        raise DataError(f"{to}: no video file for {names}; give --videos DIR, with files of these names")
    for video, timeline in timelines.items():
        if to == "clips":
            yield from write_clips(media[video], timeline.spans, inside(target, video))
        else:
            path = target if target.suffix.lower() in (".jpg", ".png") else inside(target, video, suffix=".jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            contact_sheet(media[video], timeline.spans).save(path)
            yield path


def _format_of(target: Path, timelines: Timelines) -> str:
    suffix = target.suffix.lower()
    if suffix == ".json":
        scored = any(span.score is not None for timeline in timelines.values() for span in timeline.spans)
        return "detections" if scored else "annotations"
    if suffix in (".jpg", ".png"):
        return "sheet"
    by_suffix = {".csv": "csv", **{one: name for name, (one, _) in ONE_VIDEO.items()}}
    if suffix not in by_suffix:
        raise DataError(
            f"{target}: the suffix says no format; give --format, one of {', '.join(FORMATS)}, or a known suffix"
        )
    return by_suffix[suffix]


def _text(path: Path) -> str:
    try:
        return read_regular(path, most=MOST_TEXT_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable text file in UTF-8: {error}") from error


def _json(document: Any) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file_atomically(path, text.encode())
