"""Output files: values in every format, with names that need escaping."""

import csv
import io
import json

import pytest

from stale_edge.report.formats import (
    FORMATTERS,
    SELECTIONS,
    Selection,
    meaningful_decimals,
    to_csv,
    to_html,
    to_json,
    to_layout,
    to_srt,
)
from stale_edge.report.page import clock
from stale_edge.segments import Detection

NASTY = "<script>alert(\"x\")</script> & 'Ćwiczenia', 日本 --> 1"
RESULTS = {
    "v_1": [Detection("pole vault", 0.875, 12.5, 20.25), Detection(NASTY, 0.25, 3.0, 3723.9996)],
    "v_2": [],
}
DURATIONS = {"v_1": 3723.5, "v_2": 60.0}


def test_json_is_the_layout_of_activitynet() -> None:
    assert json.loads(to_json(RESULTS, durations=DURATIONS)) == {
        "version": "1.3",
        "results": {
            "v_1": [
                {"label": "pole vault", "score": 0.875, "segment": [12.5, 20.25]},
                {"label": NASTY, "score": 0.25, "segment": [3.0, 3723.9996]},
            ],
            "v_2": [],
        },
        "external_data": {},
    }
    assert "日本" in to_json(RESULTS), "readable without an unescaper"


def test_csv_gives_every_value_back() -> None:
    text = to_csv(RESULTS)
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert rows[0] == ["video", "label", "score", "start_s", "end_s"]
    assert [(r[0], r[1], *map(float, r[2:])) for r in rows[1:]] == [
        ("v_1", "pole vault", 0.875, 12.5, 20.25),
        ("v_1", NASTY, 0.25, 3.0, 3723.9996),
    ]
    assert text.splitlines()[1] == "v_1,pole vault,0.875,12.5,20.25"
    assert text.endswith("\r\n")


def test_srt_by_value() -> None:
    assert to_srt({"v_1": RESULTS["v_1"]}) == (
        "1\n00:00:03,000 --> 01:02:04,000\n"
        "‹script›alert(\"x\")‹/script› & 'Ćwiczenia', 日本 → 1 (0.25)\n"
        "\n"
        "2\n00:00:12,500 --> 00:00:20,250\npole vault (0.88)\n"
    )


@pytest.mark.parametrize(
    ("start_s", "end_s", "line"),
    [
        (0.0, 0.0, "00:00:00,000 --> 00:00:00,001"),  # a subtitle of zero length is never shown
        (59.9994, 59.9996, "00:00:59,999 --> 00:01:00,000"),  # rounding carries into minutes
        (3599.9999, 3600.0, "01:00:00,000 --> 01:00:00,001"),  # and into hours
        (90.0, 500.0, "00:01:30,000 --> 00:01:40,000"),  # a segment ends with the video
        (400000.0, 400001.0, "111:06:40,000 --> 111:06:40,001"),
    ],
)
def test_timecodes(start_s, end_s, line) -> None:
    text = to_srt({"v": [Detection("a", 1.0, start_s, end_s)]}, durations={"v": 100.0})
    assert text == f"1\n{line}\na (1.00)\n"


def test_srt_is_sorted_and_a_label_stays_in_its_line() -> None:
    found = [Detection("late", 0.9, 5, 6), Detection("two\n\nlines\r\n", 0.1, 1, 2), Detection("sure", 0.8, 1, 2)]
    text = to_srt({"v": found})
    assert [block.split("\n")[2] for block in text.rstrip("\n").split("\n\n")] == [
        "sure (0.80)",
        "two lines (0.10)",
        "late (0.90)",
    ]


def test_srt_is_of_one_video() -> None:
    with pytest.raises(ValueError, match="one video; got 2: v_1, v_2"):
        to_srt(RESULTS)
    assert to_srt({"v": []}) == ""
    assert to_srt({}) == ""


@pytest.mark.parametrize(
    "bad",
    [
        Detection("a", float("nan"), 0, 1),
        Detection("a", 0.5, 2, 1),
        Detection("a", 0.5, -1, 1),
        Detection("a", 0.5, 0, float("inf")),
    ],
)
@pytest.mark.parametrize("format_name", FORMATTERS)
def test_impossible_detections_are_named(bad, format_name) -> None:
    with pytest.raises(ValueError, match="v_9: detection 1 must have a finite score"):
        FORMATTERS[format_name]({"v_9": [Detection("a", 0.5, 0, 1), bad]})


def test_numpy_numbers_are_plain_in_the_layout() -> None:
    import numpy as np

    row = to_layout({"v": [Detection("a", np.float32(0.5), np.float64(1), np.float32(2))]})["results"]["v"][0]
    assert [type(value) for value in (row["score"], *row["segment"])] == [float] * 3


@pytest.mark.parametrize("duration", [0, -1.0, float("nan"), float("inf")])
def test_a_page_of_an_impossible_duration_is_refused(duration) -> None:
    with pytest.raises(ValueError, match="v: the duration must be a number of seconds > 0"):
        to_html({"v": []}, durations={"v": duration})


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00.0"), (59.96, "1:00.0"), (61.25, "1:01.2"), (3599.99, "1:00:00.0"), (36610.5, "10:10:10.5")],
)
def test_clock(seconds, text) -> None:
    assert clock(seconds) == text


def test_a_selection_keeps_the_order_and_counts_from_the_best() -> None:
    detections = [Detection("a", score, 0.0, 1.0) for score in (0.1, 0.9, 0.3, 0.5, 0.26)]

    def kept(**limits: float) -> list[float]:
        return [d.score for d in Selection(**limits).of(detections)]

    assert kept() == [0.1, 0.9, 0.3, 0.5, 0.26]
    assert kept(min_score=0.3) == [0.9, 0.3, 0.5]
    assert kept(min_share=0.3) == [0.9, 0.3, 0.5]  # of 0.9: 0.27
    assert kept(top_k=2) == [0.9, 0.5]
    assert Selection(min_share=0.3).of([]) == []


def test_a_subtitle_file_has_no_tail_and_programs_get_everything() -> None:
    assert SELECTIONS["srt"].min_share > 0
    assert SELECTIONS["json"] == SELECTIONS["csv"] == Selection()


@pytest.mark.parametrize(
    ("snippet_s", "decimals"), [(None, 2), (4.0, 1), (1.0, 1), (0.5, 2), (8 / 30, 2), (0.1, 2), (0.04, 3)]
)
def test_times_are_rounded_to_about_a_tenth_of_a_snippet(snippet_s: float | None, decimals: int) -> None:
    assert meaningful_decimals(snippet_s) == decimals
    text = to_csv({"v": [Detection("a", 1 / 3, 1 / 3, 2 / 3)]}, decimals=decimals)
    assert text.splitlines()[1] == f"v,a,{1 / 3},{round(1 / 3, decimals)},{round(2 / 3, decimals)}"


def test_json_of_many_videos_is_compact_and_equal() -> None:
    few = {f"v{i}": [Detection("a", 0.5, 0.0, 1.0)] for i in range(10)}
    many = few | {"v10": []}
    assert to_json(few).count("\n") > 10
    assert to_json(many).count("\n") == 1
    assert json.loads(to_json(many)) == to_layout(many)
