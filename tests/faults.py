"""Check that kills, full disks, read-only folders and second writers lose unfinished work, and nothing else.

    python -m tests.faults --kills 200 [--seed 0]

Every kind of work (`tests/fault_works.py`) first runs undisturbed, in its own process. Then it is disturbed, checked,
run again to its end, and compared with the undisturbed result, bit for bit. Linux and macOS only: processes are forked,
so that a kill hits the work and not the import of its modules.
"""

import argparse
import contextlib
import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import tiny
import torch
from fault_works import ALL, CLASSES, QUICK, Result, Work, hashes, leftovers

from stale_edge.bundle import add_classes, list_classes, verify_bundle
from stale_edge.bundle.locks import writing
from stale_edge.errors import BusyError, StaleEdgeError

PAGE_BYTES = 4096
ERROR = "error.txt"


@dataclass(frozen=True)
class Undisturbed:
    """What a kind of work gives when nothing disturbs it, in how many seconds, and by how much its folder grows."""

    result: Result
    seconds: float
    growth_bytes: int


def start(run: Callable[[Path], object], root: Path, *, before: Callable[[], object] = lambda: None) -> int:
    """Run work in its own process; gives the process id. Exit code 1: it reported one error."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2) if os.environ.get("FAULTS_QUIET") else None
        before()
        run(root)
        code = 0
    except (StaleEdgeError, OSError) as error:
        with contextlib.suppress(PermissionError):
            (root.parent / ERROR).write_text(f"{error}")
        code = 1
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def end_of(pid: int) -> int:
    """Wait for a process; gives its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@contextlib.contextmanager
def empty_folder() -> Iterator[Path]:
    """Make an empty folder `work` in a temporary one, which also takes the error message of a process."""
    with tempfile.TemporaryDirectory(prefix="faults.") as folder:
        root = Path(folder) / "work"
        root.mkdir()
        yield root


@contextlib.contextmanager
def prepared(work: Work) -> Iterator[Path]:
    """Make an empty folder with the inputs of some work."""
    with empty_folder() as root:
        work.prepare(root)
        yield root


def undisturbed(work: Work) -> Undisturbed:
    """Run work to its end, in a process of its own."""
    with prepared(work) as root:
        before, began = disk_bytes(root), time.perf_counter()
        assert end_of(start(work.run, root)) == 0, f"{work.name} fails undisturbed"
        return Undisturbed(work.result(root), time.perf_counter() - began, disk_bytes(root) - before)


