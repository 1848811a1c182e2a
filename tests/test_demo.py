"""The demo's own decisions; the whole of it runs in CI, `stale-edge demo --scale 0.25`."""

from pathlib import Path

import pytest

from stale_edge.cli.demo import DemoArchitecture
from stale_edge.demo.feature_demo import run_demo
from stale_edge.demo.feature_world import DEMO_ARCHITECTURES
from stale_edge.demo.stages import make_room
from stale_edge.errors import DataError


def test_a_folder_that_is_no_demo_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match="holds no demo"):
        run_demo(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_file_is_no_folder_for_a_demo(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(DataError, match="holds no demo"):
        run_demo(tmp_path / "out")


def test_an_earlier_demo_is_replaced(tmp_path: Path) -> None:
    make_room(tmp_path / "demo")
    (tmp_path / "demo" / "report.html").write_text("old")
    make_room(tmp_path / "demo")
    assert [path.name for path in (tmp_path / "demo").iterdir()] == ["demo.started"]


def test_the_demo_trains_the_detectors_that_its_command_offers(tmp_path: Path) -> None:
    assert tuple(choice.value for choice in DemoArchitecture) == DEMO_ARCHITECTURES
    with pytest.raises(ValueError, match="light or stale; got 'actionformer'"):
        run_demo(tmp_path / "out", architecture="actionformer")
