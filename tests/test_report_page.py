"""The page: its content by value, and its behaviour in Chromium."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import video_files

from stale_edge.report.formats import to_html
from stale_edge.report.view import ClassCurves, Thumbnail, Truth, VideoView
from stale_edge.segments import Detection

NASTY = "<script>alert(\"x\")</script> & 'Ćwiczenia', 日本 --> 1"
RESULTS = {
    "v_1": [Detection("pole vault", 0.875, 12.5, 20.25), Detection(NASTY, 0.25, 3.0, 3723.9996)],
    "v_2": [],
}
DURATIONS = {"v_1": 3723.5, "v_2": 60.0}
JPEG = bytes.fromhex("ffd8ffd9")
VOID = ("meta", "input", "img")


class Page(HTMLParser):
    """Collect what a browser would see: tags with their attributes, and texts with the tag around them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == [], "every tag is closed"

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self._open.pop() == tag, "tags nest"

    def handle_data(self, data) -> None:
        if data.strip():
            self.texts.append((self._open[-1], data))

    def all(self, tag: str, **wanted: str) -> list[dict]:
        return [a for name, a in self.tags if name == tag and all(wanted[k] in (a.get(k) or "") for k in wanted)]

    def texts_of(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]


def _lanes(page: Page) -> list[str]:
    return [attrs["data-label"] for attrs in page.all("div") if attrs.get("class") == "lane"]


def test_page_by_value() -> None:
    page = Page(to_html({**RESULTS, NASTY: [Detection("a", 0.5, 1, 2)]}, durations={**DURATIONS, NASTY: 4.0}))
    segments = page.all("button")
    assert [(s["style"], s["data-score"]) for s in segments] == [
        ("left:0.336%;width:0.208%;--score:0.875", "0.875"),
        ("left:0.081%;width:99.919%;--score:0.250", "0.25"),  # cut at the end of the video
        ("left:25.000%;width:25.000%;--score:0.500", "0.5"),
    ]
    assert [s["aria-label"] for s in segments] == [
        "pole vault, score 0.88, 0:12.5 to 0:20.2",
        f"{NASTY}, score 0.25, 0:03.0 to 1:02:04.0",
        "a, score 0.50, 0:01.0 to 0:02.0",
    ]
    assert [s["class"] for s in segments] == ["segment strong", "segment", "segment"]
    assert _lanes(page) == ["pole vault", NASTY, "a"]
    assert page.texts_of("h2") == ["v_1", "v_2", NASTY]
    assert "Nothing was detected." in page.texts_of("p")
    assert page.all("input")[0]["max"] == "1"
    assert len(page.all("script")) == 1, "no label became a script"


def test_page_needs_nothing_from_elsewhere() -> None:
    views = {"v_1": VideoView(thumbnails=[Thumbnail(1.0, JPEG)], truth=[Truth("a", 0, 1)])}
    text = to_html(RESULTS, durations=DURATIONS, views=views)
    assert not re.search(r"https?://|href=|@import|url\(|<link", text)
    assert set(re.findall(r'src="([^"]{5})', text)) == {"data:"}
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_everything_that_is_known_of_a_video_is_shown() -> None:
    curves = ClassCurves(("b", "a", "unseen"), np.array([[0, 1, 0.5, 0.25], [1, 1, 1, 1], [0, 0, 0, 0]], np.float32))
    thumbnails = [Thumbnail(t + 0.5, bytes([t])) for t in range(40)]
    truth = [Truth("c", 30, 35), Truth("a", 10, 20), Truth("c", 5, 8)]
    found = [Detection("b", 0.9, 1, 4), Detection("a", 0.6, 11, 20)]
    page = Page(
        to_html(
            {"v": found},
            durations={"v": 40.0},
            views={"v": VideoView("clips/a%20b.mp4?x=1&y=2", thumbnails, curves, truth)},
        )
    )
    (video,) = page.all("video")
    assert video["src"] == "clips/a%20b.mp4?x=1&y=2"
    assert "controls" in video
    assert _lanes(page) == ["c", "a", "b"], "annotated ones first, in time, then the best scores"
    marks = page.all("span", **{"class": "truth"})
    assert [m["style"] for m in marks] == [
        "left:75.000%;width:12.500%",
        "left:12.500%;width:7.500%",
        "left:25.000%;width:25.000%",
    ]
    paths = [attrs["d"] for attrs in page.all("path")]
    assert paths == [
        "M-1,101 L-1,0 0,0 1,0 2,0 3,0 4,0 4,101",
        "M-1,101 L-1,100 0,100 1,0 2,50 3,75 4,75 4,101",
    ]
    strip = [float(attrs["data-time"]) for attrs in page.all("img")]
    assert strip == [1.5, 4.5, 8.5, 11.5, 14.5, 18.5, 21.5, 24.5, 28.5, 31.5, 34.5, 38.5]
    assert len(page.all("i", **{"data-picture": "data:image/jpeg;base64,"})) == 28, "the rest for the pointer"
    assert page.all("section", **{"data-truth": ""})
    assert Page(to_html({"v": []}, views={"v": VideoView(truth=[Truth("a", 1, 2)])})).all("span", **{"class": "truth"})


