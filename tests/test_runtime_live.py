"""Watching: the events of a source, what is skipped when it comes too fast, and every kind of source."""

import dataclasses
import functools
import http.server
import io
import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tiny
import video_files
import vision_encoder

from stale_edge import Localizer, load_bundle
from stale_edge.bundle import FeatureContract
from stale_edge.errors import BundleError, DataError, FeatureContractError
from stale_edge.runtime.live import Incoming, Intake, LiveSource, WatchSettings, open_live, watch
from stale_edge.runtime.video_reader import VideoReader

ROUNDING_S = 1e-9
"""A stream multiplies snippets by seconds, a file divides its duration: the last bits may differ."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("live") / "bundle")


@pytest.fixture(scope="module")
def localizer(bundle) -> Localizer:
    return load_bundle(bundle)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    return vision_encoder.write(tmp_path_factory.mktemp("live") / "encoder", fingerprint="tiny-encoder")


class Given:
    """An intake without a thread: gives the given snippets; `late` is the delay of each one."""

    def __init__(self, steps, late=lambda _step: 0.0, n_waiting=0) -> None:
        self.steps = steps
        self.behind_s = late
        self.n_waiting = n_waiting

    def __call__(self, _source, **_options):
        return self

    def __iter__(self):
        x = tiny.features(1000)
        return iter([Incoming(step, lambda step=step: x[step]) for step in self.steps])

    def close(self) -> None:
        """There is no thread to stop."""


def _source(snippet_s: float = 0.2, **options) -> LiveSource:
    return LiveSource("here", snippet_s, iter(()), **options)


def _counted(n: int, snippet_s: float = 1.0) -> LiveSource:
    return LiveSource("here", snippet_s, iter([Incoming(step, lambda: np.zeros(8, np.float32)) for step in range(n)]))


def _of(events, kind: str) -> list[dict]:
    return [event for event in events if event["event"] == kind]


def _finals(events) -> list[tuple]:
    return sorted((e["label"], e["score"], *e["segment"]) for e in _of(events, "final"))


def _assert_same(found, wanted) -> None:
    wanted = sorted(wanted)
    assert [row[:2] for row in found] == [tuple(row[:2]) for row in wanted]
    np.testing.assert_allclose([row[2:] for row in found], [row[2:] for row in wanted], atol=ROUNDING_S)


# --- events ----------------------------------------------------------------------------------------------------------


def test_the_events_of_a_source_that_keeps_up(localizer) -> None:
    events = list(watch(localizer, _source(), WatchSettings(window=20), intake=Given(range(70))))
    assert events[0] == {
        "event": "start",
        "source": "here",
        "snippet_s": 0.2,
        "window": 20,
        "overlap": 10,
        "final_within_s": 4.0,
        "speed": 1.0,
        "waiting": 8,
        "skip": True,
        "provider": "CPUExecutionProvider",
    }
    wanted = localizer.detect(tiny.features(1000)[:70], duration_s=14.0, window=20)
    _assert_same(_finals(events), wanted)
    for event in _of(events, "final")[: -len(wanted) // 2]:
        assert event["time_s"] - event["segment"][1] <= 4.0 + ROUNDING_S
    end = {"event": "end", "snippets": 70, "skipped": 0, "final": len(wanted), "notes": []}
    assert {**end, "time_s": pytest.approx(14.0)} == events[-1]
    tentative = _of(events, "tentative")
    assert tentative[0]["time_s"] == pytest.approx(0.2), "told at once"
    assert all(a["segments"] != b["segments"] for a, b in itertools.pairwise(tentative)), "told when it changes"
    json.dumps(events, allow_nan=False)


def test_what_scores_less_is_not_told(localizer) -> None:
    every = list(watch(localizer, _source(), WatchSettings(window=20), intake=Given(range(70))))
    some = list(
        watch(localizer, _source(), WatchSettings(window=20, min_score=0.5, tentative=False), intake=Given(range(70)))
    )
    assert _finals(some) == [row for row in _finals(every) if row[1] >= 0.5]
    assert 0 < len(_finals(some)) < len(_finals(every))
    assert _of(some, "tentative") == []


def test_a_short_gap_is_held_by_the_features_before_it(localizer) -> None:
    x = tiny.features(1000)[:60]
    held = x.copy()
    held[30:37] = x[29]
    steps = [*range(30), *range(37, 60)]
    events = list(watch(localizer, _source(), WatchSettings(window=20), intake=Given(steps)))
    _assert_same(_finals(events), localizer.detect(held, duration_s=12.0, window=20))
    (gap,) = _of(events, "skipped")
    assert gap == {
        "event": "skipped",
        "time_s": pytest.approx(7.4),
        "segment": [pytest.approx(6.0), pytest.approx(7.4)],
        "snippets": 7,
    }
    assert events[-1]["skipped"] == 7
    assert events[-1]["snippets"] == 60


@pytest.mark.parametrize(("gap", "first"), [(20, 0), (500, 0), (5, 3)])
def test_after_a_gap_of_a_window_or_at_the_start_a_new_stream_begins(localizer, gap, first) -> None:
    """What lies before and after the gap is found as in two videos; nothing reaches over it."""
    x = tiny.features(1000)
    middle = first + 30 if gap >= 20 else first
    steps = [*range(first, middle), *range(middle + gap, middle + gap + 40)]
    events = list(watch(localizer, _source(), WatchSettings(window=20), intake=Given(steps)))
    wanted = []
    for start, stop in ((first, middle), (middle + gap, middle + gap + 40)):
        if start < stop:
            found = localizer.detect(x[start:stop], duration_s=0.2 * (stop - start), window=20)
            wanted += [d._replace(start_s=d.start_s + 0.2 * start, end_s=d.end_s + 0.2 * start) for d in found]
    _assert_same(_finals(events), wanted)


def test_being_late_is_said_once_a_window_and_nothing_tentative_is_asked_for(localizer) -> None:
    late = Given(range(50), late=lambda step: 0.5 * step, n_waiting=3)
    events = list(watch(localizer, _source(), WatchSettings(window=20, waiting=4), intake=late))
    said = _of(events, "behind")
    assert [event["behind_s"] for event in said] == [1.0, 11.0, 21.0]  # later than 4 snippets of 0.2 s
    assert _of(events, "tentative") == []


def test_a_source_that_breaks_tells_first_what_was_final(localizer) -> None:
    def snippets():
        x = tiny.features(1000)
        for step in range(45):
            yield Incoming(step, lambda step=step: x[step])
        raise DataError("here: the camera was unplugged")

    closed = []
    source = LiveSource("here", 0.2, snippets(), close=lambda: closed.append(True))
    events: list[dict] = []
    with pytest.raises(DataError, match="unplugged"):
        events.extend(watch(localizer, source, WatchSettings(window=20, speed=0)))
    _assert_same(_finals(events), localizer.detect(tiny.features(1000)[:45], duration_s=9.0, window=20))
    assert events[-1]["event"] == "end"
    assert closed == [True]


def test_it_can_be_left_early_and_stopped(localizer) -> None:
    def endless():
        x = tiny.features(1000)
        for step in itertools.count():
            yield Incoming(step, lambda step=step: x[step % 1000])

    for event in watch(localizer, LiveSource("here", 0.2, endless()), WatchSettings(window=20, speed=0)):
        if event["event"] == "final":
            break
    stop = threading.Event()
    assert list(watch(localizer, _counted(3), WatchSettings(window=20, speed=0), stop=stop))[-1]["event"] == "end"
    assert not stop.is_set(), "one source that ends stops no other"
    events = []
    for event in watch(localizer, LiveSource("here", 0.2, endless()), WatchSettings(window=20, speed=0), stop=stop):
        events.append(event)
        if len(events) == 50:
            stop.set()
    assert events[-1]["event"] == "end"


@pytest.mark.parametrize(("stopped", "notes"), [(False, ["ends early", "odd"]), (True, ["odd"])])
def test_a_source_that_was_stopped_is_not_called_truncated(localizer, stopped: bool, notes: list[str]) -> None:
    stop = threading.Event()
    source = dataclasses.replace(_counted(40), notes=lambda: ("odd",), shortfall=lambda: "ends early")
    for event in watch(localizer, source, WatchSettings(window=20, speed=0), stop=stop):
        last = event
        if stopped:
            stop.set()
    assert last["event"] == "end"
    assert last["notes"] == notes


@pytest.mark.parametrize(
    "options", [{"min_score": 2}, {"waiting": 0}, {"speed": -1}, {"speed": float("inf")}, {"window": 1}]
)
def test_arguments_that_cannot_be(localizer, options) -> None:
    with pytest.raises(ValueError, match="must be"):
        list(watch(localizer, _source(), WatchSettings(**{"window": 20, **options})))


# --- the intake ------------------------------------------------------------------------------------------------------


def test_the_oldest_waiting_snippet_is_skipped() -> None:
    intake = Intake(_counted(10), size=3, skip=True, speed=0)
    taken = iter(intake)
    intake._thread.start()
    intake._thread.join(10)
    intake._thread = threading.Thread()  # it has run already
    assert [item.step for item in taken] == [7, 8, 9]


def test_a_source_that_may_wait_loses_nothing() -> None:
    assert [item.step for item in Intake(_counted(100), size=3, skip=False, speed=0)] == list(range(100))


def test_snippets_come_at_their_time_and_lateness_is_measured() -> None:
    now = [50.0]
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(round(seconds, 6))
        now[0] += seconds

    intake = Intake(_counted(5, 2.0), size=5, skip=False, speed=4.0, clock=lambda: now[0], sleep=sleep)
    assert intake.behind_s(0) == 0.0
    assert [item.step for item in intake] == [0, 1, 2, 3, 4]
    assert slept == [0.5] * 4  # the first one starts the clock; two seconds at four times real time
    now[0] = 60.0
    assert intake.behind_s(4) == pytest.approx(8.0)


# --- sources ---------------------------------------------------------------------------------------------------------


def _reader(bundle: Path, encoder: Path | None = None) -> VideoReader:
    return VideoReader(bundle, load_bundle(bundle).feature_contract, encoder=encoder)


def _npy(x: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, x)
    return buffer.getvalue()


def _piped(content: bytes) -> io.BufferedReader:
    return io.BufferedReader(io.BytesIO(content))


def test_a_feature_file_and_a_pipe_of_rows_give_the_same(bundle, localizer, tmp_path) -> None:
    x = tiny.features(53)
    path = tmp_path / "x.npy"
    path.write_bytes(_npy(x))
    wanted = localizer.detect(x, duration_s=53 * 0.2, window=20)
    for source, pipe in ((str(path), None), ("-", _piped(_npy(x)))):
        opened = open_live(source, _reader(bundle), pipe=pipe)
        assert (opened.snippet_s, opened.is_pipe) == (0.2, source == "-")
        _assert_same(_finals(watch(localizer, opened, WatchSettings(window=20, speed=0))), wanted)


def test_a_pipe_of_rows_ends_when_it_ends_whatever_its_header_says(bundle) -> None:
    x = tiny.features(30)
    content = _npy(x)[: -20 * x.itemsize * tiny.CHANNELS]
    opened = open_live("-", _reader(bundle), pipe=_piped(content))
    np.testing.assert_array_equal([item.features() for item in opened.snippets], x[:10])
    longer = open_live("-", _reader(bundle), pipe=_piped(_npy(x[:10]) + x[10:].tobytes()))
    np.testing.assert_array_equal([item.features() for item in longer.snippets], x)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (_npy(tiny.features(3))[:-5], r"ended within a row: 27 of 32 bytes"),
        (_npy(np.zeros((3, 9), np.float32)), "C = 8 channels"),
        (_npy(np.zeros((3, 8), np.int32)), "floating point"),
        (_npy(np.zeros(8, np.float32)), r"must be \(T, C\) in C order; got float32 \(8,\)"),
        (_npy(np.asfortranarray(np.zeros((3, 8), np.float32))), "in C order"),
        (b"\x93NUMPY\x01\x00garbage", "not an .npy stream"),
    ],
)
def test_pipes_of_rows_that_cannot_be_read(bundle, content, said) -> None:
    with pytest.raises((DataError, FeatureContractError), match=said):
        list(open_live("-", _reader(bundle), pipe=_piped(content)).snippets)


def test_videos_by_every_way_give_the_segments_of_the_file(bundle, encoder, localizer, tmp_path) -> None:
    """As a file and through a pipe, 25 / 5 snippets per second; compared with `detect` in windows."""
    path = video_files.write(tmp_path / "v.mkv", times_ms=range(0, 12_000, 100))
    reader = _reader(bundle, encoder)
    wanted = reader.detect(path, localizer, class_bank=localizer.class_bank, window=20)
    assert wanted.detections
    for source, pipe in ((str(path), None), ("-", _piped(path.read_bytes()))):
        opened = open_live(source, reader, pipe=pipe)
        assert opened.is_pipe == (source == "-")
        events = list(watch(localizer, opened, WatchSettings(window=20, speed=0)))
        _assert_same(_finals(events), wanted.detections)
        assert events[-1]["snippets"] == 60
        assert events[-1]["notes"] == []


def test_a_device_is_opened_as_pyav_opens_it(bundle, encoder, localizer) -> None:
    """FFmpeg's virtual input device replaces a camera."""
    opened = open_live("testsrc=duration=3:size=64x48:rate=10", _reader(bundle, encoder), input_format="lavfi")
    events = list(watch(localizer, opened, WatchSettings(window=10, speed=0)))
    assert events[-1]["snippets"] == 15
    assert _finals(events)


