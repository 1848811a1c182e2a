"""Check that kills, full disks, read-only folders and second writers lose unfinished work, and nothing else.

    python -m tests.faults --kills 200 [--seed 0]

Every kind of work first runs undisturbed, in its own process. Then it is disturbed, checked, run again to its end, and
compared with the undisturbed result, bit for bit. Linux and macOS only: processes are forked, so that a kill hits the
work and not the import of its modules.
"""

import argparse
import contextlib
import errno
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import exporting_case
import tiny
import training_data
import video_files
import vision_encoder

from stale_edge.bundle import add_classes, list_classes, verify_bundle
from stale_edge.bundle.locks import writing
from stale_edge.errors import BusyError, StaleEdgeError
from stale_edge.jobs.detection import detect_many
from stale_edge.jobs.extraction import FeatureJob, extract_all
from stale_edge.model import read_checkpoint
from stale_edge.runtime.detect import DetectSettings
from stale_edge.training import train
from stale_edge.training.run_folder import read_state_file

Result = dict[str, Any]


@dataclass(frozen=True)
class Work:
    """One kind of work.

    prepare: makes the inputs in an empty folder.
    run: runs the work there, or resumes it.
    check: raises if something is incomplete after a disturbance.
    result: gives the values that must be equal at the end.
    target: the folder that is written, for faults of the disk.
    share: fraction of the kills that are for this work.
    """

    name: str
    prepare: Callable[[Path], object]
    run: Callable[[Path], object]
    check: Callable[[Path], object]
    result: Callable[[Path], Result]
    target: str
    share: float = 0.0


def hashes(folder: Path, pattern: str) -> Result:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob(pattern))
        if path.is_file()
    }


def leftovers(folder: Path) -> list[str]:
    """List leftovers of writers; there must be none after the work has ended."""
    return [str(path.relative_to(folder)) for path in folder.rglob(".*") if path.suffix in (".part", ".old", ".lock")]


def add_one_class(root: Path) -> None:
    if "added" not in list_classes(root / "bundle"):
        add_classes(root / "bundle", tiny.bank(("added",)))
    else:  # it was added before the kill; the next writer sweeps
        add_classes(root / "bundle", tiny.bank(("swept",)))


def check_bundle(root: Path) -> None:
    names = verify_bundle(root / "bundle").class_bank.names
    assert names in (tiny.NAMES, (*tiny.NAMES, "added")), names


CLASSES = Work(
    "classes",
    lambda root: tiny.write(root / "bundle"),
    add_one_class,
    check_bundle,
    lambda root: {"names": [name for name in list_classes(root / "bundle") if name != "swept"]},
    ".",
    0.4,
)


def prepare_detect(root: Path) -> None:
    tiny.write(root / "bundle")
    (root / "inputs").mkdir()
    for i in range(6):
        np.save(root / "inputs" / f"v{i}.npy", tiny.features(10 + i, seed=i))


def run_detect(root: Path) -> None:
    run = detect_many(DetectSettings(root / "bundle"), [root / "inputs"], root / "results")
    assert not run.errors, run.errors


def results_of(root: Path) -> Result:
    return {path.name: json.loads(path.read_text())["detections"] for path in (root / "results").glob("*.json")}


DETECT = Work("detect --results", prepare_detect, run_detect, results_of, results_of, "results", 0.3)


def prepare_features(root: Path) -> None:
    vision_encoder.write(root / "encoder")
    (root / "videos").mkdir()
    for i in range(3):
        video_files.write(root / "videos" / f"v{i}.mkv", times_ms=range(0, 2000 + 500 * i, 100))


def run_features(root: Path) -> None:
    report = extract_all([root / "videos"], FeatureJob(root / "encoder", root / "out", fps=5.0, stride=1))
    assert not report.errors, report.errors


def check_features(root: Path) -> None:
    for path in (root / "out" / "features").glob("*.npy"):
        np.load(path)
    for path in (root / "out" / "sources").glob("*.json"):
        json.loads(path.read_text())


FEATURES = Work(
    "features", prepare_features, run_features, check_features, lambda root: hashes(root / "out", "*.npy"), "out", 0.2
)


def run_train(root: Path) -> None:
    out = root / "run"
    train(training_data.small_config(epochs=3), root / "data", out, resume=(out / "metrics.jsonl").exists())


