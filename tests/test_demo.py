"""The demo's own decisions; the whole of it runs in CI, `stale-edge demo --scale 0.25`."""

from pathlib import Path

import pytest

from stale_edge.cli.demo import DemoArchitecture
from stale_edge.data import DataSet
from stale_edge.demo import feature_world
from stale_edge.demo.feature_demo import run_demo
from stale_edge.demo.feature_world import DEMO_ARCHITECTURES, make_data_set, training_config
from stale_edge.demo.stages import make_room
from stale_edge.errors import DataError
from stale_edge.model import build_model
from stale_edge.model.architectures import architecture_of


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
    with pytest.raises(ValueError, match="light, stale, actionformer, two-stage, weak; got 'release'"):
        run_demo(tmp_path / "out", architecture="release")


@pytest.mark.parametrize("architecture", [*DEMO_ARCHITECTURES, "linear"])
def test_every_detector_of_the_demo_can_be_built_for_its_data(world: DataSet, architecture: str) -> None:
    config = training_config(world, seed=3, architecture=architecture)
    seen = world.split("train.list")
    completed = architecture_of(config.model.architecture).complete(config, len(seen))
    build_model(completed.model)
    assert config.classes == str(world.root / "splits" / "train.list")
    assert config.train.seed == 3
    if architecture == "actionformer":  # it learns each class from its videos alone, so few videos are read more often
        n_steps = config.train.epochs * -(-len(world.videos("training")) // config.train.batch_size)
        assert n_steps >= feature_world.ACTIONFORMER_STEPS


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return make_data_set(tmp_path_factory.mktemp("world") / "data", seed=3, scale=0.05)
