"""Resumable extraction of snippet features from many videos, for `stale-edge features`."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from stale_edge.bundle import FeatureContract, read_bundle
from stale_edge.bundle.encoder_folder import ENCODER_FOLDER, find_encoder
from stale_edge.bundle.locks import sweep
from stale_edge.config import ExtractConfig, FeatureSpec, Preprocessing, to_dict
from stale_edge.data import read_feature_spec, write_feature_spec
from stale_edge.data.feature_writer import write_features
from stale_edge.data.folder import FEATURE_SPEC_FILE, FEATURES_FOLDER
from stale_edge.errors import DataError, FeatureContractError
from stale_edge.jobs.inputs import SourceState, VideoInput, find_videos
from stale_edge.jobs.journal import ErrorLog, read_record, still_holds, write_record
from stale_edge.jobs.pool import ERROR, RayPool, Row, run_all
from stale_edge.paths import check_distinct, inside
from stale_edge.progress import Progress, silent
from stale_edge.runtime.encoder_recommendation import announced_s, recommended_encoder
from stale_edge.runtime.recommendation import AUTO
from stale_edge.runtime.visual_encoder import load_encoder
from stale_edge.video import FrameSettings, Timings, open_sampled, snippet_features, snippet_rate, watch_video

RECORDS_FOLDER = "sources"
"""Subfolder with one record per video about the source of its features."""


@dataclass(frozen=True)
class FeatureJob:
    """Settings of an extraction: those that affect the features' values, and those that affect speed.

    precision, runtime: as in `load_encoder`; runtime `auto` is the fastest way that `bench --video --recommend` found
        for this encoder, by the length of all videos, and brings its own precision and batch.
    preprocessing, skip_similar, batch: as in `FrameSettings`.
    """

    encoder: Path
    out: Path
    fps: float = ExtractConfig.fps
    stride: int = ExtractConfig.stride
    precision: str = "fp32"
    batch: int = ExtractConfig.batch
    threads: int = 1
    device: str = "cpu"
    runtime: str = "onnxruntime"
    preprocessing: Preprocessing = "exact"
    skip_similar: float | None = None

    @property
    def frames(self) -> FrameSettings:
        """How pictures become features."""
        return FrameSettings(self.batch, self.threads, self.preprocessing, self.skip_similar)

    @property
    def features(self) -> Path:
        """Folder of the feature files."""
        return self.out / FEATURES_FOLDER

    @property
    def records(self) -> Path:
        """Folder of the records."""
        return self.out / RECORDS_FOLDER


@dataclass(frozen=True)
class ExtractionReport:
    """Result of a run.

    extracted: record of each extracted video: `n_snippets`, `n_encoded`, `duration_s`, `decode_s`, `encoder_s`,
        `notes`, `provider`.
    unchanged: videos that were done before and have not changed since.
    errors: one line for every video that could not be used; `errors.jsonl` has them too.
    """

    out: Path
    spec: FeatureSpec
    extracted: dict[str, Row]
    unchanged: tuple[str, ...]
    errors: dict[str, str]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "out": str(self.out),
            "feature_spec": to_dict(self.spec),
            "extracted": self.extracted,
            "unchanged": list(self.unchanged),
            "errors": self.errors,
            "seconds": self.seconds,
        }


def extract_all(
    inputs: Sequence[Path], job: FeatureJob, *, pool: RayPool | None = None, progress: Progress = silent
) -> ExtractionReport:
    """Extract the features of videos into a data set folder; a second start does only missing or changed videos.

    `out` gets `feature_spec.json`, `features/<video>.npy`, `sources/<video>.json`, and `errors.jsonl` if a video
    failed. After a kill at any moment, all files are whole.

    Args:
        inputs: video files, and folders of them.
        job: encoder, folder, frame rate and stride.
        pool: None: this process.
        progress: called with (stage, done, total, note).

    Raises:
        ValueError: fps, stride or batch is not allowed.
        BundleError, VerificationError: the encoder cannot be used.
        FeatureContractError: `out` has features of another encoder, fps or stride; the message names both values.
        DataError: no video, two videos of one name, or `out` cannot be written.
    """
    start = time.perf_counter()
    if pool is not None:  # a cluster's processes may have another working folder
        inputs = [path.absolute() for path in inputs]
        job = replace(job, encoder=job.encoder.absolute(), out=job.out.absolute())
    snippet_rate(job.fps, job.stride)
    _ = job.frames  # checks its rules
    videos = find_videos(inputs)
    check_distinct((item.video for item in videos), what="videos")
    if job.runtime == AUTO:
        job = recommended_job(job, [item.path for item in videos])
    spec, identity = prepare(job)
    waiting = [item for item in videos if not _is_done(job, item, identity)]
    there = tuple(item.video for item in videos if item not in waiting)
    log = ErrorLog(job.out)
    extracted: dict[str, Row] = {}
    errors: dict[str, str] = {}
    rows = [{"video": item.video, "path": str(item.path)} for item in waiting]
    watch = progress if pool is None else silent  # only the process that reads a video knows its progress
    results = run_all(partial(FeatureWorker, job, identity, watch), rows, pool=pool) if rows else iter(())
    progress("features", len(there), len(videos), f"{len(there)} unchanged" if there else "")
    for row in results:
        if ERROR in row:
            errors[row["video"]] = row[ERROR]
            log.add(row["video"], row["path"], row[ERROR])
        else:
            extracted[row["video"]] = row
        progress("features", len(there) + len(extracted) + len(errors), len(videos), row["video"])
    return ExtractionReport(job.out, spec, extracted, there, errors, time.perf_counter() - start)


def recommended_job(job: FeatureJob, videos: Sequence[Path]) -> FeatureJob:
    """Put the recommended runtime, precision and batch for these videos together in place of `auto`.

    Raises:
        BundleError: nothing is recommended for this encoder, machine and number of threads.
    """
    n_pictures = round(announced_s(videos) * job.fps / job.stride)
    choice = recommended_encoder(job.encoder, n_pictures=n_pictures, threads=job.threads)
    return replace(job, runtime=choice.runtime, precision=choice.precision, batch=choice.batch)


def default_sampling(encoder: Path) -> tuple[float, int]:
    """Choose fps and stride: from the feature contract if the encoder is in a bundle, else from `ExtractConfig`."""
    contract = _contract(encoder)
    if contract is not None and contract.fps is not None and contract.stride is not None:
        return contract.fps, contract.stride
    return ExtractConfig.fps, ExtractConfig.stride


def default_preprocessing(encoder: Path) -> Preprocessing:
    """Choose how pictures are prepared: as the feature contract says if the encoder is in a bundle, else exactly."""
    contract = _contract(encoder)
    return FeatureSpec.preprocessing if contract is None else contract.preprocessing


def _contract(encoder: Path) -> FeatureContract | None:
    return read_bundle(encoder).manifest.feature_contract if (encoder / ENCODER_FOLDER).is_dir() else None


def prepare(job: FeatureJob) -> tuple[FeatureSpec, Row]:
    """Make the folder with its feature spec, or check that an older spec is the same.

    Returns:
        The spec, and the values that a record must have so that its features are those of this job.
    """
    manifest = find_encoder(job.encoder).manifest
    spec = FeatureSpec(
        manifest.fingerprint,
        manifest.embed_dim,
        float(job.fps),
        job.stride,
        preprocessing=job.preprocessing,
        skip_similar=job.skip_similar,
    )
    path = job.out / FEATURE_SPEC_FILE
    try:
        for folder in (job.features, job.records):
            folder.mkdir(parents=True, exist_ok=True)
            sweep(folder)
        sweep(job.out)
    except OSError as error:
        raise DataError(f"{job.out}: cannot be made: {error.strerror or error}") from error
    if path.is_file():
        held = to_dict(read_feature_spec(path))
        wrong = [
            f"{name} {held[name]!r}, asked for is {value!r}"
            for name, value in to_dict(spec).items()
            if held[name] != value
        ]
        if wrong:
            raise FeatureContractError(f"{job.out} holds features with {'; '.join(wrong)}; choose another --out")
    else:
        write_feature_spec(path, spec, extra={"encoder_name": manifest.name})
    identity = {"encoder": spec.encoder, "precision": job.precision, "fps": spec.fps, "stride": spec.stride}
    # Left out where they are as before there was a choice, so that older records still hold.
    later = {"runtime": job.runtime, "preprocessing": job.preprocessing, "skip_similar": job.skip_similar}
    identity |= {name: value for name, value in later.items() if value != getattr(FeatureJob, name)}
    return spec, identity


class FeatureWorker:
    """Extracts videos one by one, with one session."""

    def __init__(self, job: FeatureJob, identity: Row, progress: Progress = silent) -> None:
        self._job = job
        self._progress = progress
        self._identity = identity
        self._encoder = load_encoder(
            job.encoder, precision=job.precision, runtime=job.runtime, at_once=job.threads, device=job.device
        )

    def __call__(self, row: Row) -> Row:
        """Write a video's features and its record; returns the record."""
        job, source = self._job, Path(row["path"])
        state = SourceState.of(source)
        rate, timings = snippet_rate(job.fps, job.stride), Timings()
        target = inside(job.features, row["video"], suffix=".npy")
        with (
            open_sampled(source, job.frames, rate=rate) as opened,
            write_features(target, channels=self._encoder.embed_dim) as writer,
        ):
            look = watch_video(self._progress, opened, row["video"])
            for block in snippet_features(
                opened, self._encoder, rate=rate, settings=job.frames, timings=timings, on_snippet=look
            ):
                writer.add(block)
        record = {
            "video": row["video"],
            "path": row["path"],
            **self._identity,
            "n_snippets": writer.n_snippets,
            "n_encoded": timings.n_encoded,
            "duration_s": opened.end_s,
            "span_s": writer.n_snippets / rate,
            "decode_s": timings.decode_s,
            "encoder_s": timings.preprocess_s + timings.encoder_s,
            "notes": list(opened.notes),
            "provider": self._encoder.provider,
        }
        write_record(inside(job.records, row["video"], suffix=".json"), state, record)
        return record


def _is_done(job: FeatureJob, item: VideoInput, identity: Row) -> bool:
    try:
        made = inside(job.features, item.video, suffix=".npy").is_file()
        return made and still_holds(read_record(inside(job.records, item.video, suffix=".json")), item.path, identity)
    except DataError:  # no valid file name: the worker reports it, for this video only
        return False
