"""Check a whole data set folder and list all problems; nothing is written."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from stale_edge.config import FeatureSpec
from stale_edge.data.annotations import (
    TRAINING_SUBSETS,
    VALIDATION_SUBSETS,
    Report,
    VideoAnnotation,
    parse_database,
    read_json,
)
from stale_edge.data.feature_files import FeatureFolder, FeatureSource, read_features
from stale_edge.data.folder import (
    ANNOTATIONS_FILE,
    FEATURE_SPEC_FILE,
    FEATURES_FOLDER,
    SCORES_FILE,
    SPLITS_FOLDER,
    read_feature_spec,
)
from stale_edge.data.public import find_public_layout, read_public_annotations
from stale_edge.data.scores import parse_scores
from stale_edge.data.splits import read_split
from stale_edge.errors import DataError, FeatureContractError, shown
from stale_edge.progress import Progress, silent
from stale_edge.segments import find_video

KNOWN_SUBSETS = ("train", "training", "val", "valid", "validation", "test", "testing")
DURATION_TOLERANCE = 0.05
"""Snippets may cover this share more or less than the duration; videos are often cut a little short."""
SEGMENT_TOLERANCE_S = 0.1
"""A segment may end this much after its video: published durations are rounded (212 of ActivityNet's 22,152 do)."""


class Problem(NamedTuple):
    """One problem: the file, relative to the data set's folder, and the reason."""

    file: str
    reason: str


@dataclass(frozen=True)
class CheckReport:
    """Results of a check.

    problems: what is wrong. warnings: what is allowed but rarely meant.
    n_videos, n_classes: annotated. n_features: videos with readable features. channels: of most of them; None: of none.
    hours: annotated durations together.
    """

    problems: list[Problem]
    warnings: list[Problem]
    n_videos: int
    n_classes: int
    n_features: int
    channels: int | None
    hours: float

    def summary(self) -> str:
        """Count the data set in one line."""
        channels = "no features" if self.channels is None else f"{self.channels} channels"
        return (
            f"{self.n_videos} videos ({self.n_features} with features), {self.n_classes} classes, {channels}, "
            f"{self.hours:.1f} hours; {len(self.problems)} problem{'' if len(self.problems) == 1 else 's'} found"
        )


@dataclass
class _Check:
    root: Path
    problems: dict[Problem, None] = field(default_factory=dict)  # in the order found, each once
    warnings: list[Problem] = field(default_factory=list)

    def report(self, file: Path | str) -> Report:
        """Make a report that lists reasons for one file; a path in front of a reason is not repeated."""
        path = self.root / file
        named = path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)

        def add(reason: str) -> None:
            self.problems[Problem(named, reason.removeprefix(f"{path}: "))] = None

        return add


def check(root: Path, *, progress: Progress = silent) -> list[Problem]:
    """List the problems of a data set; see `check_data_set`."""
    return check_data_set(root, progress=progress).problems