def test_best_segments_are_drawn_last_and_best_classes_stand_first() -> None:
    found = [Detection("a", 0.2, 0, 9), Detection("b", 0.9, 0, 9), Detection("a", 0.7, 0, 5), Detection("b", 0.3, 0, 1)]
    page = Page(to_html({"v": found}, durations={"v": 10.0}))
    assert _lanes(page) == ["b", "a"]
    assert [s["data-score"] for s in page.all("button")] == ["0.3", "0.9", "0.2", "0.7"]


def test_scores_above_one_stretch_the_slider() -> None:
    page = Page(to_html({"v": [Detection("a", 2.5, 0, 1)]}, durations={"v": 1.0}))
    assert page.all("input")[0]["max"] == "2.5"
    assert "--score:1.000" in page.all("button")[0]["style"]


def test_the_threshold_starts_where_a_few_detections_a_video_are_left() -> None:
    many = [Detection("a", i / 100, 0, 1) for i in range(100)]
    assert Page(to_html({"v": many})).all("input")[0]["value"] == "0.92"
    assert Page(to_html({"v": many[:8]})).all("input")[0]["value"] == "0.00"
    assert Page(to_html({"v": many, "w": []})).all("input")[0]["value"] == "0.84"


def test_a_page_without_durations_ends_with_the_last_detection() -> None:
    page = Page(to_html({"v": [Detection("a", 0.5, 0, 5), Detection("a", 0.4, 5, 20)]}))
    assert [s["style"] for s in page.all("button")] == [
        "left:25.000%;width:75.000%;--score:0.400",
        "left:0.000%;width:25.000%;--score:0.500",
    ]
    assert Page(to_html({"v": []})).all("button") == []
    assert Page(to_html({})).all("button") == []


@pytest.mark.parametrize(
    ("span", "labels"),
    [
        (0.8, ["0:00.0", "0:00.1", "0:00.2", "0:00.3", "0:00.4", "0:00.5", "0:00.6", "0:00.7", "0:00.8"]),
        (9.0, ["0:00", "0:01", "0:02", "0:03", "0:04", "0:05", "0:06", "0:07", "0:08", "0:09"]),
        (200.0, ["0:00", "0:30", "1:00", "1:30", "2:00", "2:30", "3:00"]),
        (7200.0, ["0:00", "15:00", "30:00", "45:00", "1:00:00", "1:15:00", "1:30:00", "1:45:00", "2:00:00"]),
    ],
)
def test_the_axis_has_round_times(span, labels) -> None:
    page = Page(to_html({"v": [Detection("a", 0.5, 0, span)]}, durations={"v": span}))
    assert [text for text in page.texts_of("span") if re.fullmatch(r"[\d:.]+", text) and ":" in text][1:] == labels


# --- in Chromium -----------------------------------------------------------------------------------------------------

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed to open the page in")

PROBE = """
<pre id="probe"></pre><script>
const say = [];
const q = s => document.querySelector(s), all = s => [...document.querySelectorAll(s)];
const visible = s => all(s).filter(e => e.offsetParent !== null);
const set = value => { q("#threshold").value = value; q("#threshold").dispatchEvent(new Event("input")); };
const press = key => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
const at = () => document.activeElement.getAttribute("aria-label");
addEventListener("error", event => say.push("error: " + event.message));
async function probe() { STEPS }
const done = () => { q("#probe").textContent = JSON.stringify(say); };
setTimeout(() => probe().catch(error => say.push("error: " + error)).then(done), 400);
</script></body>"""