def disk_bytes(folder: Path) -> int:
    """Add up what the files and folders take on a disk of whole pages; a file with two names counts once."""
    sizes = {state.st_ino: state.st_size for path in folder.rglob("*") if (state := path.lstat())}
    return sum((size + PAGE_BYTES - 1) // PAGE_BYTES * PAGE_BYTES for size in sizes.values())


def finish(work: Work, root: Path, expected: Undisturbed, disturbance: str) -> None:
    """Check what a disturbance left, run the work to its end, and compare the result and what is left over."""
    work.check(root)
    assert end_of(start(work.run, root)) == 0, f"{work.name} does not go on after {disturbance}"
    assert work.result(root) == expected.result, f"{work.name} differs after {disturbance}"
    assert not leftovers(root), f"{work.name} left {leftovers(root)} after {disturbance}"


def kills(work: Work, expected: Undisturbed, n: int, rng: np.random.Generator) -> str:
    """Kill work n times at random moments."""
    struck = 0
    for _ in range(n):
        after_s = float(rng.uniform(0, expected.seconds))
        with prepared(work) as root:
            pid = start(work.run, root)
            time.sleep(after_s)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            struck += end_of(pid) == -signal.SIGKILL
            finish(work, root, expected, f"a kill at {after_s:.4f} s")
    return f"{work.name}: {n} kills, {struck} while it ran ({expected.seconds:.2f} s): nothing lost, nothing half"


def said_by(root: Path, number: int) -> str:
    """Read the message of a process that ended with an error: it names the error and a file."""
    said = (root.parent / ERROR).read_text()
    assert os.strerror(number) in said, said
    assert str(root) in said, f"the message names no file: {said}"
    return said.replace(str(root), "")[:200]


def limit_files(work: Work, expected: Undisturbed, limit_bytes: int) -> str:
    """Run work with a limit on file sizes, then without: the message names a file, and the work resumes."""
    with prepared(work) as root:

        def limit() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

        assert end_of(start(work.run, root, before=limit)) == 1, f"{work.name} does not notice a limit of file sizes"
        said = said_by(root, errno.EFBIG)
        finish(work, root, expected, "a limit of file sizes")
        return f"{work.name}: file size limit: {said}"


def fill_disk(work: Work, expected: Undisturbed) -> str:
    """Run work on a small disk with room for half of what it adds; then make room, and run it to its end."""
    with empty_folder() as root:
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", root], capture_output=True).returncode:
            return f"{work.name}: full disk: skipped, this user may not mount a small one"
        try:
            work.prepare(root)
            used = shutil.disk_usage(root).used
            room = used + max(PAGE_BYTES, expected.growth_bytes // 2 // PAGE_BYTES * PAGE_BYTES)
            subprocess.run(["mount", "-o", f"remount,size={room}", root], check=True)
            assert end_of(start(work.run, root)) == 1, f"{work.name} does not notice a full disk"
            said = said_by(root, errno.ENOSPC)
            work.check(root)
            subprocess.run(["mount", "-o", "remount,size=256m", root], check=True)
            finish(work, root, expected, "a full disk")
        finally:
            subprocess.run(["umount", root], check=True)
        return f"{work.name}: full disk: {said}"


def read_only(work: Work) -> str:
    """Run work as a user without write permission: one message, and nothing changes."""
    with prepared(work) as root:
        root.parent.chmod(0o755)
        for path in [root, *root.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        before = hashes(root, "*")

        def give_up_rights() -> None:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setuid(65534)

        ended = end_of(start(work.run, root, before=give_up_rights))
        assert ended == 1, f"{work.name} does not notice a read-only folder"
        assert hashes(root, "*") == before
        for path in [root, *root.rglob("*")]:
            path.chmod(0o755)
        return f"{work.name}: read-only folder: refused, nothing changed"


def two_at_once(work: Work, expected: Undisturbed) -> str:
    """Run the same work twice at once: both end, or one is refused; the result is that of one."""
    with prepared(work) as root:
        ends = sorted(end_of(pid) for pid in [start(work.run, root), start(work.run, root)])
        assert ends in ([0, 0], [0, 1]), f"two processes of {work.name} end with {ends}"
        if ends[1] == 1:
            said = (root.parent / ERROR).read_text()
            assert any(words in said for words in ("is writing it", "already has 'added'")), said
        finish(work, root, expected, "a second process")
        return f"{work.name}: two at once: {'one is refused' if ends[1] else 'both end'}, nothing lost"


def reader_while_writing(work: Work, expected: Undisturbed) -> str:
    """Read what a process has made so far, again and again while it works: every read succeeds."""
    with prepared(work) as root:
        pid, n = start(work.run, root), 0
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            work.check(root)
            n += 1
        assert work.result(root) == expected.result
        return f"{work.name}: {n} reads while it worked, none refused"


def two_writers(n: int) -> str:
    """Let two processes repeatedly add classes to one bundle at once: no class is lost."""
    with empty_folder() as root:
        bundle = tiny.write(root / "bundle")
        names = [[f"{who} {i}" for i in range(n)] for who in ("left", "right")]

        def add(mine: Sequence[str]) -> Callable[[Path], object]:
            return lambda _: [add_classes(bundle, tiny.bank((name,))) for name in mine]

        pids = [start(add(mine), root) for mine in names]
        assert [end_of(pid) for pid in pids] == [0, 0]
        assert sorted(list_classes(bundle)) == sorted([*tiny.NAMES, *names[0], *names[1]])
    return f"{CLASSES.name}: {2 * n} added by two processes at once, none lost"


def reader_of_generations(n: int) -> str:
    """Verify a bundle n times while another process rewrites it: no read is refused."""
    with empty_folder() as root:
        bundle = tiny.write(root / "bundle")
        pid = start(lambda _: [add_classes(bundle, tiny.bank((f"{i}",))) for i in range(100_000)], root)
        seen = {len(verify_bundle(bundle).class_bank) for _ in range(n)}
        os.kill(pid, signal.SIGKILL)
        end_of(pid)
        with contextlib.suppress(BusyError), writing(bundle):
            verify_bundle(bundle)
    assert len(seen) > 1, "nothing was rewritten while it was read"
    return f"{CLASSES.name}: {n} reads of {len(seen)} generations while it was rewritten, none refused"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=40, help="kills in all, over all kinds of work")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="no study, no exports; all faults for two kinds")
    parser.add_argument("--only", default="", help="one kind of work, by its name")
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    torch.set_num_threads(1)
    for work in QUICK if arguments.quick else ALL:
        if arguments.only not in ("", work.name):
            continue
        expected = undisturbed(work)
        print(kills(work, expected, max(1, round(arguments.kills * work.share)), rng), flush=True)
        if arguments.quick and work not in QUICK[:2]:
            continue
        for fault in (
            lambda work=work, expected=expected: limit_files(work, expected, 300),
            lambda work=work, expected=expected: fill_disk(work, expected),
            lambda work=work: read_only(work),
            lambda work=work, expected=expected: two_at_once(work, expected),
            lambda work=work, expected=expected: reader_while_writing(work, expected),
        ):
            print(fault(), flush=True)
    if not arguments.only:
        print(two_writers(20), reader_of_generations(200), sep="\n", flush=True)


if __name__ == "__main__":
    if os.name == "nt":
        sys.exit("the fault harness needs a POSIX system")
    main()
