"""The fault harness, a few kills of it; `python -m tests.faults --kills 200` does more."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="the harness forks")
def test_nothing_is_lost_and_nothing_is_half() -> None:
    command = [sys.executable, "-m", "tests.faults", "--kills", "10", "--quick"]
    ran = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent.parent, timeout=600
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("nothing lost, nothing half") == 4
    faults = ("file size limit: ", "full disk: ", "read-only folder: refused", "two at once: ", "reads while it worked")
    for fault in faults:
        assert ran.stdout.count(fault) == 2, fault
