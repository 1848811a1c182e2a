"""Install, build and test the programs of this folder, and print one table: `runtimes.py [FOLDER...]`.

README.md describes `runtime.toml` and the variables that its lines see. Needs nothing but Python; the golden files are
made by `golden.py` with the Python that runs this, which must have the package and its development tools.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

EXPORT = Path(__file__).resolve().parent
ROOT = EXPORT.parent
WORK = ROOT / "build" / "runtimes"
LINE_TIMEOUT_S = 600
REQUIRED = ("title", "test", "version", "size")


class NotRunError(Exception):
    """A runtime cannot be had here; the message says why."""


class FailedError(Exception):
    """A runtime was there and did not do what it must; the message says what."""


@dataclass(frozen=True)
class Runtime:
    """One folder's `runtime.toml`."""

    folder: str
    title: str
    test: tuple[str, ...]
    version: str
    size: tuple[str, ...]
    optional: bool = False
    apt: tuple[str, ...] = ()
    python: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    install: tuple[str, ...] = ()
    build: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path) -> "Runtime":
        """Read `runtime.toml`; a missing or unknown key ends the program with one line."""
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        missing = [key for key in REQUIRED if key not in values]
        unknown = sorted(set(values) - set(cls.__dataclass_fields__) | (set(values) & {"folder"}))
        if missing or unknown:
            raise SystemExit(f"{path}: missing {missing}, unknown {unknown}")
        plain = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        return cls(folder=path.parent.name, **plain)

    @property
    def work(self) -> Path:
        """Where it builds."""
        return WORK / self.folder


