"""Settings of `stale-edge detect`: how to detect, and what is written."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from stale_edge.config import Preprocessing
from stale_edge.data import read_split
from stale_edge.errors import DataError
from stale_edge.report.formats import FORMATTERS, SELECTIONS, Selection


@dataclass(frozen=True)
class DetectSettings:
    """Settings of detection: everything but the inputs.

    bundle: the bundle's folder.
    classes: names to look for, from the bundle's class bank or any that its text encoder reads; None: the whole bank.
    duration_s: length in seconds, > 0, of every video that is given as features; None: from its data set's
        annotations, else T * stride / fps of the bundle's feature contract.
    runtime, precision, threads, device: as in `load_bundle`.
    window, overlap: as in `Localizer.detect`; with a window, `.npy` files and videos are read window by window.
    encoder: visual encoder for videos; None: the bundle's.
    encoder_precision, encoder_runtime: precision and runtime as in `load_encoder`; runtime `auto` is the fastest way
        that `bench --video --recommend` found for this machine, its precision with it.
    preprocessing: how pictures are prepared, and the only way accepted of features; None: as the contract says.
    skip_similar: as in `FrameSettings`; None: every picture is encoded.
    class_scores: {video: {class: score}} for score fusion with a bundle that names no classes; None: no fusion.
    """

    bundle: Path
    classes: tuple[str, ...] | None = None
    duration_s: float | None = None
    runtime: str = "onnxruntime"
    precision: str = "fp32"
    threads: int = 1
    window: int | None = None
    overlap: int | None = None
    encoder: Path | None = None
    encoder_precision: str = "fp32"
    device: str = "cpu"
    encoder_runtime: str = "onnxruntime"
    preprocessing: Preprocessing | None = None
    skip_similar: float | None = None
    class_scores: Mapping[str, Mapping[str, float]] | None = None


@dataclass(frozen=True)
class OutputSettings:
    """Settings of the output.

    format: `json` (ActivityNet's layout), `csv`, `srt` (one video alone) or `html`.
    page: path of the `html` file, for relative links to the videos; None: absolute links.
    truth: annotations that `html` shows beside the detections; None: those of the data set, if there is one.
    min_score: lowest score that is written, in [0, 1]; None: the format's own limit.
    top_k: largest number of detections per video, >= 1; None: the format's own.

    Raises:
        ValueError: an unknown format.
    """

    format: str = "json"
    page: Path | None = None
    truth: Path | None = None
    min_score: float | None = None
    top_k: int | None = None

    @property
    def selection(self) -> Selection:
        """Which detections are written; a score that is given replaces the format's own limits."""
        chosen = SELECTIONS[self.format]
        if self.min_score is not None:
            chosen = replace(chosen, min_score=self.min_score, min_share=0.0)
        return chosen if self.top_k is None else replace(chosen, top_k=self.top_k)

    def __post_init__(self) -> None:
        if self.format not in FORMATTERS:
            raise ValueError(f"the output format must be one of {', '.join(FORMATTERS)}; got {self.format!r}")


def class_list(text: str) -> tuple[str, ...]:
    """Read the class names of `--classes`: a file with one name per line, or the names themselves, separated by commas.

    Raises:
        DataError: the file cannot be used, or there is no name.
    """
    if Path(text).is_file():
        return read_split(Path(text))
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names or (len(names) == 1 and Path(text).suffix in (".txt", ".list")):
        raise DataError(f"--classes {text!r}: no such file; give a file with one class name a line, or name,name,...")
    return names
