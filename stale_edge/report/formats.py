"""Detections as files: JSON in ActivityNet's layout, CSV, SubRip subtitles, and one HTML page."""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from stale_edge.report.page import timeline_page
from stale_edge.report.view import VideoView
from stale_edge.segments import CONFIDENT, Detection

Results = Mapping[str, Sequence[Detection]]
"""The detections of each video."""


@dataclass(frozen=True)
class Selection:
    """Which detections of a video a file gets.

    min_score: lowest score, in [0, 1].
    min_share: lowest score as a share of the best score of the video, in [0, 1].
    top_k: largest number per video, best first; None: all.
    """

    min_score: float = 0.0
    min_share: float = 0.0
    top_k: int | None = None

    def of(self, detections: Sequence[Detection]) -> list[Detection]:
        """Give the detections that stay, in their order."""
        limit = max(self.min_score, self.min_share * max((d.score for d in detections), default=0.0))
        kept = [row for row, d in enumerate(detections) if d.score >= limit]
        best = sorted(kept, key=lambda row: -detections[row].score)[: self.top_k]
        return [detections[row] for row in sorted(best)]

    def __str__(self) -> str:
        share = f"{self.min_share:.0%} of the best score of its video" if self.min_share else ""
        least = f"a score of {self.min_score:g}" if self.min_score else ""
        parts = [f"at least {' and '.join(filter(None, (least, share)))}"] if least or share else []
        parts += [] if self.top_k is None else [f"the best {self.top_k} of a video"]
        return ", ".join(parts) or "all"


SELECTIONS: Mapping[str, Selection] = {
    "json": Selection(),
    "csv": Selection(),
    "srt": Selection(min_share=CONFIDENT, top_k=50),
    "html": Selection(top_k=100),
}
"""Default of each format: programs get all, a person who watches gets what is not the tail of soft-NMS."""

MOST_INDENTED = 10
"""Largest number of videos whose JSON is indented; indentation takes four times as long, and nobody reads so many."""
CSV_COLUMNS = ("video", "label", "score", "start_s", "end_s")


class Formatter(Protocol):
    """Turns the detections of videos into the text of a file."""

    def __call__(
        self, results: Results, *, durations: Mapping[str, float] | None = None, decimals: int | None = None
    ) -> str:
        """Format `results`; `durations` are the lengths of the videos in seconds, `decimals` those of times."""
        ...


def to_layout(results: Results) -> dict[str, Any]:
    """Put detections into ActivityNet's layout: `{"version", "results": {video: [...]}, "external_data": {}}`.

    Raises:
        ValueError: a score or a time is not finite, or a segment is reversed or begins before 0; the video is named.
    """
    rows = {
        video: [
            {"label": d.label, "score": float(d.score), "segment": [float(d.start_s), float(d.end_s)]}
            for d in _checked(video, detections)
        ]
        for video, detections in results.items()
    }
    return {"version": "1.3", "results": rows, "external_data": {}}


def to_json(
    results: Results,
    *,
    durations: Mapping[str, float] | None = None,  # noqa: ARG001
    decimals: int | None = None,  # noqa: ARG001
) -> str:
    """Write ActivityNet's layout as JSON, numbers in full; indented for a few videos. Errors as `to_layout`."""
    indent = 2 if len(results) <= MOST_INDENTED else None
    return json.dumps(to_layout(results), indent=indent, ensure_ascii=False, allow_nan=False) + "\n"


def to_csv(
    results: Results,
    *,
    durations: Mapping[str, float] | None = None,  # noqa: ARG001
    decimals: int | None = None,
) -> str:
    """Write one detection per line with the columns of `CSV_COLUMNS`; lines end in CR LF and quoting follows RFC 4180.

    Scores are written in full, and times too without `decimals`: reading them back gives the same float. A name that a
    spreadsheet would read as a formula gets an apostrophe in front, as OWASP's page on CSV injection advises. Errors as
    `to_layout`.
    """
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(CSV_COLUMNS)
    for video, detections in results.items():
        for d in _checked(video, detections):
            writer.writerow(
                (no_formula(video), no_formula(d.label), float(d.score), *(_rounded(t, decimals) for t in d[2:]))
            )
    return buffer.getvalue()