def check_data_set(root: Path, *, progress: Progress = silent) -> CheckReport:
    """Read a whole data set folder and list every problem with file and reason; an empty list means no problem.

    Problems are:
    - missing parts, unreadable files, broken entries;
    - features that are missing, unreadable, without annotation, present twice, of a wrong type, shape or width, empty,
      or not finite;
    - durations that are missing or not > 0, or that disagree with the number of snippets (where `feature_spec.json`
      says fps and stride) by more than `DURATION_TOLERANCE` and two snippets;
    - segments that are reversed, of zero length, or outside the video by more than `SEGMENT_TOLERANCE_S`;
    - videos, annotations or class names that occur twice;
    - videos without an action outside the test subset; subsets of unknown name;
    - annotated labels that are in no class list under `splits/` or not in the file's taxonomy; scored labels that are
      neither in the lists nor annotated; class lists without any annotated class (a list may name further classes).

    Warnings are a missing `feature_spec.json` and subsets that no command reads by itself.

    Args:
        root: folder of the data set, as in `open_data_set`.
        progress: called with (stage, done, total) after each video.

    Raises:
        DataError: the folder does not exist.
        MissingExtraError: there are HDF5 features and h5py is not installed.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such data set folder")
    checking = _Check(root)
    videos, annotations_file, scores_file = _check_annotations(checking)
    known_labels = _check_splits(checking, videos, annotations_file)
    _check_scores(checking, videos, known_labels, scores_file)
    shapes = _check_features(checking, videos, annotations_file, progress)
    _check_subsets(checking, videos, annotations_file)
    return CheckReport(
        problems=list(checking.problems),
        warnings=checking.warnings,
        n_videos=len(videos),
        n_classes=len({action.label for video in videos.values() for action in video.actions}),
        n_features=len(shapes),
        channels=Counter(width for _, width in shapes.values()).most_common(1)[0][0] if shapes else None,
        hours=sum(video.duration_s for video in videos.values()) / 3600,
    )


def _check_subsets(checking: _Check, videos: Mapping[str, VideoAnnotation], annotations_file: Path) -> None:
    """Warn of subsets that neither `train` nor `evaluate` reads unless they are told to."""
    counts = Counter(video.subset for video in videos.values())
    read = {next((n for n in names if n in counts), None) for names in (TRAINING_SUBSETS, VALIDATION_SUBSETS)}
    named = annotations_file.name
    for subset, count in counts.items():
        if subset not in read and not subset.lower().startswith("test"):
            trains, validates = " or ".join(TRAINING_SUBSETS), " or ".join(VALIDATION_SUBSETS)
            reason = (
                f"no command reads subset {shown(subset)} ({count} videos) by itself: train reads {trains}, validates "
                f"on {validates}, the first that is there; rename it, or give --subset to evaluate and score"
            )
            checking.warnings.append(Problem(named, reason))


def _check_duration(
    checking: _Check, source: FeatureSource, video: VideoAnnotation | None, n_snippets: int, spec: FeatureSpec | None
) -> None:
    """Compare a video's duration with its snippets, where the spec says how long a snippet is."""
    if video is None or spec is None or spec.fps is None or spec.stride is None:
        return
    step_s = spec.stride / spec.fps
    covered_s = n_snippets * step_s
    spare_s = 2 * step_s + (spec.num_frames or 0) / spec.fps
    if abs(covered_s - video.duration_s) > spare_s + DURATION_TOLERANCE * video.duration_s:
        checking.report(source.path)(
            f"{n_snippets} snippets of {step_s:g} s cover {covered_s:g} s, but the video lasts {video.duration_s:g} s; "
            f"correct the duration, or fps and stride in {FEATURE_SPEC_FILE}"
        )


def _check_annotations(checking: _Check) -> tuple[dict[str, VideoAnnotation], Path, Path]:
    root = checking.root
    path, scores = root / ANNOTATIONS_FILE, root / SCORES_FILE
    layout = None if path.is_file() else find_public_layout(root)
    report = checking.report(path if layout is None else layout.annotations)
    try:
        if layout is None:
            document = read_json(path, report)
            videos = parse_database(document, report)
            _check_taxonomy(document, videos, report)
        else:
            path, scores = layout.annotations, layout.scores or scores
            videos = read_public_annotations(path, layout.video_info, report=report).videos
    except DataError as error:
        report(str(error))
        return {}, path, scores
    if not videos and not checking.problems:
        report("no video is annotated")
    for name, video in videos.items():
        _check_video(name, video, report)
    _check_prefixes(videos, report)
    return videos, path, scores


def _check_video(name: str, video: VideoAnnotation, report: Report) -> None:
    where = f"video {shown(name)}"
    if video.subset.lower() not in KNOWN_SUBSETS:
        report(f"{where}: unknown subset {shown(video.subset)}; known: {', '.join(KNOWN_SUBSETS)}")
    if not video.actions and not video.subset.lower().startswith("test"):
        report(f"{where}: empty video: no action is annotated though it is in subset {shown(video.subset)}")
    for i, action in enumerate(video.actions):
        here = f"{where}, annotation {i} ({action.label})"
        if action.label != action.label.strip():
            report(f"{here}: the label has spaces at an end: {shown(action.label)}")
        if action.end_s == action.start_s:
            report(f"{here}: the segment has zero length at {action.start_s:g} s")
        if action.start_s < -SEGMENT_TOLERANCE_S or action.end_s > video.duration_s + SEGMENT_TOLERANCE_S:
            report(
                f"{here}: the segment [{action.start_s:g}, {action.end_s:g}] s is outside the video, "
                f"which lasts {video.duration_s:g} s"
            )
    for action, n in Counter(video.actions).items():
        if n > 1:
            report(f"{where}: duplicate: {action.label} [{action.start_s:g}, {action.end_s:g}] s stands {n} times")


def _check_prefixes(videos: Mapping[str, VideoAnnotation], report: Report) -> None:
    for name in videos:
        if f"v_{name}" in videos:
            report(f"video {shown(name)}: duplicate: the same video stands as {shown('v_' + name)} too")


def _check_taxonomy(document: Any, videos: Mapping[str, VideoAnnotation], report: Report) -> None:
    """Check labels against the taxonomy; ActivityNet's own file lists its classes as nodes of a tree."""
    taxonomy = document.get("taxonomy") if isinstance(document, dict) else None
    nodes = taxonomy if isinstance(taxonomy, list) else []
    known = {node["nodeName"] for node in nodes if isinstance(node, dict) and isinstance(node.get("nodeName"), str)}
    if known:
        _report_unknown_labels(videos, known, "the file's taxonomy", report)