def check_train(root: Path) -> None:
    run = root / "run"
    if (run / "state.pt").exists():
        read_state_file(run / "state.pt")
    for name in ("last", "best"):
        if (run / name).exists():
            read_checkpoint(run / name)


def result_of_training(root: Path) -> Result:
    state = read_state_file(root / "run" / "state.pt")
    lines = (root / "run" / "metrics.jsonl").read_text().splitlines()
    records = [{k: v for k, v in json.loads(line).items() if "seconds" not in k} for line in lines]
    weights = {name: hashlib.sha256(value.numpy().tobytes()).hexdigest() for name, value in state.weights.items()}
    return {"epoch": state.epoch, "weights": weights, "metrics": records}


TRAIN = Work(
    "train",
    lambda root: training_data.write_data_set(root / "data", n_videos=6),
    run_train,
    check_train,
    result_of_training,
    "run",
    0.1,
)


def run_export(root: Path) -> None:
    from stale_edge.exporting import export_checkpoint

    if not (root / "bundle").exists():
        export_checkpoint(root / "checkpoint", root / "bundle", formats=("onnx",), precisions=("fp32",))


def check_export(root: Path) -> None:
    if (root / "bundle").exists():
        verify_bundle(root / "bundle")


EXPORT = Work(
    "export",
    lambda root: exporting_case.save_checkpoint(root / "checkpoint", exporting_case.trained_model()),
    run_export,
    check_export,
    lambda root: hashes(root / "bundle", "*.onnx"),
    ".",
)

ALL = (CLASSES, DETECT, FEATURES, TRAIN)


def start(work: Work, root: Path, *, before: Callable[[], object] = lambda: None) -> int:
    """Run work in its own process; gives the process id. Exit code 1: it reported one error."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2) if os.environ.get("FAULTS_QUIET") else None
        before()
        work.run(root)
        code = 0
    except (StaleEdgeError, OSError) as error:
        (root / "error.txt").write_text(f"{error}") if os.access(root, os.W_OK) else None
        code = 1
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def end_of(pid: int) -> int:
    """Wait for a process; gives its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@contextlib.contextmanager
def prepared(work: Work) -> Iterator[Path]:
    """Make an empty folder with the inputs of some work."""
    with tempfile.TemporaryDirectory(prefix="faults.") as folder:
        root = Path(folder)
        work.prepare(root)
        yield root


def undisturbed(work: Work) -> tuple[Result, float]:
    """Run work to its end; gives its result and the seconds that it took."""
    with prepared(work) as root:
        began = time.perf_counter()
        assert end_of(start(work, root)) == 0, f"{work.name} fails undisturbed"
        return work.result(root), time.perf_counter() - began


def kill_once(work: Work, expected: Result, after_s: float) -> bool:
    """Kill work after some seconds, check, resume it to its end, compare; True if the kill came in time."""
    with prepared(work) as root:
        pid = start(work, root)
        time.sleep(after_s)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        struck = end_of(pid) == -signal.SIGKILL
        work.check(root)
        assert end_of(start(work, root)) == 0, f"{work.name} does not go on after a kill at {after_s:.4f} s"
        assert work.result(root) == expected, f"{work.name} differs after a kill at {after_s:.4f} s"
        assert not leftovers(root), f"{work.name} left {leftovers(root)} after a kill at {after_s:.4f} s"
        return struck


def kills(work: Work, n: int, rng: np.random.Generator) -> str:
    """Kill work n times at random moments."""
    expected, seconds = undisturbed(work)
    struck = sum(kill_once(work, expected, float(rng.uniform(0, seconds))) for _ in range(n))
    return f"{work.name}: {n} kills, {struck} while it ran ({seconds:.2f} s): nothing lost, nothing half"


def fill_disk(work: Work, limit_bytes: int) -> str:
    """Run work with a limit on file sizes, then without: the message names a file, and the work resumes."""
    expected, _ = undisturbed(work)
    with prepared(work) as root:

        def limit() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

        assert end_of(start(work, root, before=limit)) == 1, f"{work.name} does not notice a full disk"
        said = (root / "error.txt").read_text()
        assert os.strerror(errno.EFBIG) in said, said
        assert str(root) in said, f"{work.name}: the message names no file: {said}"
        work.check(root)
        assert end_of(start(work, root)) == 0
        assert work.result(root) == expected
        return f"{work.name}: full disk: {said.replace(str(root), '')}"


