"""Sources that are watched as they come, in a process of their own: one that blocks leaves its thread behind."""

from pathlib import Path

import own_process


def test_live_sources() -> None:
    own_process.run_cases(Path(__file__).with_name("live_cases.py"))
