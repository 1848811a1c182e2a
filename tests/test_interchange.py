"""Formats of other tools: hostile labels survive or are escaped, and pre-label, correct, train loses nothing."""

import csv
import io
import json
import random
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import video_files
from training_data import small_config, write_data_set
from typer.testing import CliRunner

from stale_edge.cli.app import app
from stale_edge.data import read_annotations
from stale_edge.errors import DataError
from stale_edge.interchange.convert import FORMATS, ConvertOptions, convert, read_timelines
from stale_edge.interchange.timelines import Span, Timeline, of_annotations, to_annotations

HOSTILE = (
    "=HYPERLINK(1)", "'=1+1", "''@x", "+1", "-2", "@a", "a,b", 'say "hi"', "two\nlines", "carriage\rreturn",
    "tab\there", "a --> b", "</script><b>", "&amp; &", "Ćwiczenia 跳水 🏊", "  spaced ", "]]>", "a;b",
)  # fmt: skip
LOSSLESS = ("annotations", "csv", "label-studio", "fiftyone", "elan")


def _timelines(*, scored: bool) -> dict[str, Timeline]:
    """Two videos with every hostile label at times in milliseconds, and one without a segment."""
    rng = random.Random(0)
    spans = []
    for label in HOSTILE:
        start = rng.randrange(0, 50_000)
        spans.append(
            Span(label, start / 1000, (start + rng.randrange(1, 9000)) / 1000, rng.random() if scored else None)
        )
    spans.sort(key=lambda span: (span.start_s, span.end_s))
    half = len(spans) // 2
    return {
        "v_one": Timeline(tuple(spans[:half]), 61.237, "training"),
        "żółw": Timeline(tuple(spans[half:]), 3600.001, "validation"),
        "empty": Timeline((), 5.5, "training"),
    }


def _written(folder: Path, timelines: dict[str, Timeline], to: str) -> Path:
    """Write timelines in a format, by way of annotations where they have no scores, else of CSV."""
    source = folder / "source.csv"
    from stale_edge.interchange.tables import write_csv

    source.write_text(write_csv(timelines), newline="")
    target = folder / {"elan": "folder"}.get(to, "target.csv" if to == "csv" else "target.json")
    convert(source, target, ConvertOptions(to))
    return target


@pytest.mark.parametrize("to", LOSSLESS)
@pytest.mark.parametrize("scored", [False, True])
def test_what_can_be_read_loses_nothing(to: str, scored: bool, tmp_path: Path) -> None:
    timelines = _timelines(scored=scored)
    found = read_timelines(_written(tmp_path, timelines, to))
    if to == "annotations":  # which have no scores
        timelines = of_annotations(to_annotations(timelines))
    assert found.keys() == timelines.keys()
    for video, wanted in timelines.items():
        assert found[video] == wanted, video


def test_the_loop_from_detections_over_a_correction_to_training(tmp_path: Path) -> None:
    """Pre-label, correct one segment in each tool in turn, and train on the result."""
    data = write_data_set(tmp_path / "data")
    path = data / "annotations.json"
    truth = read_annotations(path)
    exact = of_annotations(truth)
    detected = {
        "version": "1.3",
        "external_data": {},
        "results": {
            video: [{"label": a.label, "score": 0.5, "segment": [a.start_s, a.end_s]} for a in one.actions]
            for video, one in truth.videos.items()
        },
    }
    (tmp_path / "detections.json").write_text(json.dumps(detected))
    first = next(video for video, one in truth.videos.items() if one.subset == "training")

    convert(tmp_path / "detections.json", tmp_path / "tasks.json", ConvertOptions("label-studio", durations=path))
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    for task in tasks:  # what a person does: takes the predictions over, and moves the end of one
        task["annotations"] = [{"result": task["predictions"][0]["result"]}]
        for result in task["annotations"][0]["result"]:
            result.pop("score")
        if task["data"]["stale_edge"]["video"] == first:
            task["annotations"][0]["result"][0]["value"]["end"] -= 0.125
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    for source, target, to in (
        ("tasks.json", "eaf", "elan"),
        ("eaf", "samples.json", "fiftyone"),
        ("samples.json", "table.csv", None),
        ("table.csv", "annotations.json", "annotations"),
    ):
        convert(tmp_path / source, tmp_path / target, ConvertOptions(to))
    found = of_annotations(read_annotations(tmp_path / "annotations.json"))
    moved = exact[first].spans[0]
    corrected = exact | {
        first: replace(exact[first], spans=(moved._replace(end_s=moved.end_s - 0.125), *exact[first].spans[1:]))
    }
    in_time = {
        video: replace(one, spans=tuple(sorted(one.spans, key=lambda s: (s.start_s, s.end_s))))
        for video, one in corrected.items()
    }
    assert found == in_time

    from stale_edge.training import train

    path.write_bytes((tmp_path / "annotations.json").read_bytes())
    assert train(small_config(epochs=1), data, tmp_path / "run").epochs == 1


