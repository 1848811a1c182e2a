"""ActivityNet's layouts of ground truth and predictions, turned into arrays."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import chain
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from stale_edge.segments import IntArray, find_video

Seconds = NDArray[np.float64]


class TruthTable(NamedTuple):
    """The actions of a subset, one a row, in the order of the file.

    classes: names, in the order of first appearance; `label` counts in them.
    n_videos: how many videos the file knows, in any subset; `video` counts in them.
    label, video: (G,) int64. segments: (G, 2) float64, seconds.
    """

    classes: tuple[str, ...]
    n_videos: int
    label: IntArray
    video: IntArray
    segments: Seconds


class PredictionTable(NamedTuple):
    """Detections of known classes, one a row, in the order of the file.

    label, video: (P,) int64; video is -1 where the ground truth does not know the video.
    segments: (P, 2) float64, seconds. scores: (P,) float64.
    ignored_labels: class names that the ground truth does not have, sorted.
    """

    label: IntArray
    video: IntArray
    segments: Seconds
    scores: Seconds
    ignored_labels: tuple[str, ...]

    def take(self, rows: IntArray) -> "PredictionTable":
        """Keep these rows, in this order."""
        return PredictionTable(
            self.label[rows], self.video[rows], self.segments[rows], self.scores[rows], self.ignored_labels
        )


def truth_table(
    layout: Mapping[str, Any], subset: str | None, classes: Collection[str] | None
) -> tuple[TruthTable, dict[str, int]]:
    """Read a ground truth; returns the table and the number of each video.

    Args:
        layout: `{"database": {video: {"subset", "annotations": [{"segment", "label"}]}}}`, or the database alone.
        subset: the subset to keep, None: all.
        classes: the labels to keep, None: all.

    Raises:
        ValueError: the layout is broken (video and annotation are named), or no action is left.
    """
    if isinstance(classes, str):
        raise ValueError(f"classes must be a collection of names; got the string {classes!r}")
    database = layout.get("database", layout) if isinstance(layout, Mapping) else None
    if not isinstance(database, Mapping):
        raise ValueError('the key "database" must hold an object of videos, as in ActivityNet\'s ground truth')
    numbers = {video: i for i, video in enumerate(database)}
    kept = {}
    subsets = set()
    for video, entry in database.items():
        if not isinstance(entry, Mapping) or not isinstance(entry.get("annotations"), list):
            raise ValueError(f"video {video!r}: must be an object with a list of annotations; got {_short(entry)}")
        if subset is not None and "subset" not in entry:
            raise ValueError(f'video {video!r}: the key "subset" is missing; give subset=None to take all videos')
        subsets.add(str(entry.get("subset")))
        if subset is None or entry["subset"] == subset:
            kept[video] = entry["annotations"]
    rows = _Rows(kept, "annotation")
    wanted_classes = None if classes is None else frozenset(classes)
    names = tuple(name for name in dict.fromkeys(rows.labels) if wanted_classes is None or name in wanted_classes)
    if not names:
        wanted = "" if wanted_classes is None else f" of the {len(wanted_classes)} classes asked for"
        raise ValueError(
            f"no action{wanted} is annotated in subset {subset!r}; subsets there are: {', '.join(sorted(subsets))}"
        )
    label = rows.label_numbers({name: i for i, name in enumerate(names)})
    keep = label >= 0
    video_number, segments = rows.video_numbers(numbers)[keep], rows.segments()[keep]
    return TruthTable(names, len(numbers), label[keep], video_number, segments), numbers


def prediction_table(layout: Mapping[str, Any], classes: tuple[str, ...], videos: Mapping[str, int]) -> PredictionTable:
    """Read predictions of the given classes.

    Names of videos agree with the ground truth's with or without the prefix `v_`, as published files differ in it.

    Args:
        layout: `{"results": {video: [{"label", "score", "segment"}]}}`.
        classes: the ground truth's classes; other labels are left out.
        videos: the ground truth's videos and their numbers.

    Raises:
        ValueError: the layout is broken, a score or time is not finite, or a segment is reversed (video and row are
            named), or two entries belong to the same video of the ground truth.
    """
    results = layout.get("results") if isinstance(layout, Mapping) else None
    if not isinstance(results, Mapping):
        raise ValueError('the key "results" must hold an object of videos, as in ActivityNet\'s result files')
    for video, entries in results.items():
        if not isinstance(entries, list):
            raise ValueError(f"video {video!r}: must be a list of detections; got {_short(entries)}")
    numbers: dict[str, int] = {}
    owners: dict[int, str] = {}
    for video in results:
        known = find_video(video, videos)
        numbers[video] = -1 if known is None else videos[known]
        if known is not None and owners.setdefault(videos[known], video) != video:
            raise ValueError(f"videos {owners[videos[known]]!r} and {video!r} are both {known!r} of the ground truth")
    rows = _Rows(results, "detection")
    index = {label: i for i, label in enumerate(classes)}
    label = rows.label_numbers(index)
    ignored = tuple(sorted(set(rows.labels) - set(index)))
    table = PredictionTable(label, rows.video_numbers(numbers), rows.segments(), rows.scores(), ignored)
    return table.take(np.flatnonzero(label >= 0)) if ignored else table


class _Rows:
    """The rows of all videos one after the other, by column; only to name a broken row are rows walked one by one."""

    def __init__(self, videos: Mapping[str, list[Any]], kind: str) -> None:
        self._videos, self._kind = videos, kind
        self._rows = list(chain.from_iterable(videos.values()))
        self.labels: list[str] = self._column("label")
        if not set(map(type, self.labels)) <= {str}:
            self._refuse(lambda row: isinstance(row["label"], str), "the label must be a class name")

    def label_numbers(self, index: Mapping[str, int]) -> IntArray:
        return np.fromiter((index.get(label, -1) for label in self.labels), dtype=np.int64, count=len(self.labels))

    def video_numbers(self, numbers: Mapping[str, int]) -> IntArray:
        counts = [len(entries) for entries in self._videos.values()]
        return np.repeat(np.array([numbers[video] for video in self._videos], dtype=np.int64), counts)

    def segments(self) -> Seconds:
        """(N, 2) seconds, each finite and not reversed; numbers or, as in G-TAD's THUMOS14 file, strings of them."""
        pairs = self._column("segment")
        values = np.empty(0)
        if set(map(type, pairs)) <= {list, tuple} and set(map(len, pairs)) <= {2}:
            values = _to_floats(chain.from_iterable(pairs), 2 * len(pairs))
        if len(values) < 2 * len(pairs) or not np.isfinite(values).all():
            self._refuse(_has_segment, "the segment must be [start, end], two finite numbers of seconds")
        segments: Seconds = values.reshape(-1, 2)
        if (segments[:, 1] < segments[:, 0]).any():
            self._refuse(
                lambda row: float(row["segment"][0]) <= float(row["segment"][1]),
                "the segment is reversed, it ends before it starts",
            )
        return segments

    def scores(self) -> Seconds:
        """(N,) finite scores."""
        column = self._column("score")
        values = _to_floats(column, len(column))
        if len(values) < len(column) or not np.isfinite(values).all():
            self._refuse(lambda row: math.isfinite(float(row["score"])), "the score must be a finite number")
        return values

    def _column(self, key: str) -> list[Any]:
        try:
            return [row[key] for row in self._rows]
        except (KeyError, TypeError, IndexError):
            self._refuse(lambda row: isinstance(row, Mapping) and key in row, f"the key {key!r} is missing")

    def _refuse(self, valid: Callable[[Any], bool], message: str) -> NoReturn:
        for video, rows in self._videos.items():
            for i, row in enumerate(rows):
                try:
                    accepted = valid(row)
                except (TypeError, ValueError, OverflowError):
                    accepted = False
                if not accepted:
                    raise ValueError(f"video {video!r}, {self._kind} {i}: {message}; got {_short(row)}")
        raise ValueError(f"a {self._kind} is broken: {message}")


def _to_floats(values: Iterable[Any], count: int) -> Seconds:
    """Convert to float64; empty when a value is not a number."""
    try:
        return np.fromiter(values, dtype=np.float64, count=count)
    except (TypeError, ValueError, OverflowError):
        return np.empty(0)


def _has_segment(row: Any) -> bool:
    segment = row["segment"]
    return isinstance(segment, list | tuple) and len(segment) == 2 and all(math.isfinite(float(s)) for s in segment)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
