"""Make the missing runs of a study, then write its summary."""

import shutil
import time
from pathlib import Path

from stale_edge.errors import DataError
from stale_edge.progress import Progress, silent
from stale_edge.study.results import write_summary
from stale_edge.study.run_files import RunFiles
from stale_edge.study.study import FinishedRun, Study, Summary

RUNS_FOLDER = "runs"
WORK_FOLDER = "work"


def run_study(study: Study, out: Path, *, progress: Progress = silent) -> Summary:
    """Run a study, continuing where an earlier call stopped.

    `out` holds `runs/<key>.json`, one a run, `work/<key>/` of the run that is being made, and in the end `table.md`,
    `summary.json` and the plots. A run whose file is there and was made with the same parameters is not made again.

    Args:
        study: see `stale_edge.study`.
        out: the folder; an empty one, a new one, or one of an earlier call.
        progress: called with ("study", runs done, runs, note) and by the steps of a run.

    Raises:
        DataError: a file in `out` was made with other settings; nothing is overwritten.
        StaleEdgeError: from a run; the runs before it are kept.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: a study needs a folder, and this is a file")
    out.mkdir(parents=True, exist_ok=True)
    runs = tuple(study.plan(progress))
    files = RunFiles(out / RUNS_FOLDER, study=study.name)
    files.require_distinct(runs)
    # All files are read before any run: a mismatch is reported at once, not after an hour.
    finished = {run.key: done for run in runs if (done := files.read(run)) is not None}
    to_make = [run for run in runs if run.key not in finished]
    spent_s = 0.0
    for made, run in enumerate(to_make):
        note = f"{run.key}{_time_left(spent_s, made, len(to_make))}"
        progress("study", len(runs) - len(to_make) + made, len(runs), note)
        scratch = out / WORK_FOLDER / run.key
        scratch.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        result = study.execute(run, scratch=scratch, progress=progress)
        done = FinishedRun(run, result, time.monotonic() - started)
        files.write(done)
        shutil.rmtree(scratch)
        finished[run.key] = done
        spent_s += done.seconds
    progress("study", len(runs), len(runs), "")
    if (out / WORK_FOLDER).is_dir() and not any((out / WORK_FOLDER).iterdir()):
        (out / WORK_FOLDER).rmdir()
    summary = study.summarise([finished[run.key] for run in runs])
    write_summary(out, study.name, summary)
    return summary


def _time_left(spent_s: float, made: int, n_runs: int) -> str:
    if not made:
        return ""
    return f", about {spent_s / made * (n_runs - made) / 60:.0f} min left"