def to_srt(results: Results, *, durations: Mapping[str, float] | None = None, decimals: int | None = None) -> str:
    """Write SubRip subtitles of one video, `label (score)`, by time; players show overlapping subtitles together.

    Times are rounded to `decimals`, at most to milliseconds, and no subtitle is shorter than one. A label cannot break
    out of its line, and its angle brackets cannot be read as markup.

    Args:
        results: of one video; without a video the text is empty.
        durations: subtitles end with the video if its length in seconds is known.

    Raises:
        ValueError: more than one video; others as `to_layout`.
    """
    if len(results) > 1:
        raise ValueError(f"subtitles belong to one video; got {len(results)}: {', '.join(results)}")
    if not results:
        return ""
    video, detections = next(iter(results.items()))
    last_ms = _milliseconds((durations or {}).get(video, math.inf))
    blocks = []
    for number, d in enumerate(sorted(_checked(video, detections), key=lambda d: (d.start_s, d.end_s, -d.score)), 1):
        start = _milliseconds(_rounded(d.start_s, decimals))
        end = max(min(_milliseconds(_rounded(d.end_s, decimals)), last_ms), start + 1)
        text = " ".join(d.label.split()).replace("-->", "→").replace("<", "‹").replace(">", "›")
        blocks.append(f"{number}\n{_timecode(int(start))} --> {_timecode(int(end))}\n{text} ({d.score:.2f})\n")
    return "\n".join(blocks)


def to_html(
    results: Results,
    *,
    durations: Mapping[str, float] | None = None,
    decimals: int | None = None,  # noqa: ARG001
    views: Mapping[str, VideoView] | None = None,
    left_out: Mapping[str, int] | None = None,
) -> str:
    """Write one self-contained page: a timeline per video, a lane per class, colour by score, a threshold slider.

    Args:
        results: any number of videos.
        durations: lengths of the videos in seconds, > 0; without one, a timeline ends with its last detection.
        decimals: not used; times are shown in tenths of a second.
        views: the video itself, pictures of it, curves of class scores and annotated actions, if any.
        left_out: number of detections of each video that are not in `results`, which the page says.

    Raises:
        ValueError: a duration is not finite and > 0; others as `to_layout`.
    """
    spans: dict[str, float] = {}
    for video, detections in results.items():
        checked = _checked(video, detections)
        span = (durations or {}).get(video, max((d.end_s for d in checked), default=0.0) or 1.0)
        if not math.isfinite(span) or span <= 0:
            raise ValueError(f"{video}: the duration must be a number of seconds > 0; got {span!r}")
        spans[video] = float(span)
    return timeline_page(results, spans, views, left_out)


FORMATTERS: Mapping[str, Formatter] = {"json": to_json, "csv": to_csv, "srt": to_srt, "html": to_html}
"""Formats of `detect --format`."""


def _checked(video: str, detections: Iterable[Detection]) -> list[Detection]:
    rows = list(detections)
    for row, d in enumerate(rows):
        if not all(map(math.isfinite, (d.score, d.start_s, d.end_s))) or not 0 <= d.start_s <= d.end_s:
            raise ValueError(
                f"{video}: detection {row} must have a finite score and 0 <= start <= end in seconds; "
                f"got {d.label!r}, score {d.score}, [{d.start_s}, {d.end_s})"
            )
    return rows


def no_formula(text: str) -> str:
    """Put an apostrophe before what a spreadsheet would read as a formula, also where there are some already."""
    return f"'{text}" if text.lstrip("'").startswith(("=", "+", "-", "@", "\t", "\r")) else text


def meaningful_decimals(snippet_s: float | None) -> int:
    """Give the decimals of a time that is known to about a tenth of a snippet.

    Args:
        snippet_s: seconds of a snippet, > 0; None: unknown, which gives hundredths.
    """
    return 2 if snippet_s is None else max(1, math.ceil(-math.log10(snippet_s)) + 1)


def _rounded(seconds: float, decimals: int | None) -> float:
    return float(seconds) if decimals is None else round(float(seconds), decimals)


def _milliseconds(seconds: float) -> float:
    return math.inf if math.isinf(seconds) else round(seconds * 1000)


def _timecode(milliseconds: int) -> str:
    seconds, ms = divmod(milliseconds, 1000)
    minutes, s = divmod(seconds, 60)
    hours, m = divmod(minutes, 60)
    return f"{hours:02d}:{m:02d}:{s:02d},{ms:03d}"
