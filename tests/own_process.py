"""Run a file of cases in a process of its own; the file is no `test_*.py`, so nothing else collects it."""

import os
import subprocess
import sys
from pathlib import Path


def run_cases(cases: Path, *, may_skip: bool = False) -> None:
    """Run pytest on a file and fail with what it printed; unless `may_skip`, a skipped case counts as a failure."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(cases)]
    done = subprocess.run(
        command, cwd=cases.parent.parent, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert " passed" in done.stdout
    assert may_skip or "skipped" not in done.stdout
