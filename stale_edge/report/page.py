"""One HTML page with timelines of detections: no file, font or script from elsewhere, readable on screen and paper."""

import html
from collections.abc import Mapping, Sequence

from stale_edge.segments import Detection

_LANE_PX = 26
_TICKS = 6

_STYLE = """
:root { color-scheme: light dark; --back: #ffffff; --ink: #1b1f24; --faint: #6b7480; --lane: #f0f2f5; --line: #d5dae1;
  --weak: #c9d8ef; --strong: #0b4ea2; }
@media (prefers-color-scheme: dark) { :root { --back: #14171b; --ink: #e8eaed; --faint: #9aa4b0; --lane: #1e2329;
  --line: #333b45; --weak: #24405f; --strong: #7fb6ff; } }
@media print { :root { --back: #ffffff; --ink: #000000; --faint: #444444; --lane: #f4f4f4; --line: #bbbbbb;
  --weak: #c9d8ef; --strong: #0b4ea2; } .controls { display: none; } section { break-inside: avoid; }
  .segment { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
body { margin: 2rem auto; max-width: 72rem; padding: 0 1rem; background: var(--back); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; margin: 1.8rem 0 .3rem; overflow-wrap: anywhere; }
.note, .ticks { color: var(--faint); font-size: .85rem; }
.controls { position: sticky; top: 0; background: var(--back); padding: .5rem 0; border-bottom: 1px solid var(--line);
  z-index: 1; display: flex; gap: .8rem; align-items: center; }
.lane { display: grid; grid-template-columns: 11rem 1fr; align-items: center; }
.lane[hidden] { display: none; }
.name { padding-right: .6rem; text-align: right; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
svg { display: block; width: 100%; background: var(--lane); border-bottom: 1px solid var(--back); }
.segment { stroke: var(--back); stroke-width: 1; vector-effect: non-scaling-stroke; }
.segment:hover, .segment:focus { stroke: var(--ink); stroke-width: 2; outline: none; }
.ticks { margin-left: 11rem; display: flex; justify-content: space-between; font-variant-numeric: tabular-nums; }
"""

_SCRIPT = """
const slider = document.getElementById("threshold"), shown = document.getElementById("value");
const segments = [...document.querySelectorAll(".segment")];
function update() {
  const least = Number(slider.value);
  shown.textContent = least.toFixed(2);
  for (const segment of segments) segment.style.display = Number(segment.dataset.score) >= least ? "" : "none";
  for (const lane of document.querySelectorAll(".lane"))
    lane.hidden = [...lane.querySelectorAll(".segment")].every(segment => segment.style.display === "none");
  const left = segments.filter(segment => segment.style.display !== "none").length;
  document.getElementById("count").textContent = left + " of " + segments.length + " detections";
}
slider.addEventListener("input", update);
update();
"""


def timeline_page(results: Mapping[str, Sequence[Detection]], spans: Mapping[str, float]) -> str:
    """Build the page.

    Args:
        results: the detections of each video, finite, 0 <= start_s <= end_s.
        spans: what each timeline covers, in seconds from 0, > 0.
    """
    best = max((d.score for detections in results.values() for d in detections), default=1.0)
    top = max(1.0, float(best))
    n_detections = sum(map(len, results.values()))
    sections = "".join(_section(video, detections, spans[video], top) for video, detections in results.items())
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Detections</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>Detected actions</h1>\n"
        '<div class="controls"><label for="threshold">Score at least</label>'
        f'<input id="threshold" type="range" min="0" max="{top:g}" step="0.01" value="0">'
        f'<output id="value" for="threshold">0.00</output>'
        f'<span class="note" id="count">{n_detections} of {n_detections} detections</span></div>\n'
        f"{sections}<script>{_SCRIPT}</script>\n</body>\n</html>\n"
    )


def _section(video: str, detections: Sequence[Detection], span: float, top: float) -> str:
    title = f'<section>\n<h2>{html.escape(video)} <span class="note">{clock(span)}</span></h2>\n'
    if not detections:
        return f'{title}<p class="note">Nothing was detected.</p>\n</section>\n'
    lanes: dict[str, list[Detection]] = {}
    for d in sorted(detections, key=lambda d: -d.score):  # best class first
        lanes.setdefault(d.label, []).append(d)
    rows = "".join(_lane(label, group, span, top) for label, group in lanes.items())
    ticks = "".join(f"<span>{clock(span * i / (_TICKS - 1))}</span>" for i in range(_TICKS))
    return f'{title}{rows}<div class="ticks">{ticks}</div>\n</section>\n'


def _lane(label: str, detections: Sequence[Detection], span: float, top: float) -> str:
    """Draw one class; the best segments are drawn last, so that nothing weaker lies on them."""
    rects = "".join(_rect(d, span, top) for d in reversed(detections))
    name = html.escape(label)
    return (
        f'<div class="lane"><div class="name" title="{name}">{name}</div>'
        f'<svg viewBox="0 0 1000 {_LANE_PX}" height="{_LANE_PX}" preserveAspectRatio="none" role="img" '
        f'aria-label="{name}">{rects}</svg></div>\n'
    )


def _rect(d: Detection, span: float, top: float) -> str:
    x = 1000 * min(d.start_s / span, 1.0)
    width = max(1000 * min(d.end_s / span, 1.0) - x, 1.0)  # a zero-length segment can still be seen and hovered
    strength = 100 * min(max(d.score / top, 0.0), 1.0)
    title = html.escape(f"{d.label} {d.score:.3f}: {clock(d.start_s)} to {clock(d.end_s)}")
    return (
        f'<rect class="segment" fill="#4a7fc1" tabindex="0" '
        f'x="{x:.2f}" y="3" width="{width:.2f}" height="{_LANE_PX - 6}" '
        f'style="fill: color-mix(in oklab, var(--strong) {strength:.0f}%, var(--weak))" '
        f'data-score="{d.score:.6g}"><title>{title}</title></rect>'
    )


def clock(seconds: float) -> str:
    """Write a time as people read it: `1:02:03.4`, `2:03.4`."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    tail = f"{rest // 10:02d}.{rest % 10}"
    return f"{hours}:{minutes:02d}:{tail}" if hours else f"{minutes}:{tail}"
