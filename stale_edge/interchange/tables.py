"""CSV with one segment per line, and the labels of Audacity."""

import csv
import io
import re

from stale_edge.errors import DataError
from stale_edge.interchange.timelines import Span, Timeline, Timelines, checked
from stale_edge.report.formats import no_formula

COLUMNS = ("video", "label", "score", "start_s", "end_s", "duration_s", "subset")
NEEDED = ("video", "label", "start_s", "end_s")
_ESCAPED = re.compile(r"'+[=+\-@\t\r]")


def read_csv(text: str, where: str) -> dict[str, Timeline]:
    """Read CSV with the columns of `detect --format csv`, or of `write_csv`.

    A row without label and times is a video without segments. The apostrophe before what a spreadsheet would read as a
    formula is taken off.

    Raises:
        DataError: a column is missing, or a row is no segment.
    """
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    missing = [name for name in NEEDED if name not in (rows.fieldnames or ())]
    if missing:
        raise DataError(
            f"{where}: the columns {', '.join(missing)} are missing; the first line must name {', '.join(NEEDED)}"
        )
    spans: dict[str, list[Span]] = {}
    known: dict[str, tuple[float | None, str | None]] = {}
    try:
        for number, row in enumerate(rows, start=2):
            video, label = _without_apostrophe(row["video"] or ""), _without_apostrophe(row["label"] or "")
            duration = row.get("duration_s") or None
            known.setdefault(video, (None if duration is None else float(duration), row.get("subset") or None))
            found = spans.setdefault(video, [])
            if label or row["start_s"] or row["end_s"]:
                found.append(checked(f"{where}, row {number}", label, (row["start_s"], row["end_s"]), row.get("score")))
    except (csv.Error, ValueError) as error:
        raise DataError(f"{where}: not a readable CSV file: {error}") from error
    return {video: Timeline(tuple(found), *known[video]) for video, found in spans.items()}


def write_csv(timelines: Timelines) -> str:
    """Write one segment per line, and a line without label for a video without segments; numbers in full."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(COLUMNS)
    for video, timeline in timelines.items():
        end = ("" if timeline.duration_s is None else timeline.duration_s, timeline.subset or "")
        for span in timeline.spans:
            score = "" if span.score is None else span.score
            writer.writerow((no_formula(video), no_formula(span.label), score, span.start_s, span.end_s, *end))
        if not timeline.spans:
            writer.writerow((no_formula(video), "", "", "", "", *end))
    return buffer.getvalue()


def write_audacity(timeline: Timeline) -> str:
    """Write a label track, `start<TAB>end<TAB>label`; a label cannot hold tabs or line breaks, which become spaces."""
    return "".join(f"{s.start_s:.6f}\t{s.end_s:.6f}\t{' '.join(s.label.split())}\n" for s in timeline.spans)


def _without_apostrophe(text: str) -> str:
    return text[1:] if _ESCAPED.match(text) else text