def test_a_network_stream_is_opened_by_its_address(bundle, encoder, localizer, tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("http_proxy", raising=False)
    path = video_files.write(tmp_path / "v.mkv", times_ms=range(0, 6000, 100))
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        opened = open_live(f"http://127.0.0.1:{server.server_port}/v.mkv", _reader(bundle, encoder))
        found = _finals(watch(localizer, opened, WatchSettings(window=20, speed=0)))
        server.shutdown()
    assert found == _finals(
        watch(localizer, open_live(str(path), _reader(bundle, encoder)), WatchSettings(window=20, speed=0))
    )
    assert found


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a word."""

    def log_message(self, *_said: object) -> None:
        """Say nothing."""


def test_sources_that_cannot_be_opened(bundle, encoder, tmp_path) -> None:
    video = video_files.write(tmp_path / "v.mkv")
    with pytest.raises(BundleError, match="holds no visual encoder"):
        open_live(str(video), _reader(bundle))
    with pytest.raises(DataError, match="no such feature file"):
        open_live(str(tmp_path / "x.npy"), _reader(bundle))
    with pytest.raises(DataError, match="no such file"):
        open_live(str(tmp_path / "x.mp4"), _reader(bundle, encoder))
    with pytest.raises(DataError, match="cannot be read as a video"):
        open_live("/dev/video99", _reader(bundle, encoder))
    with pytest.raises(DataError, match="nothing came through the pipe"):
        open_live("-", _reader(bundle, encoder), pipe=_piped(b""))
    with pytest.raises(DataError, match="cannot be read as a video"):
        open_live("-", _reader(bundle, encoder), pipe=_piped(b"this is no video"))
    silent = VideoReader(bundle, FeatureContract("tiny-encoder", 8, None, None, None, "linear", 16))
    np.save(tmp_path / "x.npy", tiny.features(3))
    with pytest.raises(FeatureContractError, match="give --snippet SECONDS"):
        open_live(str(tmp_path / "x.npy"), silent)
    assert open_live(str(tmp_path / "x.npy"), silent, snippet_s=0.5).snippet_s == 0.5
    (tmp_path / "feature_spec.json").write_text('{"encoder": "another", "channels": 8}')
    with pytest.raises(FeatureContractError, match="encoder is 'another', the contract says 'tiny-encoder'"):
        open_live(str(tmp_path / "x.npy"), _reader(bundle))


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_tells_what_detect_finds(run, bundle, tmp_path) -> None:
    np.save(tmp_path / "x.npy", tiny.features(50))
    code, out, err = run("watch", bundle, tmp_path / "x.npy", "--window", "20", "--speed", "0", "--classes", "jump")
    assert (code, err) == (0, "")
    events = [json.loads(line) for line in out.splitlines()]
    code, out, _ = run("detect", bundle, tmp_path / "x.npy", "--window", "20", "--classes", "jump")
    rows = json.loads(out)["results"]["x"]
    _assert_same(_finals(events), [(row["label"], row["score"], *row["segment"]) for row in rows])
    code, out, _ = run("watch", bundle, tmp_path / "x.npy", "--speed", "0", "--no-tentative")
    events = [json.loads(line) for line in out.splitlines()]
    assert events[0]["window"] == 16, "what the bundle resamples to"
    assert _of(events, "tentative") == []


def test_a_stopped_command_ends_in_order(bundle, tmp_path) -> None:
    np.save(tmp_path / "x.npy", tiny.features(5000))
    command = [sys.executable, "-m", "stale_edge", "watch", str(bundle), str(tmp_path / "x.npy"), "--speed", "4"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["event"] == "start"
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        rest = [json.loads(line) for line in process.stdout]
    assert process.returncode == 0
    assert rest[-1]["event"] == "end"
    assert 0 < rest[-1]["snippets"] < 5000