def _report_unknown_labels(videos: Mapping[str, VideoAnnotation], known: set[str], source: str, report: Report) -> None:
    for name, video in videos.items():
        for label in dict.fromkeys(action.label for action in video.actions):
            if label not in known:
                report(f"video {shown(name)}: unknown label {shown(label)}; it is not in {source}")


def _check_splits(checking: _Check, videos: Mapping[str, VideoAnnotation], annotations_file: Path) -> set[str]:
    """Check the class lists; return every label in them or in the annotations."""
    folder = checking.root / SPLITS_FOLDER
    annotated = {action.label for video in videos.values() for action in video.actions}
    named: set[str] = set()
    for path in sorted(folder.rglob("*.list")):
        report = checking.report(path)
        try:
            names = read_split(path)
        except DataError as error:
            report(str(error))
            continue
        named.update(names)
        if annotated.isdisjoint(names) and annotated:
            report(f"unknown labels: no video is annotated with any of its {len(names)} classes")
    if named:
        report = checking.report(annotations_file)
        _report_unknown_labels(videos, named, f"any class list under {SPLITS_FOLDER}/", report)
    return named | annotated


def _check_scores(checking: _Check, videos: Mapping[str, VideoAnnotation], known: set[str], path: Path) -> None:
    if not path.is_file():
        return
    report = checking.report(path)
    try:
        scores = parse_scores(read_json(path, report), report)
    except DataError as error:
        report(str(error))
        return
    for video, score in scores.items():
        if videos and find_video(video, videos) is None:
            report(f"video {shown(video)}: scored but not annotated")
        if known and score.label not in known:
            report(f"video {shown(video)}: unknown label {shown(score.label)}: no video is annotated with it")


def _check_features(
    checking: _Check, videos: Mapping[str, VideoAnnotation], annotations_file: Path, progress: Progress
) -> dict[str, tuple[int, int]]:
    """Check all features; give the shape of those that can be read, by video."""
    spec = _stated_spec(checking)
    shapes: dict[str, tuple[int, int]] = {}
    try:
        features = FeatureFolder(checking.root / FEATURES_FOLDER)
    except DataError as error:
        checking.report(FEATURES_FOLDER)(str(error))
        return shapes
    widths: dict[FeatureSource, int] = {}
    for video in videos:
        if video not in features:
            checking.report(f"{FEATURES_FOLDER}/{video}.npy")(f"missing feature of video {shown(video)}")
    names = set(features.videos)
    for done, video in enumerate(features.videos, start=1):
        sources = features.sources(video)
        named = sources[0].path
        if len(sources) > 1:
            listed = ", ".join(source.path.relative_to(features.root).as_posix() for source in sources)
            checking.report(named)(f"duplicate: several files hold features of video {shown(video)}: {listed}")
        if f"v_{video}" in names:
            checking.report(named)(f"duplicate: the same video has features as {shown('v_' + video)} too")
        if videos and find_video(video, videos) is None:
            checking.report(named)(
                f"feature without annotation: video {shown(video)} is not in {annotations_file.name}"
            )
        for source in sources:
            try:
                loaded = read_features(*source)
            except (DataError, FeatureContractError) as error:
                checking.report(source.path)(str(error))
                continue
            widths[source] = loaded.shape[1]
            shapes[video] = (loaded.shape[0], loaded.shape[1])
            name = find_video(video, videos)
            _check_duration(checking, source, None if name is None else videos[name], loaded.shape[0], spec)
        progress("check", done, len(features))
    _check_widths(checking, widths, None if spec is None else spec.channels)
    return shapes


def _check_widths(checking: _Check, widths: Mapping[FeatureSource, int], stated: int | None) -> None:
    if not widths:
        return
    expected = stated or Counter(widths.values()).most_common(1)[0][0]
    reason = f"as {FEATURE_SPEC_FILE} says" if stated else "as most features have"
    for source, width in widths.items():
        if width != expected:
            array = "" if source.array is None else f"{shown(source.array)}: "
            checking.report(source.path)(f"{array}wrong width: C = {width} channels, not {expected} {reason}")


def _stated_spec(checking: _Check) -> FeatureSpec | None:
    path = checking.root / FEATURE_SPEC_FILE
    if not path.is_file():
        reason = (
            "is missing: nothing checks that detector and features fit, and seconds per snippet are not known; write "
            '{"encoder": NAME, "channels": C, "fps": FPS, "stride": FRAMES}'
        )
        checking.warnings.append(Problem(FEATURE_SPEC_FILE, reason))
        return None
    try:
        return read_feature_spec(path)
    except DataError as error:
        checking.report(path)(str(error))
        return None
