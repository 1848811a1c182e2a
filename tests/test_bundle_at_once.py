"""Several processes at one bundle: exclusive writers, readers get the old or the new bundle, no leftovers."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny

from stale_edge.bundle import add_classes, describe_bundle, list_classes, read_bundle, remove_classes, verify_bundle
from stale_edge.bundle import files as files_module
from stale_edge.bundle.files import folder_beside, replace_folder, write_file_atomically
from stale_edge.bundle.locks import STALE_AFTER_S, beside, holds, lock_path, new_token, sweep, writing
from stale_edge.errors import BundleError, BusyError, VerificationError
from stale_edge.runtime import load_bundle

HERE = Path(__file__).parent
EDIT = """
import sys, time
from pathlib import Path
sys.path.insert(0, {here!r})
import tiny
from stale_edge.bundle import add_classes
bundle, start, mine = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
Path(sys.argv[2] + mine[0]).touch()
while not start.exists():
    time.sleep(0.001)
for name in mine:
    add_classes(bundle, tiny.bank((name,)))
"""


def spawn(*arguments: object, code: str = EDIT) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code.format(here=str(HERE)), *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tiny.write(tmp_path / "bundle")


def test_no_class_is_lost_when_two_processes_add_at_once(bundle: Path, tmp_path: Path) -> None:
    start = tmp_path / "start"
    names = [[f"{who} {i}" for i in range(8)] for who in ("left", "right")]
    editors = [spawn(bundle, start, *mine) for mine in names]
    wait_for(lambda: all(Path(f"{start}{mine[0]}").exists() for mine in names))
    start.touch()
    for editor in editors:
        assert editor.communicate()[1] == ""
    assert sorted(list_classes(bundle)) == sorted([*tiny.NAMES, *names[0], *names[1]])
    verify_bundle(bundle)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_readers_see_one_generation_while_a_writer_rewrites(bundle: Path) -> None:
    done = threading.Event()
    rounds = 0

    def rewrite() -> None:
        nonlocal rounds
        while not done.is_set():
            add_classes(bundle, tiny.bank(("new",)))
            remove_classes(bundle, ["new"])
            rounds += 1

    allowed = {tiny.NAMES, (*tiny.NAMES, "new")}
    readers: list[Callable[[], tuple[str, ...]]] = [
        lambda: list_classes(bundle),
        lambda: verify_bundle(bundle).class_bank.names,
        lambda: tuple(describe_bundle(bundle)["classes"]["names"]),
        lambda: load_bundle(bundle).class_bank.names,
    ]
    writer = threading.Thread(target=rewrite)
    writer.start()
    seen = set()
    try:
        for i in range(200):
            names = readers[i % len(readers)]()
            assert names in allowed
            seen.add(names)
    finally:
        done.set()
        writer.join()
    assert seen == allowed, f"{rounds} rewrites, but only one generation was seen"


def test_a_file_that_is_opened_later_is_of_the_same_generation(bundle: Path) -> None:
    localizer = load_bundle(bundle)
    tiny.write(bundle.with_name("other"), seed=7).rename(bundle.with_name("newer"))
    bundle.rename(bundle.with_name("older"))
    bundle.with_name("newer").rename(bundle)
    assert localizer.detect(tiny.features(12), duration_s=9.0) is not None  # what is open stays open
    with pytest.raises(VerificationError, match=r"detector-fp32\.onnx has changed"):
        localizer.forward(tiny.features(16))


def test_a_writer_is_refused_with_who_holds_the_lock(bundle: Path) -> None:
    refused = pytest.raises(BusyError, match=rf"process {os.getpid()} on .* since '20.* is writing it")
    with writing(bundle), refused, writing(bundle, wait_s=0.05):
        pass
    add_classes(bundle, tiny.bank(("free again",)))


def test_a_lock_of_a_dead_process_is_taken_over(bundle: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with writing(bundle) as token:
        said = json.loads(lock_path(bundle).read_text())
        lock_path(bundle).write_text(json.dumps({**said, "pid": ended.pid, "token": "gone"}))
    assert lock_path(bundle).exists(), "a lock that is not one's own is left alone"
    with writing(bundle, wait_s=0) as other:
        assert other != token
    assert not lock_path(bundle).exists()


@pytest.mark.parametrize(("age_s", "taken"), [(STALE_AFTER_S + 60, True), (STALE_AFTER_S - 60, False)])
@pytest.mark.parametrize("content", ['{"machine": "elsewhere", "host": "far", "pid": 1, "token": "t"}', "", "[", "7"])
def test_a_lock_of_another_machine_is_stale_when_its_time_is(
    bundle: Path, content: str, age_s: float, taken: bool
) -> None:
    lock = lock_path(bundle)
    lock.write_text(content)
    os.utime(lock, (time.time() - age_s,) * 2)
    if taken:
        add_classes(bundle, tiny.bank(("new",)))
        assert not lock.exists()
    else:
        with pytest.raises(BusyError, match="is writing it"), writing(bundle, wait_s=0.05):
            pass
        assert lock.read_text() == content


def test_a_writer_whose_lock_was_taken_over_replaces_nothing(bundle: Path) -> None:
    before = read_bundle(bundle).manifest
    with folder_beside(bundle) as folder:
        (folder / "manifest.json").write_text("{}")
        said = json.loads(lock_path(bundle).read_text())
        lock_path(bundle).write_text(json.dumps({**said, "token": "another"}))
        with pytest.raises(BusyError, match="took over"):
            replace_folder(folder, bundle)
    assert read_bundle(bundle).manifest == before
    assert not holds(bundle, "nobody")


def test_leftovers_of_the_dead_are_swept_and_those_of_the_living_are_not(bundle: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    machine = new_token().split("-")[0]
    dead = beside(bundle, token=f"{machine}-{ended.pid}-00000000")
    alive = beside(bundle, token=f"{machine}-{os.getpid()}-00000001")
    far_new = beside(bundle, token="0badbeef-1-00000002")
    far_old = beside(bundle, token="0badbeef-1-00000003")
    other = beside(bundle.with_name("other"), token=f"{machine}-{ended.pid}-00000004")
    not_ours = bundle.with_name(".bundle.backup.part")
    for path in (dead, alive, far_new, far_old, other, not_ours):
        path.mkdir()
        (path / "file").touch()
    os.utime(far_old, (1, 1))
    half_a_lock = beside(lock_path(bundle), token=f"{machine}-{ended.pid}-00000005")
    half_a_lock.touch()
    add_classes(bundle, tiny.bank(("new",)))
    left = {path for path in (dead, alive, far_new, far_old, other, not_ours, half_a_lock) if path.exists()}
    assert left == {alive, far_new, other, not_ours}
    sweep(bundle.parent)
    assert not other.exists()
    assert alive.exists()


def test_an_old_folder_that_was_moved_away_is_put_back(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "_exchange", lambda *_: False)
    add_classes(bundle, tiny.bank(("in two steps",)))
    assert "in two steps" in list_classes(bundle)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    bundle.rename(beside(bundle, "old", token=f"{new_token().split('-')[0]}-{ended.pid}-00000000"))
    with pytest.raises(BundleError, match="does not exist"):
        verify_bundle(bundle)
    with writing(bundle):
        sweep(bundle.parent, bundle)
    assert "in two steps" in verify_bundle(bundle).class_bank.names


def test_two_threads_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / ("long" * 60)
    contents = [bytes([i]) * 10_000 for i in range(4)]
    threads = [threading.Thread(target=write_file_atomically, args=(path, content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM that a program can answer")
def test_sigterm_ends_like_ctrl_c_and_leaves_nothing(bundle: Path, tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from stale_edge.bundle.files import folder_beside
from stale_edge.cli import app
def work(*_):
    with folder_beside(Path(sys.argv[1])) as folder:
        (folder / "half").touch()
        Path(sys.argv[2]).touch()
        time.sleep(60)
app.app = work
app.main()
"""
    begun = tmp_path / "begun"
    process = spawn(bundle, begun, code=code)
    wait_for(begun.exists)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 143
    assert sorted(path.name for path in tmp_path.iterdir()) == ["begun", "bundle"]