def fill_small_disk(work: Work, megabytes: float) -> str:
    """Like `fill_disk`, on a file system that is really full; needs the right to mount one."""
    with prepared(work) as root:
        disk = root / work.target
        disk.mkdir(exist_ok=True)
        options = ["mount", "-t", "tmpfs", "-o", f"size={int(megabytes * 1024)}k", "tmpfs", str(disk)]
        if subprocess.run(options, capture_output=True, check=False).returncode:
            return f"{work.name}: small disk: not tried, this user may not mount one"
        try:
            assert end_of(start(work, root)) == 1, f"{work.name} does not notice a full disk"
            said = (root / "error.txt").read_text()
            assert os.strerror(errno.ENOSPC) in said, said
            assert str(disk) in said, f"{work.name}: the message names no file: {said}"
            work.check(root)
        finally:
            subprocess.run(["umount", str(disk)], check=True)
        return f"{work.name}: small disk: {said.replace(str(root), '')}"


def read_only(work: Work) -> str:
    """Run work as a user without write permission: one message names the path, and nothing changes."""
    with prepared(work) as root:
        for path in [root, *root.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        before = hashes(root, "*")

        def give_up_rights() -> None:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setuid(65534)

        assert end_of(start(work, root, before=give_up_rights)) == 1, f"{work.name} does not notice a read-only folder"
        assert hashes(root, "*") == before
        for path in [root, *root.rglob("*")]:
            path.chmod(0o755)
        return f"{work.name}: read-only folder: refused, nothing changed"


def two_writers(n: int) -> str:
    """Let two processes repeatedly add classes to one bundle at once: no class is lost."""
    with tempfile.TemporaryDirectory(prefix="faults.") as folder:
        bundle = tiny.write(Path(folder) / "bundle")
        names = [[f"{who} {i}" for i in range(n)] for who in ("left", "right")]
        pids = []
        for mine in names:
            work = Work(
                "", str, lambda _, mine=mine: [add_classes(bundle, tiny.bank((m,))) for m in mine], str, dict, ""
            )
            pids.append(start(work, Path(folder)))
        assert [end_of(pid) for pid in pids] == [0, 0]
        assert sorted(list_classes(bundle)) == sorted([*tiny.NAMES, *names[0], *names[1]])
    return f"two writers: {2 * n} classes added at once, none lost"


def reader_while_writing(n: int) -> str:
    """Verify a bundle n times while another process rewrites it: no read is refused."""
    with tempfile.TemporaryDirectory(prefix="faults.") as folder:
        bundle = tiny.write(Path(folder) / "bundle")

        def rewrite(_: Path) -> None:
            for i in range(100_000):
                add_classes(bundle, tiny.bank((f"{i}",)))

        pid = start(Work("", str, rewrite, str, dict, ""), Path(folder))
        seen = {len(verify_bundle(bundle).class_bank) for _ in range(n)}
        os.kill(pid, signal.SIGKILL)
        end_of(pid)
        with contextlib.suppress(BusyError), writing(bundle):
            verify_bundle(bundle)
    assert len(seen) > 1, "nothing was rewritten while it was read"
    return f"reader while writing: {n} reads of {len(seen)} generations, none refused"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=40, help="kills in all, over all kinds of work")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--export", action="store_true", help="kill a real export too, five times; each takes seconds")
    parser.add_argument(
        "--quick", action="store_true", help="leave out the full disk and the read-only folder of train"
    )
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    for work in ALL:
        print(kills(work, max(1, round(arguments.kills * work.share)), rng), flush=True)
    if arguments.export:
        print(kills(EXPORT, 5, rng), flush=True)
    print(two_writers(20), reader_while_writing(200), sep="\n", flush=True)
    for work in ALL[: -1 if arguments.quick else None]:
        print(fill_disk(work, 300), read_only(work), sep="\n", flush=True)
    print(fill_small_disk(DETECT, 0.008), fill_small_disk(FEATURES, 0.012), sep="\n")


if __name__ == "__main__":
    if shutil.which("true") is None:
        sys.exit("the fault harness needs a POSIX system")
    main()
