"""Feature files in, the text of a file of detections out: what `stale-edge detect` does."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from stale_edge.bundle import ClassBank
from stale_edge.data import FeatureFolder, open_data_set, read_feature_spec, read_features, read_split
from stale_edge.data.folder import ANNOTATIONS_FILE, FEATURE_SPEC_FILE
from stale_edge.errors import DataError, StaleEdgeError
from stale_edge.report.formats import Formatter, to_csv, to_html, to_json, to_srt
from stale_edge.runtime.contract import check_feature_spec, implied_duration_s
from stale_edge.runtime.localizer import Localizer, load_bundle
from stale_edge.segments import Detection, FloatArray, find_video

FORMATTERS: dict[str, Formatter] = {"json": to_json, "csv": to_csv, "srt": to_srt, "html": to_html}

Progress = Callable[..., None]
"""Called with (stage, done, total)."""

_MOST_ERRORS = 5
"""Where every input is bad, this many are named; the line is to be read."""


@dataclass(frozen=True)
class DetectionRun:
    """What was found in several inputs.

    text: the detections of every input that could be read, in the format asked for.
    errors: one line for every input that could not; the same line once.
    """

    text: str
    errors: tuple[str, ...]


class _Input(NamedTuple):
    """One video: its name, where its features lie, and its length in seconds if its data set says it."""

    video: str
    load: Callable[[], FloatArray]
    duration_s: float | None
    source: Path


def detect_files(
    bundle: Path,
    inputs: Sequence[Path],
    *,
    classes: Sequence[str] | None = None,
    output_format: str = "json",
    duration_s: float | None = None,
    runtime: str = "onnxruntime",
    precision: str = "fp32",
    threads: int = 1,
    progress: Progress | None = None,
) -> DetectionRun:
    """Detect actions in feature files, folders of them, or whole data sets; one bad file does not end the run.

    The length of a video is `duration_s` if given, else what its data set's annotations say, else T * stride / fps of
    the bundle's feature contract. A `feature_spec.json` beside the features, or one folder up, must fit the contract.

    Args:
        bundle: the bundle's folder.
        inputs: feature files, folders of feature files, or data set folders.
        classes: names to look for, out of the bundle's class bank; None: all.
        output_format: `json` (ActivityNet's layout), `csv`, `srt` (one video alone) or `html`.
        duration_s: length of every video in seconds, > 0; None: see above.
        runtime, precision, threads: as in `load_bundle`.
        progress: called with (stage, done, total).

    Raises:
        ValueError: an unknown format, or a duration that is not > 0.
        BundleError, VerificationError, ClassBankError: the bundle or the class names cannot be used.
        DataError: two inputs have the same name, or a folder has no features.
    """
    if output_format not in FORMATTERS:
        raise ValueError(f"output_format must be one of {', '.join(FORMATTERS)}; got {output_format!r}")
    localizer = load_bundle(bundle, runtime=runtime, precision=precision, threads=threads)
    bank = localizer.class_bank if classes is None else localizer.class_bank.select(classes)
    videos = _unique([video for path in inputs for video in _videos_at(Path(path))])
    if output_format == "srt" and len(videos) != 1:
        raise DataError(f"subtitles belong to one video; got {len(videos)}: detect one by one, or write json")
    results: dict[str, list[Detection]] = {}
    durations: dict[str, float] = {}
    errors = []
    for done, item in enumerate(videos):
        if progress is not None:
            progress("detect", done, len(videos))
        try:
            results[item.video], durations[item.video] = _detect(localizer, bank, item, duration_s)
        except StaleEdgeError as error:
            errors.append(str(error) if str(item.source) in str(error) else f"{item.source}: {error}")
    if progress is not None:
        progress("detect", len(videos), len(videos))
    errors = list(dict.fromkeys(errors))  # what is wrong with a whole folder is said once, not once a video
    if errors and not results:
        more = f"; and {len(errors) - _MOST_ERRORS} more" if len(errors) > _MOST_ERRORS else ""
        raise DataError("; ".join(errors[:_MOST_ERRORS]) + more)
    return DetectionRun(FORMATTERS[output_format](results, durations=durations), tuple(errors))


def class_list(text: str) -> tuple[str, ...]:
    """Read the class names of `--classes`: a file with one a line, or the names themselves, separated by commas.

    Raises:
        DataError: the file cannot be used, or there is no name.
    """
    if Path(text).is_file():
        return read_split(Path(text))
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names or (len(names) == 1 and Path(text).suffix in (".txt", ".list")):
        raise DataError(f"--classes {text!r}: no such file; give a file with one class name a line, or name,name,...")
    return names


def _detect(
    localizer: Localizer, bank: ClassBank, item: _Input, duration_s: float | None
) -> tuple[list[Detection], float]:
    _check_spec_near(localizer, item.source)
    features = item.load()
    seconds = duration_s if duration_s is not None else item.duration_s
    if seconds is None:
        seconds = implied_duration_s(localizer.feature_contract, features.shape[0])
    if seconds is None:
        raise DataError(
            f"{item.source}: nobody says how long this video is: the bundle's feature contract has no fps and stride; "
            "give --duration SECONDS"
        )
    return localizer.detect(features, duration_s=seconds, class_bank=bank), seconds


def _check_spec_near(localizer: Localizer, source: Path) -> None:
    folder = source if source.is_dir() else source.parent
    for place in (folder, folder.parent):
        if (place / FEATURE_SPEC_FILE).is_file():
            check_feature_spec(localizer.feature_contract, read_feature_spec(place / FEATURE_SPEC_FILE))
            return


def _videos_at(path: Path) -> Iterator[_Input]:
    if not path.is_dir():
        yield _Input(path.stem, lambda: read_features(path), None, path)
        return
    if (path / ANNOTATIONS_FILE).is_file():
        data_set = open_data_set(path)
        folder, annotated = data_set.features, data_set.annotations.videos
    else:
        folder, annotated = FeatureFolder(path), {}
    if not folder.videos:
        raise DataError(f"{path}: no feature file in this folder; allowed: .npy, .npz, .h5, .hdf5")
    for video in folder.videos:
        name = find_video(video, annotated)
        yield _Input(video, partial(folder.load, video), annotated[name].duration_s if name else None, path)


def _unique(videos: list[_Input]) -> list[_Input]:
    seen: dict[str, Path] = {}
    for item in videos:
        if item.video in seen:
            raise DataError(f"two inputs are called {item.video}: {seen[item.video]} and {item.source}; rename one")
        seen[item.video] = item.source
    return videos
