"""The layout of the public STALE code's data: annotations of BSN, subsets in a table, features `v_<id>.npy`."""

import csv
import io
from pathlib import Path
from typing import Any, NamedTuple

from stale_edge.data.annotations import Annotations, Report, parse_database, read_json, refusing
from stale_edge.errors import DataError, cut, reason, shown
from stale_edge.paths import MOST_TEXT_BYTES, read_regular

_FOLDERS = (".", "data/activitynet_annotations", "activitynet_annotations")


class PublicLayout(NamedTuple):
    """Paths of the files in the public layout; `scores` is None if there are none."""

    annotations: Path
    video_info: Path
    scores: Path | None


def find_public_layout(root: Path) -> PublicLayout | None:
    """Find the public annotation files in a data folder or in a checkout of the public code; None: there are none."""
    for folder in (Path(root) / name for name in _FOLDERS):
        if (folder / "anet_anno_action.json").is_file():
            scores = [p / "stale_best_score.json" for p in (folder, Path(root))]
            return PublicLayout(
                folder / "anet_anno_action.json",
                folder / "video_info_new.csv",
                next((path for path in scores if path.is_file()), None),
            )
    return None


def read_public_annotations(annotations: Path, video_info: Path, *, report: Report | None = None) -> Annotations:
    """Read the two files of the public STALE code (and of BSN): `anet_anno_action.json` and `video_info_new.csv`.

    The duration is the annotation file's `duration_second`, the subset the table's column `subset`. The public data
    loader keeps only each video's last annotation (stale_lib/stale_dataloader.py, getAnnotation); here all are kept.

    Args:
        annotations, video_info: the two files.
        report: called with each reason instead of raising; wrong entries are then left out.

    Raises:
        DataError: as `read_annotations`; or a video of one file is missing in the other.
    """
    annotations, video_info = Path(annotations), Path(video_info)
    report = report or refusing(annotations)
    document = read_json(annotations, report)
    subsets = _read_subsets(video_info)
    if not isinstance(document, dict):
        raise DataError(f"{annotations}: the file must hold an object of videos; got {type(document).__name__}")
    database: dict[str, Any] = {}
    for name, video in document.items():
        if name not in subsets:
            report(f"video {shown(name)} is not in {video_info.name}, so its subset is unknown")
        elif not isinstance(video, dict):
            report(f"video {shown(name)}: must be an object; got {shown(video)}")
        else:
            database[name] = {**video, "duration": video.get("duration_second"), "subset": subsets[name]}
    for name in subsets:
        if name not in document:
            report(f"video {shown(name)} of {video_info.name} is missing")
    return Annotations(parse_database({"database": database}, report))


def _read_subsets(path: Path) -> dict[str, str]:
    try:
        text = read_regular(path, most=MOST_TEXT_BYTES).decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""))
        columns = reader.fieldnames or []
        if "video" not in columns or "subset" not in columns:
            raise DataError(f"{path}: columns video and subset are needed; got {cut(', '.join(columns)) or 'none'}")
        return {row["video"]: row["subset"] for row in reader}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a readable table: {reason(error)}") from error
