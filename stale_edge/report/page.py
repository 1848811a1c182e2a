"""One HTML page with timelines of detections: self-contained except for the linked videos."""

import base64
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from stale_edge.report.view import ClassCurves, Thumbnail, Truth, VideoView
from stale_edge.segments import Detection

SHOWN_AT_FIRST = 8
"""Detections per video, about, above the initial threshold; the slider shows the rest."""
_PICTURES_IN_STRIP = 12
_CURVE_POINTS = 160
_MOST_TICKS = 9
_TABLE = "<details><summary>As a table</summary><table></table></details>\n"
"""The script fills it when it is opened, as the page already holds every row as a segment."""
_TICK_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800)


def timeline_page(
    results: Mapping[str, Sequence[Detection]],
    spans: Mapping[str, float],
    views: Mapping[str, VideoView] | None = None,
    left_out: Mapping[str, int] | None = None,
) -> str:
    """Build the page.

    Args:
        results: the detections of each video, finite, 0 <= start_s <= end_s.
        spans: length of each timeline in seconds, from 0, > 0.
        views: further data to show of the videos; None: none.
        left_out: number of detections of each video that are not in `results`; None: none are left out.
    """
    views = views or {}
    absent = sum((left_out or {}).values())
    scores = sorted((d.score for detections in results.values() for d in detections), reverse=True)
    top = max(1.0, float(scores[0]) if scores else 1.0)
    wanted = SHOWN_AT_FIRST * len(results)
    at_first = np.floor(100 * scores[wanted - 1]) / 100 if len(scores) > wanted else 0.0
    sections = "".join(
        _section(number, video, detections, spans[video], top, views.get(video, VideoView()))
        for number, (video, detections) in enumerate(results.items(), 1)
    )
    folder = Path(__file__).parent
    style = (folder / "page.css").read_text(encoding="utf-8")
    script = (folder / "page.js").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Detected actions</title>\n<style>\n{style}</style>\n</head>\n<body>\n<h1>Detected actions</h1>\n"
        f'<div class="controls"><label for="threshold">Score at least '
        f'<input id="threshold" type="range" min="0" max="{top:g}" step="0.01" value="{at_first:.2f}"></label>'
        f'<output id="value" for="threshold">{at_first:.2f}</output>'
        f'<span class="note" id="count" role="status">{len(scores)} detections</span>{_absent(absent)}'
        f"{_legend(views)}</div>\n"
        f"{sections}<script>\n{script}</script>\n</body>\n</html>\n"
    )


def clock(seconds: float, *, tenths: bool = True) -> str:
    """Format a time for people: `1:02:03.4`, `2:03.4`; without tenths `2:03`."""
    count = round(seconds * 10)
    minutes, rest = divmod(count, 600)
    hours, minutes = divmod(minutes, 60)
    tail = f"{rest // 10:02d}.{rest % 10}" if tenths else f"{rest // 10:02d}"
    return f"{hours}:{minutes:02d}:{tail}" if hours else f"{minutes}:{tail}"


def _absent(count: int) -> str:
    if not count:
        return ""
    return f'<span class="note">{count} detections with lower scores are not in this page</span>'


def _legend(views: Mapping[str, VideoView]) -> str:
    parts = ['<i class="scores"></i>detected, by score']
    if any(view.truth is not None for view in views.values()):
        parts.append('<i class="annotated"></i>annotated')
    if any(view.curves is not None for view in views.values()):
        parts.append('<i class="sure"></i>score of the class at each moment')
    return '<span class="legend">' + "".join(f"<span>{part}</span>" for part in parts) + "</span>"


def _section(number: int, video: str, detections: Sequence[Detection], span: float, top: float, view: VideoView) -> str:
    name = html.escape(video)
    truth_known = " data-truth" if view.truth is not None else ""
    head = (
        f'<section class="video" data-duration="{span:.6g}"{truth_known} aria-labelledby="video-{number}">\n'
        f'<header><h2 id="video-{number}">{name}</h2><span class="note">{clock(span)}</span>'
        f'<span class="note count">{len(detections)} detections</span></header>\n'
    )
    player = "" if view.source is None else _player(view.source, name)
    if not detections and not view.truth:
        return f'{head}{player}<p class="note">Nothing was detected.</p>\n</section>\n'
    lanes = "".join(
        _lane(label, found, truth, span, top, _curve_of(label, view.curves))
        for label, found, truth in _lanes(detections, view.truth or ())
    )
    ticks = _ticks(span)
    step = ticks[1] if len(ticks) > 1 else span
    labels = "".join(_tick(t, span, tenths=step < 1) for t in ticks)
    return (
        f'{head}{player}<div class="timeline" role="group" aria-label="Timeline of {name}: arrow keys move between '
        f'segments, Enter plays one" style="--step:{100 * step / span:.4f}%">\n{_strip(view.thumbnails, span)}{lanes}'
        f'<div class="axis" aria-hidden="true"><div class="name"></div><div class="track">{labels}</div></div>\n'
        f'<div class="over"><div class="playhead" hidden></div></div><div class="peek" hidden></div>\n</div>\n'
        f"{_TABLE if detections else ''}</section>\n"
    )


