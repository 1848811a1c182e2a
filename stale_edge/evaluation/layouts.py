"""ActivityNet's layouts of ground truth and predictions, turned into arrays."""

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import chain, count
from operator import itemgetter
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from stale_edge.errors import shown
from stale_edge.segments import IntArray, find_video

Seconds = NDArray[np.float64]


class TruthTable(NamedTuple):
    """The actions of a subset, one per row, in the order of the file.

    classes: names, in the order of first appearance; `label` is an index into them.
    n_videos: number of videos in the file, in any subset; `video` is in [0, n_videos).
    label, video: (G,) int64. segments: (G, 2) float64, seconds.
    """

    classes: tuple[str, ...]
    n_videos: int
    label: IntArray
    video: IntArray
    segments: Seconds


class PredictionTable(NamedTuple):
    """Detections of known classes, one per row, in the order of the file.

    label, video: (P,) int64; video is -1 if the ground truth does not contain it.
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
        raise ValueError(f"classes must be a collection of names; got the string {shown(classes)}")
    database = layout.get("database", layout) if isinstance(layout, Mapping) else None
    if not isinstance(database, Mapping):
        raise ValueError('the key "database" must hold an object of videos, as in ActivityNet\'s ground truth')
    numbers = {video: i for i, video in enumerate(database)}
    kept = {}
    subsets = set()
    for video, entry in database.items():
        if not isinstance(entry, Mapping) or not isinstance(entry.get("annotations"), list):
            raise ValueError(f"video {shown(video)}: must be an object with a list of annotations; got {shown(entry)}")
        if subset is not None and "subset" not in entry:
            raise ValueError(
                f'video {shown(video)}: the key "subset" is missing; to take all videos, give subset=None (--subset "")'
            )
        subsets.add(str(entry.get("subset")))
        if subset is None or entry["subset"] == subset:
            kept[video] = entry["annotations"]
    rows = _Rows(kept, "annotation")
    wanted_classes = None if classes is None else frozenset(classes)
    names = tuple(name for name in rows.classes if wanted_classes is None or name in wanted_classes)
    if not names:
        wanted = "" if wanted_classes is None else f" of the {len(wanted_classes)} classes asked for"
        raise ValueError(
            f"no action{wanted} is annotated in subset {shown(subset)}; subsets there are: {', '.join(sorted(subsets))}"
        )
    label = rows.label_numbers(names)
    keep = label >= 0
    video_number, segments = rows.video_numbers(numbers)[keep], rows.segments()[keep]
    return TruthTable(names, len(numbers), label[keep], video_number, segments), numbers


def prediction_table(layout: Mapping[str, Any], classes: tuple[str, ...], videos: Mapping[str, int]) -> PredictionTable:
    """Read predictions of the given classes.

    Names of videos agree with the ground truth's with or without the prefix `v_`, as published files differ in this.

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
            raise ValueError(f"video {shown(video)}: must be a list of detections; got {shown(entries)}")
    numbers: dict[str, int] = {}
    owners: dict[int, str] = {}
    for video in results:
        known = find_video(video, videos)
        numbers[video] = -1 if known is None else videos[known]
        if known is not None and owners.setdefault(videos[known], video) != video:
            raise ValueError(
                f"videos {shown(owners[videos[known]])} and {shown(video)} are both {shown(known)} of the ground truth"
            )
    rows = _Rows(results, "detection")
    label = rows.label_numbers(classes)
    ignored = tuple(sorted(set(rows.classes) - set(classes)))
    table = PredictionTable(label, rows.video_numbers(numbers), rows.segments(), rows.scores(), ignored)
    return table.take(np.flatnonzero(label >= 0)) if ignored else table


class _Rows:
    """The rows of all videos, stored by column; rows are visited one by one only to name a broken row."""

    def __init__(self, videos: Mapping[str, list[Any]], kind: str) -> None:
        self._videos, self._kind = videos, kind
        self._rows = list(chain.from_iterable(videos.values()))
        numbers: defaultdict[Any, int] = defaultdict(count().__next__)  # in the order of first appearance
        self._label = self._read("label", lambda labels: self._array(map(numbers.__getitem__, labels), np.int64))
        self.classes: tuple[str, ...] = tuple(numbers)
        if not all(isinstance(label, str) for label in self.classes):
            self._refuse("label")

    def label_numbers(self, classes: Sequence[str]) -> IntArray:
        """(N,) index of each row's class in `classes`, -1 for other classes."""
        wanted = {name: i for i, name in enumerate(classes)}
        numbers: IntArray = np.array([wanted.get(name, -1) for name in self.classes], dtype=np.int64)[self._label]
        return numbers

    def video_numbers(self, numbers: Mapping[str, int]) -> IntArray:
        """(N,) number of each row's video."""
        counts = [len(rows) for rows in self._videos.values()]
        return np.repeat(np.array([numbers[video] for video in self._videos], dtype=np.int64), counts)

    def segments(self) -> Seconds:
        """(N, 2) seconds, each finite and not reversed; numbers or, as in G-TAD's THUMOS14 file, strings of them."""
        segments: Seconds = self._read("segment", self._pairs).reshape(-1, 2)
        if not np.isfinite(segments).all() or (segments[:, 1] < segments[:, 0]).any():
            self._refuse("segment")
        return segments

    def scores(self) -> Seconds:
        """(N,) finite scores."""
        scores: Seconds = self._read("score", lambda scores: self._array(scores, np.float64))
        if not np.isfinite(scores).all():
            self._refuse("score")
        return scores

    def _read(self, key: str, read: Callable[[Iterator[Any]], NDArray[Any]]) -> NDArray[Any]:
        try:
            return read(map(itemgetter(key), self._rows))
        except (KeyError, IndexError, TypeError, ValueError, OverflowError):
            self._refuse(key)

    def _array(self, values: Iterator[Any], dtype: type[np.generic]) -> NDArray[Any]:
        return np.fromiter(values, dtype=dtype, count=len(self._rows))

    def _pairs(self, segments: Iterator[Any]) -> NDArray[Any]:
        pairs = list(segments)
        if not set(map(type, pairs)) <= {list, tuple} or not set(map(len, pairs)) <= {2}:
            raise TypeError("a segment is not a pair")
        return np.fromiter(chain.from_iterable(pairs), dtype=np.float64, count=2 * len(pairs))

    def _refuse(self, key: str) -> NoReturn:
        is_valid, allowed = _COLUMNS[key]
        for video, rows in self._videos.items():
            for i, row in enumerate(rows):
                where = f"video {shown(video)}, {self._kind} {i}"
                if not isinstance(row, Mapping) or key not in row:
                    raise ValueError(f"{where}: the key {shown(key)} is missing; got {shown(row)}")
                try:
                    accepted = is_valid(row[key])
                except (TypeError, ValueError, OverflowError):
                    accepted = False
                if not accepted:
                    raise ValueError(f"{where}: the {key} must be {allowed}; got {shown(row[key])}")
        raise ValueError(f"the {key} of a {self._kind} must be {allowed}")


def _is_segment(value: Any) -> bool:
    if not isinstance(value, list | tuple) or len(value) != 2:
        return False
    start, end = map(float, value)
    return math.isfinite(start) and math.isfinite(end) and start <= end


_COLUMNS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "label": (lambda value: isinstance(value, str), "a class name"),
    "segment": (_is_segment, "[start, end], two finite numbers of seconds, not reversed"),
    "score": (lambda value: math.isfinite(float(value)), "a finite number"),
}
