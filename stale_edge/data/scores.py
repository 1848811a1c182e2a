"""Video-level scores for score enhancement: a video's most likely class, from another classifier."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stale_edge.bundle.files import write_file_atomically
from stale_edge.data.annotations import Report, finite_number, read_json, refusing
from stale_edge.data.splits import read_lines
from stale_edge.errors import DataError, shown


class VideoScore(NamedTuple):
    """A video's most likely class from another classifier, for score enhancement; score in [0, 1]."""

    label: str
    score: float


def read_scores(path: Path) -> dict[str, VideoScore]:
    """Read video-level scores, `{video: {"class": label, "score": s}}`, as in the public `stale_best_score.json`.

    Raises:
        DataError: the file is unreadable, or an entry is not a class name with a score in [0, 1].
    """
    path = Path(path)
    refuse = refusing(path)
    return parse_scores(read_json(path, refuse), refuse)


def read_class_scores(path: Path) -> dict[str, dict[str, float]]:
    """Read the scores of several classes for each video, `{video: {class: score}}`, for score fusion.

    Raises:
        DataError: the file is unreadable, a video has no scores, or a score is not a finite number >= 0.
    """
    path = Path(path)
    document = read_json(path, refusing(path))
    if not isinstance(document, dict):
        raise DataError(
            f"{path}: must hold an object {{video: {{class: score}}}}; got {type(document).__name__}; "
            "write one score for each class of each video"
        )
    scores: dict[str, dict[str, float]] = {}
    for video, entry in document.items():
        values = {name: finite_number(value) for name, value in entry.items()} if isinstance(entry, dict) else {}
        fine = {name: value for name, value in values.items() if value is not None and value >= 0}
        if not values or len(fine) < len(values):
            raise DataError(
                f"{path}: video {shown(video)}: must be an object {{class: a finite number >= 0}}, at least one class; "
                f"got {shown(entry)}; a file of the best class alone is for --scores"
            )
        scores[video] = fine
    return scores


def parse_scores(document: Any, report: Report) -> dict[str, VideoScore]:
    """Turn a document of video-level scores into `VideoScore`s, reporting each entry that cannot be used."""
    if not isinstance(document, dict):
        report(f'must hold an object {{video: {{"class": ..., "score": ...}}}}; got {type(document).__name__}')
        return {}
    scores = {}
    for video, entry in document.items():
        label = entry.get("class") if isinstance(entry, dict) else None
        score = finite_number(entry.get("score")) if isinstance(entry, dict) else None
        if not isinstance(label, str) or not label.strip() or score is None or not 0 <= score <= 1:
            allowed = '{"class": a class name, "score": a number in [0, 1]}'
            report(f"video {shown(video)}: must be {allowed}; got {shown(entry)}")
        else:
            scores[video] = VideoScore(label, score)
    return scores


def write_scores(path: Path, scores: Mapping[str, VideoScore]) -> None:
    """Write video-level scores atomically, as `read_scores` reads them.

    Raises:
        OSError: the file cannot be written.
    """
    document = {video: {"class": score.label, "score": round(score.score, 6)} for video, score in scores.items()}
    write_file_atomically(Path(path), (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode())


def read_score_array(path: Path, classes: Mapping[int, str], *, video_name: str) -> dict[str, VideoScore]:
    """Read the scores of UntrimmedNets in the form used for THUMOS14: an array, one row per video.

    A row is divided by its sum (published rows add two streams of probabilities). Among the columns with a class,
    the largest gives the video's class and score.

    Args:
        path: `.npy` file, (videos, columns) floating, nothing negative.
        classes: class names by column, from 0.
        video_name: format of a video's name, given the row's number from 1, such as `video_test_{:07d}`.

    Raises:
        DataError: the file is no such array, a column does not exist, or a row is not finite, negative or all zero.
        ValueError: `video_name` gives the same name for different rows.
    """
    path = Path(path)
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: not a readable NumPy array: {error}") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or 0 in array.shape or array.dtype.kind != "f":
        described = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else "an archive"
        raise DataError(f"{path}: must hold a floating array (videos, columns); got {described}")
    outside = [column + 1 for column in classes if not 0 <= column < array.shape[1]]
    if outside:
        raise DataError(f"{path}: has {array.shape[1]} columns; there is no column {outside[0]}")
    values = array.astype(np.float64)
    totals = values.sum(axis=1)
    bad = ~np.isfinite(values).all(axis=1) | (values < 0).any(axis=1) | ~(totals > 0)
    if bad.any():
        raise DataError(f"{path}: row {int(np.argmax(bad)) + 1} must hold finite numbers >= 0, not all of them 0")
    if video_name.format(1) == video_name.format(2):
        raise ValueError(
            f"video_name must have a place for the number, such as video_test_{{:07d}}; got {shown(video_name)}"
        )
    columns = sorted(classes)
    best = values[:, columns].argmax(axis=1)
    return {
        video_name.format(row + 1): VideoScore(classes[columns[k]], float(values[row, columns[k]] / totals[row]))
        for row, k in enumerate(best.tolist())
    }


def read_columns(path: Path) -> dict[int, str]:
    """Read the class names of the columns of a score array.

    The file has one name per line in the order of the columns or, like THUMOS14's `detclasslist.txt`, the column's
    number from 1 before each name.

    Returns:
        Class names by column, from 0.

    Raises:
        DataError: the file is unreadable, empty, or has a number or a name twice.
    """
    lines = read_lines(Path(path), kind="class list", what="class")
    numbered = [re.fullmatch(r"(\d+)\s+(\S.*)", line) for line in lines]
    if not all(numbered):
        return dict(enumerate(lines))
    columns = {int(match[1]) - 1: match[2] for match in numbered if match}
    if len(columns) < len(lines) or len(set(columns.values())) < len(lines):
        raise DataError(f"{path}: a number or a class name stands twice; keep each once")
    return columns


def accuracy(scores: Mapping[str, VideoScore], labels: Mapping[str, Sequence[str]]) -> float | None:
    """Compute the percentage of videos whose scored class is one of those annotated; None: no video has both."""
    right = [scores[video].label in labels[video] for video in labels if labels[video] and video in scores]
    return 100 * sum(right) / len(right) if right else None
