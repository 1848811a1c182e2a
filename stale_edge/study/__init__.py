"""The experiments of the thesis and of the STALE paper, each with the published figures beside its own.

A study is one module with one class that fits the protocol `Study` (`study.py`): `name`, `plan` lists its runs,
`execute` makes one and gives JSON values, `summarise` makes tables and plots of them. All else is shared: `run_study`
resumes, keeps one JSON file a run and writes `table.md`, `summary.json`, PNG and SVG. To add one:

1. `stale_edge/study/<name>.py`: a class built from `StudyOptions` and settings of its own. A run's `parameters` hold
   everything that decides its result. `options.count(default, full)` and `options.n_repeats` scale videos, repeats
   and epochs; without `--scale` the whole takes at most half an hour on two cores. `world.py` opens or simulates data,
   chooses settings, and `describe_features` says for every caption whether features are real or simulated.
2. `published.py`: the figures of the papers, each with where it stands. No figure that is not printed there.
3. `stale_edge/cli/studying.py`: a function with the shared options and those of the study.
4. `tests/test_study_<name>.py`: its own decisions in milliseconds; `.ci/run` makes it once with a small `--scale`.
"""

from stale_edge.study.runner import run_study
from stale_edge.study.study import (
    Column,
    FinishedRun,
    Plot,
    Run,
    Spread,
    Study,
    StudyOptions,
    Summary,
    Table,
    spread,
)

__all__ = [
    "Column",
    "FinishedRun",
    "Plot",
    "Run",
    "Spread",
    "Study",
    "StudyOptions",
    "Summary",
    "Table",
    "run_study",
    "spread",
]
