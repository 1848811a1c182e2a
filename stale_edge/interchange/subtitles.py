"""WebVTT, the subtitles of browsers, and SubRip."""

from stale_edge.interchange.timelines import Timeline, milliseconds, to_detections
from stale_edge.report.formats import to_srt


def write_vtt(timeline: Timeline) -> str:
    """Write one cue per segment, by time, with WebVTT's escapes; a blank line would end a cue and is left out."""
    cues = ["WEBVTT\n"]
    for span in sorted(timeline.spans, key=lambda span: (span.start_s, span.end_s)):
        start = milliseconds(span.start_s)
        end = max(milliseconds(span.end_s), start + 1)
        text = span.label.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        lines = "\n".join(line for line in text.splitlines() if line.strip())
        score = "" if span.score is None else f" ({span.score:.2f})"
        cues.append(f"{_timecode(start)} --> {_timecode(end)}\n{lines}{score}\n")
    return "\n".join(cues)


def write_srt(timeline: Timeline) -> str:
    """Write SubRip, as `detect --format srt` does."""
    return to_srt(to_detections({"video": timeline}))


def _timecode(total_ms: int) -> str:
    seconds, ms = divmod(total_ms, 1000)
    minutes, s = divmod(seconds, 60)
    hours, m = divmod(minutes, 60)
    return f"{hours:02d}:{m:02d}:{s:02d}.{ms:03d}"
