"""Output of commands: tables for people and JSON for programs, never both on one stream."""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

JsonOption = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Write the result as JSON to FILE; '-' is standard output."),
]


TiouOption = Annotated[str, typer.Option("--tiou", help="Thresholds: start:stop:step, or a list a,b,c.")]


def console(json_path: Path | None = None) -> "Console":
    """Return the console for people: standard output, or standard error when JSON takes standard output."""
    from rich.console import Console

    to_stderr = _is_stdout(json_path)
    stream = sys.stderr if to_stderr else sys.stdout
    # Without a terminal no width is given, and rich would wrap tables at 80 columns.
    # Output is data: a class named "[red]x" is printed unchanged.
    return Console(
        stderr=to_stderr, markup=False, highlight=False, soft_wrap=True, width=None if stream.isatty() else 120
    )


def write_json(result: Any, json_path: Path | None) -> None:
    """Write `result` to the file of `--json`, if given; a number that is not finite is an error."""
    if json_path is None:
        return
    text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    if _is_stdout(json_path):
        sys.stdout.write(text)
    else:
        write_bytes(json_path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all and make its folder. A pipe or a device is written to, not replaced."""
    from stale_edge.bundle.files import naming, write_file_atomically

    real = Path(os.path.realpath(path))
    real.parent.mkdir(parents=True, exist_ok=True)
    if real.exists() and not real.is_file():
        with naming(path):
            real.write_bytes(content)
    else:
        write_file_atomically(real, content)


def table(title: str, columns: list[str], rows: list[list[str]]) -> Any:
    """Build a table whose first column is left-aligned and whose others are right-aligned."""
    from rich import box
    from rich.table import Table

    built = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left")
    for index, column in enumerate(columns):
        built.add_column(column, justify="left" if index == 0 else "right", no_wrap=index == 0)
    for row in rows:
        built.add_row(*row)
    return built


def split_names(text: str) -> tuple[str, ...]:
    """Read the names of an option such as `--precisions fp32,int8`."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def thresholds(text: str) -> tuple[float, ...]:
    """Read the tIoU thresholds of `--tiou`; invalid text is wrong usage."""
    from stale_edge.evaluation import parse_thresholds

    try:
        return tuple(parse_thresholds(text))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--tiou") from error


@contextmanager
def progress_bar() -> Iterator["ProgressBars | ProgressLines"]:
    """Show progress on standard error: one bar per stage, or lines where it is no terminal."""
    if not sys.stderr.isatty():
        yield ProgressLines()
        return
    from rich import progress as rich_progress
    from rich.console import Console

    bar = rich_progress.Progress(
        rich_progress.TextColumn("{task.description}", markup=False),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TextColumn("{task.fields[note]}", markup=False),
        console=Console(stderr=True),
        transient=False,
    )
    try:
        yield ProgressBars(bar)
    finally:
        if bar.tasks:
            bar.stop()


class ProgressLines:
    """The `Progress` of the command line in logs and pipes: a line every `every_s` seconds and at a stage's end."""

    def __init__(self, every_s: float = 10.0) -> None:
        self._every_s = every_s
        self._started: dict[str, float] = {}
        self._last_s: dict[str, float] = {}

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        started = self._started.setdefault(stage, now)
        if done < total and now - self._last_s.setdefault(stage, started) < self._every_s:
            return
        self._last_s[stage] = now
        spent = now - started
        left = f", about {spent * (total - done) / done:.0f} s left" if 0 < done < total else ""
        text = f"{stage}: {done} of {total} in {spent:.0f} s{left}{f'  {note}' if note else ''}"
        sys.stderr.write(" ".join(text.splitlines()) + "\n")
        sys.stderr.flush()
        if done >= total:  # a later stage of this name begins anew
            del self._started[stage], self._last_s[stage]


class ProgressBars:
    """The `Progress` of the command line: one bar per stage."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._tasks: dict[str, Any] = {}

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        if not self._tasks:
            # Not earlier: without a stage it prints an empty line, and an early error must be one line.
            self._bar.start()
        if stage not in self._tasks:
            self._tasks[stage] = self._bar.add_task(stage, total=total, note=note)
        self._bar.update(self._tasks[stage], completed=done, total=total, note=note)


def _is_stdout(json_path: Path | None) -> bool:
    return json_path is not None and str(json_path) == "-"