@dataclass
class Row:
    """What became of a runtime; `outcome` is empty when all is well."""

    runtime: Runtime
    outcome: str = ""
    version: str = "-"
    parity: str = "-"
    milliseconds: dict[str, float] = field(default_factory=dict)
    size_bytes: int | None = None
    seconds: float = 0.0

    @property
    def counts(self) -> bool:
        """Whether this row makes the whole fail."""
        return bool(self.outcome) and not (self.runtime.optional and self.outcome.startswith("not run"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", help="only these; all if none is given")
    chosen = parser.parse_args().folders
    runtimes = [Runtime.read(path) for path in sorted(EXPORT.glob("*/runtime.toml"))]
    unknown = sorted(set(chosen) - {runtime.folder for runtime in runtimes})
    if unknown:
        raise SystemExit(f"no runtime is called {', '.join(unknown)}: {', '.join(r.folder for r in runtimes)}")
    runtimes = [runtime for runtime in runtimes if not chosen or runtime.folder in chosen]
    start = time.monotonic()
    WORK.mkdir(parents=True, exist_ok=True)
    install_packages({package for runtime in runtimes for package in runtime.apt})  # at once, which is quick
    make("golden", "cases.json")
    make("bench", "bench.json", "--bench")
    rows = [run(runtime) for runtime in runtimes]
    print(table(rows, time.monotonic() - start))
    return 1 if any(row.counts for row in rows) else 0


def make(name: str, last: str, *options: str) -> None:
    """Make golden files or the bundle of full size, unless those there are younger than what they come from.

    `last` is the file that is written when all others are there.
    """
    done = WORK / name / last
    sources = [*(ROOT / "stale_edge").rglob("*.py"), *EXPORT.glob("*.py"), ROOT / "tests" / "exporting_case.py"]
    if done.exists() and done.stat().st_mtime > max(path.stat().st_mtime for path in sources):
        return
    say(f"{name}: making it")
    subprocess.run([sys.executable, str(EXPORT / "golden.py"), *options, str(WORK / name)], check=True)


def install_packages(packages: set[str]) -> str:
    """Install Debian packages that are missing; say what stands in the way, or nothing."""
    missing = sorted(package for package in packages if not is_installed(package))
    if not missing:
        return ""
    names = " ".join(missing)
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if shutil.which("apt-get") is None or (prefix and shutil.which("sudo") is None):
        return f"no apt-get, or neither root nor sudo, to install {names}"
    say(f"apt-get install {names}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    log = WORK / "apt.txt"
    with log.open("a", encoding="utf-8") as out:
        for command in (["update"], ["install", "--yes", "--no-install-recommends", *missing]):
            apt = [*prefix, "apt-get", "--quiet", *command]
            if subprocess.run(apt, env=environment, stdout=out, stderr=out, check=False).returncode != 0:
                return f"apt-get {command[0]} failed for {names} ({log})"
    return ""


def is_installed(package: str) -> bool:
    """Ask dpkg for a package, whatever its architecture."""
    if shutil.which("dpkg-query") is None:
        return False
    query = ["dpkg-query", "--show", "--showformat", "${db:Status-Status}\n", package]
    return "installed" in subprocess.run(query, capture_output=True, text=True, check=False).stdout.split()


def run(runtime: Runtime) -> Row:
    """Install, build and test one runtime."""
    row = Row(runtime)
    start = time.monotonic()
    runtime.work.mkdir(parents=True, exist_ok=True)
    result_path = runtime.work / "result.json"
    result_path.unlink(missing_ok=True)
    (runtime.work / "log.txt").unlink(missing_ok=True)
    try:
        check_requirements(runtime)
        try:
            run_lines(runtime, "install", runtime.install)
        except FailedError as problem:
            raise NotRunError(str(problem)) from problem
        run_lines(runtime, "build", runtime.build)
        run_lines(runtime, "test", runtime.test)
        if not result_path.is_file():
            raise FailedError("its test did not write $RESULT")
        result = json.loads(result_path.read_text(encoding="utf-8"))
        row.parity, row.milliseconds = result["parity"], result["milliseconds"]
        row.version = run_lines(runtime, "version", [runtime.version]).strip().splitlines()[-1]
        row.size_bytes = size_of(runtime)
    except NotRunError as problem:
        row.outcome = f"not run: {problem}"
    except FailedError as problem:
        row.outcome = f"FAILED: {problem}"
    row.seconds = time.monotonic() - start
    say(f"{runtime.folder}: {row.outcome or 'passed'} ({row.seconds:.0f} s)")
    return row


def check_requirements(runtime: Runtime) -> None:
    """Raise NotRunError when a package, a Python module or a program that the runtime needs cannot be had."""
    problem = install_packages(set(runtime.apt))  # again, alone: one unknown package keeps apt-get from all others
    if problem:
        raise NotRunError(problem)
    modules = [name for name in runtime.python if not has_module(name)]
    if modules:
        raise NotRunError(f"{sys.executable} has no {', '.join(modules)}")
    programs = [name for name in runtime.requires if shutil.which(name) is None]
    if programs:
        raise NotRunError(f"{', '.join(programs)} is not on PATH")


def has_module(name: str) -> bool:
    """Ask the Python that runs this."""
    return subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True, check=False).returncode == 0


def run_lines(runtime: Runtime, stage: str, lines: Sequence[str]) -> str:
    """Run lines in the runtime's folder, log them, and return what they printed.

    Raises:
        FailedError: a line failed; its last words are quoted.
    """
    printed = ""
    for line in lines:
        try:
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", line],
                cwd=EXPORT / runtime.folder,
                env=environment(runtime),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=LINE_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as problem:
            raise FailedError(f"{stage}: more than {LINE_TIMEOUT_S} s: {line}") from problem
        with (runtime.work / "log.txt").open("a", encoding="utf-8") as log:
            log.write(f"+ {line}\n{done.stdout}")
        if done.returncode != 0:
            said = [text for text in done.stdout.splitlines() if text.strip()] or [f"exit code {done.returncode}"]
            failed = [text for text in said if re.match(r"FAILED|error:|fatal", text, re.IGNORECASE)]
            raise FailedError(f"{stage}: {(failed or said)[-1].strip()[:300]} ({runtime.work / 'log.txt'})")
        printed += done.stdout
    return printed


def environment(runtime: Runtime) -> dict[str, str]:
    """Give the variables of README.md; tools of the Python environment, such as CMake, come first on PATH."""
    tools = WORK / "tools"
    tools.mkdir(parents=True, exist_ok=True)
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "ROOT": str(ROOT),
        "EXPORT": str(EXPORT),
        "BUILD": str(runtime.work),
        "TOOLS": str(tools),
        "GOLDEN": str(WORK / "golden"),
        "BENCH": str(WORK / "bench"),
        "RESULT": str(runtime.work / "result.json"),
    }


def size_of(runtime: Runtime) -> int:
    """Sum what is shipped beside the bundle.

    Raises:
        FailedError: a pattern finds nothing.
    """
    total = 0
    for pattern in runtime.size:
        found = run_lines(runtime, "size", [f"ls -d -- {pattern}"]).split("\n")
        paths = [EXPORT / runtime.folder / name for name in found if name]
        total += sum(file.stat().st_size for path in paths for file in files_at(path))
    return total


def files_at(path: Path) -> Iterator[Path]:
    """List a file, or the files below a folder."""
    if path.is_dir():
        yield from (file for file in path.rglob("*") if file.is_file() and not file.is_symlink())
    else:
        yield path


def table(rows: Sequence[Row], seconds: float) -> str:
    """Lay out the table, a line for each precision, and below it what it was measured on."""
    cells = [("runtime", "version", "parity", "ms at T = 200", "size")]
    for row in rows:
        if row.outcome:
            continue
        columns = (
            [row.runtime.title],
            row.version.split(", "),
            row.parity.split("; "),
            [f"{name} {value:.3g}" for name, value in row.milliseconds.items()],
            [readable(row.size_bytes or 0)],
        )
        cells += zip_longest(*columns, fillvalue="")
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(cell, widths, strict=True)).rstrip() for cell in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    optional = {True: " (optional)", False: ""}
    lines += [f"{row.runtime.title}{optional[row.runtime.optional]}: {row.outcome}" for row in rows if row.outcome]
    bench = json.loads((WORK / "bench" / "bench.json").read_text(encoding="utf-8"))
    passed = sum(not row.outcome for row in rows)
    failed = ", ".join(row.runtime.folder for row in rows if row.counts)
    verdict = f"{passed} of {len(rows)} passed in {seconds:.0f} s"
    return "\n".join(
        [
            "",
            *lines,
            "",
            f"Milliseconds: features in memory to detections, median of 20 on one thread; {bench['network']}.",
            "Decode: class logits and masks to detections, 200 classes. Size: what is shipped beside the bundle.",
            f"{verdict}; these must, and did not: {failed}" if failed else verdict,
        ]
    )


def readable(size: int) -> str:
    """Write bytes as people do."""
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
