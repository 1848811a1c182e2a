"""Many inputs through Ray Data, in a process of their own: Ray ends a driver whose cluster goes away under it."""

from pathlib import Path

import own_process
import pytest


@pytest.mark.slow
def test_many_inputs_through_ray() -> None:
    own_process.run_cases(Path(__file__).with_name("ray_cases.py"))
