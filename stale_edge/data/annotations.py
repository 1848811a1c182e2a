"""Annotations: which action happens when in which video, in the layout of ActivityNet's ground truth."""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from stale_edge.errors import DataError, reason, shown
from stale_edge.paths import MOST_TEXT_BYTES, read_regular

MOST_SECONDS = 1e9
"""Longest duration allowed, 31 years; it bounds code that counts or draws per second."""

Report = Callable[[str], None]
"""Called with the reason why something cannot be used; a strict reader raises an error, `check` collects reasons."""


TRAINING_SUBSETS = ("training", "train")
"""Names of the subset that is trained on; the first that is there."""
VALIDATION_SUBSETS = ("validation", "test")
"""Names of the subset that is validated on; the first that is there."""


class Action(NamedTuple):
    """One annotated action: its class and its segment [start_s, end_s) in seconds, finite, start_s <= end_s."""

    label: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class VideoAnnotation:
    """The annotation of one video.

    duration_s: length in seconds, finite, > 0.
    subset: `training`, `validation` and `testing` in ActivityNet, `train` and `test` in THUMOS14.
    actions: in the order of the file; as published, a segment may end a little after the video or have zero length.
    """

    duration_s: float
    subset: str
    actions: tuple[Action, ...]


@dataclass(frozen=True)
class Annotations:
    """The annotations of a data set, by video, in the order of the file."""

    videos: dict[str, VideoAnnotation]

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names that occur, sorted."""
        return tuple(sorted({action.label for video in self.videos.values() for action in video.actions}))

    @property
    def subsets(self) -> tuple[str, ...]:
        """The subsets that occur, sorted."""
        return tuple(sorted({video.subset for video in self.videos.values()}))

    def in_subset(self, subset: str) -> tuple[str, ...]:
        """List the videos of a subset in the order of the file.

        Raises:
            ValueError: no video is in it; the message lists the existing subsets.
        """
        names = tuple(name for name, video in self.videos.items() if video.subset == subset)
        if not names:
            raise ValueError(f"no video is in subset {shown(subset)}; there are: {', '.join(self.subsets) or 'none'}")
        return names

    def to_layout(self) -> dict[str, Any]:
        """Turn into ActivityNet's layout, ready for `json.dump` and for `mean_average_precision`."""
        database = {
            name: {
                "duration": video.duration_s,
                "subset": video.subset,
                "annotations": [{"segment": [a.start_s, a.end_s], "label": a.label} for a in video.actions],
            }
            for name, video in self.videos.items()
        }
        return {"version": "1.3", "taxonomy": [], "database": database}


def read_annotations(path: Path, *, durations: Mapping[str, float] | None = None) -> Annotations:
    """Read annotations in ActivityNet's layout, `{"database": {video: {"duration", "subset", "annotations"}}}`.

    Segments may be numbers or, as in G-TAD's THUMOS14 file, strings of numbers.

    Args:
        path: JSON file.
        durations: seconds by video, for files without durations; a duration in the file takes precedence.

    Raises:
        DataError: the file is unreadable, a video occurs twice, a key is missing, a number is not finite, a
            duration is not > 0, or a segment is reversed; the message names file, video and annotation.
    """
    path = Path(path)
    refuse = refusing(path)
    document = read_json(path, refuse)
    return Annotations(parse_database(document, refuse, durations=durations or {}))


def refusing(path: Path) -> Report:
    """Make a report that raises a `DataError` naming the file at the first problem."""

    def refuse(reason: str) -> None:
        raise DataError(f"{path}: {reason}")

    return refuse


def read_json(path: Path, report: Report) -> Any:
    """Read a JSON file; a key that occurs twice in one object is reported, and its last value is used.

    Raises:
        DataError: the file is missing or is not JSON.
    """

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        built = dict(pairs)
        if len(built) < len(pairs):
            counts = Counter(key for key, _ in pairs)
            for key in sorted(key for key, count in counts.items() if count > 1):
                report(f"duplicate: the key {shown(key)} stands more than once in one object; keep one")
        return built

    try:
        text = read_regular(path, most=MOST_TEXT_BYTES).decode("utf-8-sig")
        return json.loads(text, object_pairs_hook=build)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a readable JSON file: {reason(error)}") from error


def parse_database(
    document: Any, report: Report, *, durations: Mapping[str, float] | None = None
) -> dict[str, VideoAnnotation]:
    """Turn a document in ActivityNet's layout into annotations, reporting each entry that cannot be used.

    If `report` returns, reported entries are left out of the result.
    """
    database = document.get("database") if isinstance(document, dict) else None
    if not isinstance(database, dict):
        report('the key "database" with an object of videos is missing; expected ActivityNet\'s layout')
        return {}
    videos = {}
    for name, entry in database.items():
        if not isinstance(entry, dict):
            report(f"video {shown(name)}: must be an object with duration, subset and annotations; got {shown(entry)}")
            continue
        stated = entry.get("duration", (durations or {}).get(name))
        duration_s = finite_number(stated)
        if duration_s is not None and duration_s > MOST_SECONDS:
            report(f"video {shown(name)}: the duration may be at most {MOST_SECONDS:g} seconds; got {shown(stated)}")
            continue
        if duration_s is None or duration_s <= 0:
            kind = "empty video: " if duration_s == 0 else ""
            got = "none is stated" if stated is None else f"got {shown(stated)}"
            report(f"video {shown(name)}: {kind}the duration must be a finite number of seconds > 0; {got}")
        subset = entry.get("subset")
        if not isinstance(subset, str) or not subset:
            report(f"video {shown(name)}: the subset must be a name such as 'training'; got {shown(subset)}")
        actions = tuple(_parse_actions(entry.get("annotations"), f"video {shown(name)}", report))
        if duration_s is not None and duration_s > 0 and isinstance(subset, str) and subset:
            videos[name] = VideoAnnotation(duration_s, subset, actions)
    return videos


def finite_number(value: Any) -> float | None:
    """Read a number, or a string of one; None if it is neither, or not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _parse_actions(rows: Any, where: str, report: Report) -> list[Action]:
    if not isinstance(rows, list):
        report(f"{where}: annotations must be a list (an empty one for a video without actions); got {shown(rows)}")
        return []
    actions = []
    for i, row in enumerate(rows):
        here = f"{where}, annotation {i}"
        label, segment = (row.get("label"), row.get("segment")) if isinstance(row, dict) else (None, None)
        if not isinstance(label, str) or not label.strip():
            report(f"{here}: the label must be a class name; got {shown(label)}")
            continue
        if not isinstance(segment, list) or len(segment) != 2:
            report(f"{here} ({label}): the segment must be [start, end] in seconds; got {shown(segment)}")
            continue
        start_s, end_s = (finite_number(value) for value in segment)
        if start_s is None or end_s is None:
            report(f"{here} ({label}): start and end must be finite numbers of seconds; got {shown(segment)}")
        elif end_s < start_s:
            report(
                f"{here} ({label}): the segment is reversed: it ends at {end_s:g} s before it starts at {start_s:g} s"
            )
        else:
            actions.append(Action(label, start_s, end_s))
    return actions