def test_players_and_editors_get_escaped_labels(tmp_path: Path) -> None:
    timelines = {"v_one": Timeline(tuple(Span(label, i, i + 1.0) for i, label in enumerate(HOSTILE)), 60.0, "training")}
    source = _written(tmp_path, timelines, "csv")
    convert(source, tmp_path / "x.vtt")
    cues = (tmp_path / "x.vtt").read_text().split("\n\n")[1:]
    assert len(cues) == len(HOSTILE), "no label ended its cue"
    assert all(cue.count("-->") == 1 and "<" not in cue for cue in cues)
    assert "a --&gt; b" in cues[HOSTILE.index("a --> b")]
    convert(source, tmp_path / "x.txt")
    rows = (tmp_path / "x.txt").read_text().splitlines()
    assert len(rows) == len(HOSTILE)
    assert all(row.count("\t") == 2 for row in rows)
    convert(source, tmp_path / "x.srt")
    assert (tmp_path / "x.srt").read_text().count("-->") == len(HOSTILE)
    cells = [row[1] for row in csv.reader(io.StringIO(source.read_bytes().decode(), newline=""))][1:]
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)


@pytest.mark.parametrize("suffix", [".otio", ".edl", ".fcpxml"])
def test_cuts_for_editors(suffix: str, tmp_path: Path) -> None:
    otio = pytest.importorskip("opentimelineio")
    timelines = {
        "v_one": Timeline(tuple(Span(label, i, i + 1.04) for i, label in enumerate(HOSTILE)), 60.0, "training")
    }
    path = tmp_path / f"cuts{suffix}"
    convert(_written(tmp_path, timelines, "csv"), path)
    if suffix == ".fcpxml":  # its adapter reads only what an editor has completed
        names = [clip.get("name") for clip in ET.parse(path).iter("asset-clip")] or [
            clip.get("name") for clip in ET.parse(path).iter("clip")
        ]
        assert len(names) == len(HOSTILE)
        return
    clips = list(otio.adapters.read_from_file(str(path)).find_clips())
    assert len(clips) == len(HOSTILE)
    if suffix == ".otio":
        assert [clip.name for clip in clips] == list(HOSTILE)
        ranges = [clip.source_range for clip in clips]
        assert [one.start_time.to_seconds() for one in ranges] == list(range(len(HOSTILE)))
        assert {one.duration.to_seconds() for one in ranges} == {1.04}


def test_clips_and_a_contact_sheet_are_cut_from_the_video(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    from PIL import Image

    videos = tmp_path / "videos"
    videos.mkdir()
    video_files.write(videos / "v_one.mp4", times_ms=range(0, 3000, 100))
    spans = (Span("../evil", 0.2, 0.5), Span("Ćwiczenia", 1.0, 2.0))
    source = _written(tmp_path, {"v_one": Timeline(spans, 3.0, "training")}, "csv")
    done = convert(source, tmp_path / "clips", ConvertOptions("clips", videos=videos))
    assert [path.relative_to(tmp_path).as_posix() for path in done.files] == [
        "clips/v_one/001-_evil.mp4", "clips/v_one/002-Ćwiczenia.mp4",
    ]  # fmt: skip
    for path, first, n_pictures in zip(done.files, (2, 0), (3, 10), strict=True):
        with av.open(str(path)) as container:
            pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert len(pictures) == n_pictures
        assert video_files.shade_of(pictures[0]) == first
    convert(source, tmp_path / "sheet.png", ConvertOptions(videos=videos))
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert video_files.shade_of(sheet[5:40, 5:40]) == 3, "0.35 s is the picture in the middle of the first segment"
    late = _written(tmp_path, {"v_one": Timeline((Span("a", 50.0, 51.0),), 60.0, "training")}, "csv")
    with pytest.raises(DataError, match=r"no picture lies in segment 1, 50 to 51 s; is this the video\?"):
        convert(late, tmp_path / "clips", ConvertOptions("clips", videos=videos))


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.json", "{}", "of no known format; known are JSON with database"),
        ("a.json", '[{"id": 1}]', r"task 1: has no data.video; export in the format JSON"),
        ("a.json", '{"labels": {"v": [{"label": 0, "support": [1, 2]}]}}', "needs timestamps .*use_timestamps=True"),
        ("a.csv", "video,label\r\nv,x\r\n", "columns start_s, end_s are missing"),
        ("a.csv", "video,label,start_s,end_s\r\nv,x,2,1\r\n", "row 2: a segment needs 0 <= start <= end .*'2' to '1'"),
        ("a.eaf", "<a/>", "outermost element is 'a', not ANNOTATION_DOCUMENT"),
        ("a.eaf", '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>', "declares a document type"),
        ("a.eaf", "<a", "not readable as XML"),
    ],
)
def test_files_that_cannot_be_read(name: str, text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, newline="")
    with pytest.raises(DataError, match=says):
        convert(tmp_path / name, tmp_path / "out.json")


def test_annotations_need_lengths(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("video,label,start_s,end_s\nv,x,1,2\n")
    with pytest.raises(DataError, match=r"v: annotations need the length.*--durations .*--videos DIR"):
        convert(tmp_path / "a.csv", tmp_path / "b.json")


def test_the_command_lists_its_formats(tmp_path: Path) -> None:
    source = _written(tmp_path, _timelines(scored=False), "csv")
    ran = CliRunner().invoke(app, ["convert", str(source), str(tmp_path / "x"), "--format", "docx"])
    assert ran.exit_code == 2
    ran = CliRunner().invoke(app, ["convert", "--help"], env={"COLUMNS": "200"})
    assert all(name in ran.stdout for name in FORMATS)
    ran = CliRunner().invoke(app, ["convert", str(source), str(tmp_path / "x.json"), "--json", "-"])
    assert json.loads(ran.stdout)["segments"] == len(HOSTILE)
