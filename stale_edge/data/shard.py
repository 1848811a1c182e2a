"""Rewrite a data set with the features of many videos in few files: tar shards or Parquet."""

import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from stale_edge.bundle.files import folder_beside, replace_folder, sync_file, sync_folder
from stale_edge.data import parquet
from stale_edge.data.folder import (
    ANNOTATIONS_FILE,
    CLASS_BANK_FILE,
    FEATURE_SPEC_FILE,
    FEATURES_FOLDER,
    SCORES_FILE,
    SPLITS_FOLDER,
    TEXT_ENCODER_FOLDER,
    DataSet,
    open_data_set,
    write_feature_spec,
)
from stale_edge.errors import DataError, shown
from stale_edge.paths import check_distinct, inside
from stale_edge.progress import Progress, silent
from stale_edge.segments import FloatArray, find_video

FORMATS = ("tar", "parquet")
SHARD_BYTES = 256 << 20
"""A shard is closed when it holds this many bytes of features: large enough to stream, small enough to move."""


@dataclass(frozen=True)
class ShardReport:
    """Summary of the written data set. bytes: total size of the shards."""

    out: Path
    shards: tuple[str, ...]
    n_videos: int
    bytes: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"out": str(self.out), "shards": list(self.shards), "n_videos": self.n_videos, "bytes": self.bytes}


class _Shard(Protocol):
    """A shard being written."""

    def add(self, video: str, features: FloatArray, known: dict[str, Any]) -> None:
        """Append a video: its features (T, C), and its annotation entry."""
        ...


def shard_data_set(
    root: Path,
    out: Path,
    *,
    shard_format: str = "tar",
    shard_bytes: int = SHARD_BYTES,
    progress: Progress = silent,
) -> ShardReport:
    """Write a copy of a data set with its features in shards; it is read like the original. Write all of it or nothing.

    `tar` is WebDataset's form: for each video `<video>.npy`, (T, C) float32, and `<video>.json`, its annotations.
    `parquet` has one row per video: `video`, `duration` and `features`, a list of lists of C float32.

    Args:
        root: the data set's folder.
        out: folder that does not exist yet, or is empty.
        shard_format: `tar` or `parquet`.
        shard_bytes: a shard is closed after this many bytes of features, >= 1.
        progress: called with (stage, done, total).

    Raises:
        ValueError: an unknown format, or `shard_bytes` < 1.
        DataError: the data set cannot be read, or `out` holds something or cannot be written.
        FeatureContractError: features of a video cannot be used.
        MissingExtraError: `parquet` without pyarrow.
    """
    if shard_format not in FORMATS:
        raise ValueError(f"shard_format must be one of {', '.join(FORMATS)}; got {shown(shard_format)}")
    if shard_bytes < 1:
        raise ValueError(f"shard_bytes must be >= 1; got {shown(shard_bytes)}")
    data_set = open_data_set(root)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: something is there already; choose another --out")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with folder_beside(out) as folder:
            _copy_the_rest(data_set, folder)
            features = folder / FEATURES_FOLDER
            features.mkdir()
            shards = _write_shards(data_set, features, shard_format, shard_bytes, progress)
            for name in shards:
                sync_file(features / name)
            sync_folder(features)
            size = sum((features / name).stat().st_size for name in shards)
            replace_folder(folder, out)
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error}") from error
    return ShardReport(out, shards, len(data_set.features), size)


def _write_shards(
    data_set: DataSet, folder: Path, shard_format: str, shard_bytes: int, progress: Progress
) -> tuple[str, ...]:
    database = data_set.annotations.to_layout()["database"]
    opened = {"tar": _tar_shard, "parquet": _parquet_shard}[shard_format]
    names: list[str] = []
    videos, done = data_set.features.videos, 0
    check_distinct(videos, what="videos")
    for video in videos:
        inside(folder, video, suffix=".npy")  # unpacking a shard creates a file of this name
    while done < len(videos):
        names.append(f"shard-{len(names):06d}.{shard_format}")
        written = 0
        with opened(folder / names[-1], data_set.feature_spec.channels) as shard:
            while done < len(videos) and written < shard_bytes:
                progress("shard", done, len(videos))
                video = videos[done]
                features = data_set.load(video)
                shard.add(video, features, database.get(find_video(video, database) or "", {}))
                written += features.nbytes
                done += 1
    progress("shard", done, len(videos))
    return tuple(names)


def _copy_the_rest(data_set: DataSet, folder: Path) -> None:
    layout = json.dumps(data_set.annotations.to_layout(), ensure_ascii=False) + "\n"
    (folder / ANNOTATIONS_FILE).write_text(layout, encoding="utf-8")
    if (data_set.root / FEATURE_SPEC_FILE).is_file():
        shutil.copyfile(data_set.root / FEATURE_SPEC_FILE, folder / FEATURE_SPEC_FILE)
    else:
        write_feature_spec(folder / FEATURE_SPEC_FILE, data_set.feature_spec)
    if data_set.scores:
        scores = {video: {"class": score.label, "score": score.score} for video, score in data_set.scores.items()}
        (folder / SCORES_FILE).write_text(json.dumps(scores, ensure_ascii=False) + "\n", encoding="utf-8")
    if (data_set.root / CLASS_BANK_FILE).is_file():
        shutil.copyfile(data_set.root / CLASS_BANK_FILE, folder / CLASS_BANK_FILE)
    for name in (SPLITS_FOLDER, TEXT_ENCODER_FOLDER):
        if (data_set.root / name).is_dir():
            shutil.copytree(data_set.root / name, folder / name)


class _TarShard:
    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive

    def add(self, video: str, features: FloatArray, known: dict[str, Any]) -> None:
        buffer = io.BytesIO()
        np.save(buffer, features, allow_pickle=False)
        self._member(f"{video}.npy", buffer.getvalue())
        self._member(f"{video}.json", json.dumps({"video": video, **known}, ensure_ascii=False).encode())

    def _member(self, name: str, content: bytes) -> None:
        entry = tarfile.TarInfo(name)  # no time and no user: equal data sets give equal bytes
        entry.size = len(content)
        self._archive.addfile(entry, io.BytesIO(content))


@contextmanager
def _tar_shard(path: Path, channels: int) -> Iterator[_Shard]:
    del channels
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        yield _TarShard(archive)


class _ParquetShard:
    def __init__(self, writer: Any, schema: Any) -> None:
        self._writer = writer
        self._schema = schema

    def add(self, video: str, features: FloatArray, known: dict[str, Any]) -> None:
        import pyarrow as pa

        snippets = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), features.shape[1])
        column = pa.ListArray.from_arrays(pa.array([0, len(features)], pa.int32()), snippets)
        duration = pa.array([known.get("duration")], pa.float64())
        # One row group per video, so that each can be read alone.
        self._writer.write_table(pa.table([pa.array([video]), duration, column], schema=self._schema))


@contextmanager
def _parquet_shard(path: Path, channels: int) -> Iterator[_Shard]:
    module = parquet.import_parquet()
    import pyarrow as pa

    schema = pa.schema(
        [
            (parquet.VIDEO, pa.string()),
            ("duration", pa.float64()),
            (parquet.FEATURES, pa.list_(pa.list_(pa.float32(), channels))),
        ]
    )
    with module.ParquetWriter(path, schema, compression="zstd") as writer:
        yield _ParquetShard(writer, schema)