def _player(source: str, name: str) -> str:
    where = html.escape(source)
    return (
        f'<video controls preload="metadata" playsinline src="{where}" aria-label="{name}"></video>\n'
        f'<p class="note missing" hidden>The video is not where this page looks for it, or the browser cannot play it: '
        f"{where}</p>\n"
    )


def _strip(thumbnails: Sequence[Thumbnail], span: float) -> str:
    """Place a few pictures over the timeline, each above its time; the pointer shows the others."""
    if not thumbnails:
        return ""
    cells = min(_PICTURES_IN_STRIP, len(thumbnails))
    middles = [(cell + 0.5) * span / cells for cell in range(cells)]
    chosen = [min(thumbnails, key=lambda t, m=middle: abs(t.time_s - m)) for middle in middles]  # type: ignore[misc]
    shown = "".join(f'<img alt="" data-time="{t.time_s:.3f}" src="{_picture(t)}">' for t in chosen)
    others = "".join(
        f'<i hidden data-time="{t.time_s:.3f}" data-picture="{_picture(t)}"></i>' for t in thumbnails if t not in chosen
    )
    return f'<div class="strip"><div class="name"></div><div class="track thumbs">{shown}</div></div>{others}\n'


def _picture(thumbnail: Thumbnail) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(thumbnail.jpeg).decode()}"


def _lanes(
    detections: Sequence[Detection], truth: Sequence[Truth]
) -> Iterable[tuple[str, list[Detection], list[Truth]]]:
    """Give every class a lane: annotated classes first, in order of time, then the others by their best score."""
    found: dict[str, list[Detection]] = {t.label: [] for t in sorted(truth, key=lambda t: t.start_s)}
    for d in sorted(detections, key=lambda d: -d.score):
        found.setdefault(d.label, []).append(d)
    for label, group in found.items():
        yield label, group, [t for t in truth if t.label == label]


def _lane(
    label: str, detections: Sequence[Detection], truth: Sequence[Truth], span: float, top: float, curve: str
) -> str:
    """Draw one class; the best segments are drawn last, so that they are on top."""
    name = html.escape(label)
    marks = "".join(_truth(t, span) for t in truth)
    segments = "".join(_segment(d, span, top) for d in reversed(detections))
    kind = "track" + (" annotated" if truth else "") + (" curved" if curve else "")
    return (
        f'<div class="lane" data-label="{name}"><div class="name" title="{name}">{name}</div>'
        f'<div class="{kind}">{curve}{marks}{segments}</div></div>\n'
    )


def _place(start_s: float, end_s: float, span: float) -> str:
    left = 100 * min(start_s / span, 1.0)
    return f"left:{left:.3f}%;width:{100 * min(end_s / span, 1.0) - left:.3f}%"


def _segment(d: Detection, span: float, top: float) -> str:
    strength = min(max(d.score / top, 0.0), 1.0)
    said = html.escape(f"{d.label}, score {d.score:.2f}, {clock(d.start_s)} to {clock(d.end_s)}")
    kind = "segment strong" if strength > 0.5 else "segment"
    return (
        f'<button class="{kind}" tabindex="-1" style="{_place(d.start_s, d.end_s, span)};'
        f'--score:{strength:.3f}" data-start="{d.start_s:.3f}" data-end="{d.end_s:.3f}" data-score="{d.score:.6g}" '
        f'aria-label="{said}"><span>{d.score:.2f}</span></button>'
    )


def _truth(t: Truth, span: float) -> str:
    said = html.escape(f"annotated: {t.label}, {clock(t.start_s)} to {clock(t.end_s)}")
    return (
        f'<span class="truth" role="img" style="{_place(t.start_s, t.end_s, span)}" data-start="{t.start_s:.3f}" '
        f'data-end="{t.end_s:.3f}" aria-label="{said}"></span>'
    )


def _curve_of(label: str, curves: ClassCurves | None) -> str:
    """Draw a class's scores over time; many snippets are grouped, each group by its highest score."""
    if curves is None or label not in curves.names:
        return ""
    scores = np.asarray(curves.scores[curves.names.index(label)], dtype=np.float64)
    groups = np.array_split(scores, min(len(scores), _CURVE_POINTS))
    heights = [round(100 * (1 - min(max(float(group.max()), 0.0), 1.0))) for group in groups]
    points = " ".join(f"{i},{height}" for i, height in enumerate(heights))
    n = len(heights)
    return (
        f'<svg class="curve" viewBox="-.5 0 {n} 100" preserveAspectRatio="none" aria-hidden="true">'
        f'<path d="M-1,101 L-1,{heights[0]} {points} {n},{heights[-1]} {n},101"/></svg>'
    )


def _tick(seconds: float, span: float, *, tenths: bool) -> str:
    place = 100 * seconds / span
    end = ' class="end"' if place > 97 else ""  # a label centred on the last tick would overflow
    return f'<span{end} style="left:{place:.3f}%">{clock(seconds, tenths=tenths)}</span>'


def _ticks(span: float) -> list[float]:
    """Choose round times for the axis, from 0 on."""
    longest = _TICK_STEPS_S[-1]
    step = next(
        (s for s in _TICK_STEPS_S if span / s <= _MOST_TICKS), longest * math.ceil(span / longest / _MOST_TICKS)
    )
    return [i * step for i in range(int(span / step) + 1)]
