"""Resumable detection in many inputs, for `stale-edge detect --results`."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from stale_edge.bundle import read_bundle
from stale_edge.bundle.files import sha256_of
from stale_edge.bundle.locks import sweep
from stale_edge.bundle.manifest import MANIFEST_NAME
from stale_edge.config import to_dict
from stale_edge.errors import DataError
from stale_edge.jobs.inputs import SourceState
from stale_edge.jobs.journal import ErrorLog, read_record, still_holds, write_record
from stale_edge.jobs.pool import ERROR, RayPool, Row, run_all
from stale_edge.paths import check_distinct, inside
from stale_edge.progress import Progress, silent
from stale_edge.runtime.contract import implied_duration_s
from stale_edge.runtime.detect import Detector
from stale_edge.runtime.detect_inputs import Input, find_inputs
from stale_edge.runtime.detect_output import DetectionRun, Found, summarize
from stale_edge.runtime.detect_settings import DetectSettings, OutputSettings
from stale_edge.runtime.timings import StageTimings
from stale_edge.segments import Detection


def detect_many(
    settings: DetectSettings,
    inputs: Sequence[Path],
    results: Path,
    *,
    output: OutputSettings | None = None,
    pool: RayPool | None = None,
    progress: Progress = silent,
) -> DetectionRun:
    """Detect in many inputs; a second start does only missing or changed inputs.

    `results` gets one `<video>.json` per input as soon as it is done, and `errors.jsonl` if one failed. A result is
    used again if bundle, settings and input are the same.

    Args:
        settings: bundle, classes and all other settings of detection.
        inputs: videos, feature files, folders of either, or data set folders.
        results: folder, made if missing.
        output: format of the run's text; None: JSON. A page has no pictures and no curves, as these are not stored.
        pool: None: this process.
        progress: called with (stage, done, total, note).

    Raises:
        StaleEdgeError: as in `stale_edge.runtime.detect.detect_files`.
    """
    if pool is not None:  # a cluster's processes may have another working folder
        inputs, results = [path.absolute() for path in inputs], results.absolute()
        encoder = None if settings.encoder is None else settings.encoder.absolute()
        settings = replace(settings, bundle=settings.bundle.absolute(), encoder=encoder)
    items = find_inputs(inputs)
    check_distinct((item.video for item in items), what="videos")
    identity = _identity(settings)
    try:
        results.mkdir(parents=True, exist_ok=True)
        sweep(results)
    except OSError as error:
        raise DataError(f"{results}: cannot be made: {error.strerror or error}") from error
    found: dict[str, Found] = {}
    waiting = []
    log = ErrorLog(results)
    errors = []
    for item in items:
        if item.problem:  # the worker reports it
            waiting.append(item)
            continue
        try:
            record = read_record(_file(results, item.video))
        except DataError as error:
            errors.append(f"{item.source}: {error}")
            log.add(item.video, str(item.path), errors[-1])
            continue
        wanted = {**identity, "video": item.video, "array": item.array}
        before = _found(record) if still_holds(record, item.path, wanted) else None
        if before is None:
            waiting.append(item)
        else:
            found[item.video] = before
    videos = [item.path for item in waiting if item.is_video]
    make = partial(DetectWorker, settings, results, identity, videos)
    for row in run_all(make, [_row(item) for item in waiting], pool=pool) if waiting else ():
        if ERROR in row:
            errors.append(row[ERROR])
            log.add(row["video"], row["path"], row[ERROR])
        else:
            made = _found(row)
            assert made is not None, row  # a worker wrote it in this run
            found[row["video"]] = made
        progress("detect", len(found) + len(errors), len(items), row["video"])
    in_order = [found[item.video] for item in items if item.video in found]
    snippet_s = implied_duration_s(read_bundle(settings.bundle).manifest.feature_contract, 1)
    output = OutputSettings() if output is None else output
    return summarize(in_order, errors, items, output=output, snippet_s=snippet_s)


class DetectWorker:
    """Detects in inputs one by one, with one session."""

    def __init__(self, settings: DetectSettings, results: Path, identity: Row, videos: Sequence[Path]) -> None:
        self._detector = Detector(settings)
        if videos:
            self._detector.open_encoder(videos)
        self._results = results
        self._identity = identity

    def __call__(self, row: Row) -> Row:
        """Write the result of an input, and return it."""
        item = Input(**{**row, "source": Path(row["source"]), "path": Path(row["path"])})
        found = self._detector.detect(item)
        record = {
            "video": item.video,
            **self._identity,
            "array": item.array,
            "span_s": found.span_s,
            "timings": asdict(found.timings),
            "notes": list(found.notes),
            "provider": found.provider,
            "detections": [[d.label, float(d.score), float(d.start_s), float(d.end_s)] for d in found.detections],
        }
        write_record(_file(self._results, item.video), _state_of(item.path), record)
        return record


def _identity(settings: DetectSettings) -> Row:
    """Return everything that affects the detections in an input, except the input."""
    plain = to_dict(replace(settings, bundle=Path(), encoder=None))
    del plain["bundle"], plain["encoder"], plain["threads"]
    manifests = {"bundle": settings.bundle, "encoder": settings.encoder}
    hashes = {
        name: None if folder is None or not (folder / MANIFEST_NAME).is_file() else sha256_of(folder / MANIFEST_NAME)
        for name, folder in manifests.items()
    }
    return {"settings": plain, **hashes}


@lru_cache(maxsize=8)
def _state_of(path: Path) -> SourceState:
    # A file with the features of many videos comes once per video.
    return SourceState.of(path)


def _file(results: Path, video: str) -> Path:
    return inside(results, video, suffix=".json")


def _row(item: Input) -> Row:
    return {**asdict(replace(item, truth=None)), "source": str(item.source), "path": str(item.path)}


def _found(record: dict[str, Any] | None) -> Found | None:
    """Read the detections in a record; None: there is no record, or it has another form."""
    try:
        values = record or {}
        return Found(
            values["video"],
            [
                Detection(str(label), float(score), float(start), float(end))
                for label, score, start, end in values["detections"]
            ],
            float(values["span_s"]),
            StageTimings(**values["timings"]),
            tuple(map(str, values["notes"])),
            provider=str(values.get("provider", "")),
        )
    except (KeyError, TypeError, ValueError):
        return None