def _in_chromium(tmp_path: Path, text: str, steps: str, *, budget_ms: int = 6000):
    """Open a page, do the steps, and give what they pushed to `say`."""
    path = tmp_path / "page.html"
    path.write_text(text.replace("</body>", PROBE.replace("STEPS", steps)), encoding="utf-8")
    assert CHROMIUM is not None
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--window-size=1200,900",
        f"--virtual-time-budget={budget_ms}",
        "--autoplay-policy=no-user-gesture-required",
        "--dump-dom",
        path.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    said = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.DOTALL)
    assert said is not None, done.stderr[-2000:]
    return json.loads(said.group(1).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


@needs_chromium
def test_the_page_in_chromium(tmp_path: Path) -> None:
    """Slider, counts, agreement with the truth, arrow keys, clicks and the look under the pointer, in one start."""
    found = [
        Detection("jump", 0.9, 2, 4),
        Detection("jump", 0.5, 6, 8),
        Detection("vault", 0.7, 5, 9),
        Detection("run", 0.2, 0, 10),
    ]
    truth = [Truth("jump", 2, 5), Truth("vault", 0, 3)]
    text = to_html(
        {"v": found, "w": [Detection("jump", 0.3, 0, 1)]},
        durations={"v": 10.0, "w": 1.0},
        views={"v": VideoView(thumbnails=[Thumbnail(2.0, JPEG), Thumbnail(7.0, JPEG)], truth=truth)},
    )
    steps = """
      say.push([q("#count").textContent, all(".count").map(e => e.textContent), visible(".segment").length]);
      set(0.6);
      say.push([q("#value").textContent, q("#count").textContent, all(".count").map(e => e.textContent)]);
      say.push([visible(".lane").map(e => e.dataset.label), visible(".segment").length]);
      set(0);
      say.push(all("section")[0].querySelectorAll('.segment[tabindex="0"]').length);
      all("section")[0].querySelector('.segment[tabindex="0"]').focus();
      for (const key of ["Home", "ArrowRight", "ArrowRight", "ArrowDown", "ArrowDown", "ArrowUp", "End"])
        { press(key); say.push(at()); }
      document.activeElement.click();
      say.push([q(".playhead").hidden, q(".playhead").style.left, all(".now").map(e => e.dataset.label)]);
      const track = visible(".lane .track")[0], box = track.getBoundingClientRect();
      const event = {bubbles: true, clientX: box.left + 0.75 * box.width, clientY: box.top + 5};
      track.dispatchEvent(new MouseEvent("click", event));
      say.push(q(".playhead").style.left);
      track.dispatchEvent(new PointerEvent("pointermove", event));
      say.push([q(".peek").hidden, q(".peek").textContent, q(".peek img") !== null]);
      q(".timeline").dispatchEvent(new PointerEvent("pointerleave"));
      say.push([q(".peek").hidden, document.documentElement.scrollWidth <= innerWidth]);
      const table = () => all("section")[0].querySelectorAll("tr").length;
      q("details").open = true;
      await new Promise(next => setTimeout(next, 50));
      say.push([table(), all("tr")[1].innerText]);
      set(0.6);
      say.push(table());
    """
    said = _in_chromium(tmp_path, text, steps)
    counts = "4 detections · 1 of 2 annotated actions found, 3 wrong (tIoU 0.5)"
    assert said[0] == ["5 of 5 detections shown", [counts, "1 detection"], 5]
    counts = "2 detections · 1 of 2 annotated actions found, 1 wrong (tIoU 0.5)"
    assert said[1] == ["0.60", "2 of 5 detections shown; lower the score to see the others", [counts, "0 detections"]]
    assert said[2] == [["vault", "jump"], 2]
    assert said[3] == 1, "one segment a timeline can be tabbed to"
    assert [text.split(",")[0] + text.split(",")[2] for text in said[4:11]] == [
        "vault 0:05.0 to 0:09.0",
        "vault 0:05.0 to 0:09.0",
        "vault 0:05.0 to 0:09.0",
        "jump 0:06.0 to 0:08.0",
        "run 0:00.0 to 0:10.0",
        "jump 0:02.0 to 0:04.0",
        "jump 0:06.0 to 0:08.0",
    ]
    assert said[11] == [False, "60%", ["vault", "jump", "run"]]
    assert float(said[12].rstrip("%")) == pytest.approx(75, abs=0.2), "a mouse is somewhere on a whole pixel"
    assert said[13] == [False, "0:07.5", True]
    assert said[14] == [True, True]
    assert said[15] == [5, "jump\t0.900\t0:02.0\t0:04.0"]
    assert said[16] == 3
    assert len(said) == 17, "no error"


@needs_chromium
def test_a_click_seeks_the_video_and_a_missing_one_is_said(tmp_path: Path) -> None:
    (tmp_path / "a clip").mkdir()
    video_files.write(tmp_path / "a clip" / "v.mp4", times_ms=range(0, 4000, 100), codec="libx264")
    text = to_html(
        {"v": [Detection("jump", 0.9, 2, 3)], "w": [Detection("jump", 0.9, 0, 1)]},
        durations={"v": 4.0, "w": 1.0},
        views={"v": VideoView("a%20clip/v.mp4"), "w": VideoView("nowhere.mp4")},
    )
    steps = """
      const video = q("video");
      // The page's clock runs ahead of the decoder's: many short waits give a busy machine time.
      for (let i = 0; i < 10000 && video.readyState < 1; i++) await new Promise(next => setTimeout(next, 50));
      say.push(Math.round(video.duration));
      video.play = () => Promise.resolve();  // what is tested is the seeking
      q(".segment").click();
      say.push(video.currentTime);
      say.push(visible(".missing").map(e => e.textContent.split(": ")[1]));
    """
    assert _in_chromium(tmp_path, text, steps, budget_ms=600_000) == [4, 2, ["nowhere.mp4"]]
