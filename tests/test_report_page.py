"""The page of detections, in a process of its own: beside all else that the suite loads, its process ended twice."""

from pathlib import Path

import own_process


def test_the_page() -> None:
    own_process.run_cases(Path(__file__).with_name("page_cases.py"), may_skip=True)
