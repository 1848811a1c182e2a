"""OpenVINO beside the rest of a process: what it must leave alone."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import tiny

from stale_edge.runtime import load_bundle

INTERRUPTED = """
import os, signal, sys, threading
from stale_edge.runtime import load_bundle

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
opened = [load_bundle(sys.argv[1], runtime="openvino") for _ in range(2)]
if sys.argv[2] == "in order":
    del opened[0], opened[0]
else:
    thread = threading.Thread(target=opened.clear)
    thread.start()
    thread.join()
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("closed", ["in order", "by a thread"])
def test_a_signal_after_closing_localizers_reaches_python(tmp_path: Path, closed: str) -> None:
    """OpenVINO's CPU plugin could leave a freed signal stack behind, and Ctrl-C became a segmentation fault."""
    pytest.importorskip("openvino")
    tiny.write(tmp_path / "bundle")
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path / "bundle"), closed]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not say where threads may run")
def test_a_call_runs_wherever_its_thread_may(tmp_path: Path) -> None:
    """Bound to the first CPU, two processes would share it while others idle."""
    pytest.importorskip("openvino")
    tiny.write(tmp_path / "bundle")
    localizer, features = load_bundle(tmp_path / "bundle", runtime="openvino"), tiny.features(400)
    caller, seen, ended = threading.get_native_id(), set[frozenset[int]](), threading.Event()

    def watch() -> None:
        while not ended.is_set():
            seen.add(frozenset(os.sched_getaffinity(caller)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for _ in range(50):
            localizer.forward(features)
    finally:
        ended.set()
        watcher.join()
    assert seen == {frozenset(os.sched_getaffinity(0))}


def test_several_videos_are_detected_together(tmp_path: Path) -> None:
    """`detect` opens the model for one video a call."""
    pytest.importorskip("openvino")
    tiny.write(tmp_path / "bundle", resample_to=None)
    localizer = load_bundle(tmp_path / "bundle", runtime="openvino")
    videos = tiny.features(12, batch=3)
    for n_videos in (3, 2):
        together = localizer.detect_together(videos[:n_videos], durations_s=[10.0] * n_videos)
        for found, video in zip(together, videos, strict=False):
            wanted = localizer.detect(video, duration_s=10.0)
            assert [(d.label, d.start_s, d.end_s) for d in found] == [(d.label, d.start_s, d.end_s) for d in wanted]
            assert [d.score for d in found] == pytest.approx([d.score for d in wanted], abs=1e-5)
