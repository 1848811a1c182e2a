"""Settings that follow the data, what a run says at its end, and which folders a run goes on in."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from stale_edge.config import FeaturesConfig, ModelConfig, TrainConfig, load_config
from stale_edge.errors import ConfigError, TrainingError
from stale_edge.model.architectures import ARCHITECTURES, LEAST_STEPS
from stale_edge.training import train
from stale_edge.training.chosen import LEAST_EPOCHS, describe_chosen, follow_data
from stale_edge.training.ending import ending_warnings
from stale_edge.training.run_folder import RunFolder, RunState, read_state_file
from tests.training_data import small_config, write_data_set


@pytest.mark.parametrize("n_videos", [1, 2, 7, 8, 9, 42, 560, 800, 2_000, 10_024, 100_000])
def test_settings_follow_the_videos(n_videos: int) -> None:
    chosen = follow_data(TrainConfig(), n_videos, least_steps=LEAST_STEPS)
    steps = chosen.epochs * -(-n_videos // chosen.batch_size)
    assert steps >= LEAST_STEPS
    assert chosen.epochs >= LEAST_EPOCHS
    assert 8 <= chosen.batch_size <= 100
    assert chosen.learning_rate > 0


def test_light_takes_more_steps_where_videos_are_few() -> None:
    least = ARCHITECTURES["light"].least_steps
    few, many = (follow_data(TrainConfig(), n_videos, least_steps=least) for n_videos in (42, 10_024))
    assert few.epochs * -(-42 // few.batch_size) >= least > LEAST_STEPS
    assert many == follow_data(TrainConfig(), 10_024, least_steps=LEAST_STEPS)


def test_activitynet_has_the_settings_of_the_paper() -> None:
    chosen = follow_data(TrainConfig(), 10_024, least_steps=LEAST_STEPS)
    assert (chosen.epochs, chosen.batch_size, chosen.learning_rate) == (15, 100, 1e-4)


def test_what_is_set_stays_and_what_a_run_had_is_kept() -> None:
    mine = TrainConfig(epochs=2, batch_size=50, learning_rate=0.5)
    assert follow_data(mine, 42, least_steps=LEAST_STEPS) == mine
    assert describe_chosen(mine, mine, 42) == ""
    resumed = follow_data(
        TrainConfig(epochs=9),
        42,
        least_steps=LEAST_STEPS,
        before={"epochs": 3, "batch_size": 100, "learning_rate": 2e-4},
    )
    assert (resumed.epochs, resumed.batch_size, resumed.learning_rate) == (9, 100, 2e-4)


def test_the_line_names_what_was_chosen() -> None:
    before = TrainConfig(learning_rate=1e-3)
    text = describe_chosen(before, follow_data(before, 42, least_steps=LEAST_STEPS), 42)
    assert re.fullmatch(r"chosen for 42 training videos: train\.epochs=\d+, train\.batch_size=8 \(\d+ steps\)", text)


@pytest.mark.parametrize("value", ["train.epochs=-1", "train.batch_size=-1", "train.learning_rate=-1.0"])
def test_numbers_below_0_are_refused(value: str) -> None:
    with pytest.raises(ConfigError, match="or 0: it follows the data"):
        load_config(None, [value], architectures=ARCHITECTURES)


def _records(values: list[float | None]) -> Any:
    return [{"epoch": i + 1, "average_mAP": value, "baseline_average_mAP": 11.0} for i, value in enumerate(values)]


RESUMED = "; train longer: stale-edge train 'my run' --data data --out 'my run' --set train.epochs={} --resume"


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([], None),
        (_records([0.0, 0.0, 0.0]), "average mAP of 0.00 %, below the baseline without training (11.00 %)"),
        (_records([12.0, 20.0, 30.0]), "average mAP was still climbing when the run ended (from 20.00 to 30.00 %)"),
        (_records([30.0, 30.2, 30.4]), None),  # less than a point
        (_records([40.0, 30.0, 20.0]), None),  # falls
        (_records([30.0]), None),  # one epoch has no part before it
        (_records([None, None]), None),  # nothing was validated
        (_records([None, 50.0]), None),  # one validation is no series
    ],
)  # fmt: skip
def test_the_end_of_a_run(records: Any, said: str | None) -> None:
    found = ending_warnings(records, run=Path("my run"), data=Path("data"), lengthens=True)
    if said is None:
        assert found == ()
    else:
        assert said in found[0]
        assert found[0].endswith(RESUMED.format(2 * len(records)))


def test_a_cosine_starts_anew_in_another_folder() -> None:
    found = ending_warnings(_records([1.0]), run=Path("run"), data=Path("data"), lengthens=False)
    assert found[0].endswith("stale-edge train run --data data --out run-longer --set train.epochs=2")


def test_a_run_says_what_it_chose_and_its_config_is_that_of_the_next(tmp_path: Path) -> None:
    data = write_data_set(tmp_path / "data", n_videos=6)
    said: list[str] = []
    config = small_config(epochs=1, batch_size=0)
    train(config, data, tmp_path / "run", announce=said.append)
    assert said == ["chosen for 4 training videos: train.batch_size=8 (1 steps)"]
    again = load_config(tmp_path / "run", architectures=ARCHITECTURES)
    assert (again.train.epochs, again.train.batch_size) == (1, 8)
    longer = load_config(tmp_path / "run", ["train.epochs=2"], architectures=ARCHITECTURES)
    assert train(longer, data, tmp_path / "run", resume=True).epochs == 2


def test_a_run_without_its_state_is_not_overwritten(tmp_path: Path) -> None:
    data = write_data_set(tmp_path / "data", n_videos=6)
    train(small_config(epochs=1), data, tmp_path / "run")
    (tmp_path / "run" / "state.pt").unlink()
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(TrainingError, match=r"has files but no state\.pt to go on from; --resume would start over"):
        train(small_config(epochs=1), data, tmp_path / "run", resume=True)
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(TrainingError, match="has files but no"):
        train(small_config(epochs=1), data, tmp_path / "other", resume=True)


def test_a_run_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    """Its state does not name optimizer, schedule, average, normalisation, rescoring; what it did is neutral."""
    data = write_data_set(tmp_path / "data", n_videos=6)
    config = small_config(epochs=1)
    assert isinstance(config.model, ModelConfig)
    config = replace(config, model=replace(config.model, features=FeaturesConfig(normalize="data-mean")))
    train(config, data, tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "new")
    state = read_state_file(tmp_path / "run" / "state.pt")
    for key in ("optimizer", "schedule", "warmup_epochs", "average_decay"):
        del state.identity["config"]["train"][key]
    for key in ("features", "feature_dropout", "rescoring"):
        del state.identity["config"]["model"][key]
    RunFolder(tmp_path / "run").write_state(RunState(**vars(state)))
    longer = replace(config, train=replace(config.train, epochs=2))
    for run in ("run", "new"):
        train(longer, data, tmp_path / run, resume=True)
    old, new = (read_state_file(tmp_path / run / "state.pt").weights for run in ("run", "new"))
    assert all(torch.equal(old[name], new[name]) for name in new)
    changed = replace(longer, train=replace(longer.train, optimizer="adamw", epochs=3))
    with pytest.raises(TrainingError, match=r"config\.train\.optimizer was 'adam', is 'adamw'"):
        train(changed, data, tmp_path / "run", resume=True)


def test_a_run_without_a_named_architecture_says_that_it_is_stale(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from stale_edge.cli.app import app
    from stale_edge.cli.training import DEFAULT_IS_STALE

    data = write_data_set(tmp_path / "data")
    sizes = ["model.feature_channels=16", "model.embed_dim=16", "train.epochs=1", "train.n_snippets=8"]
    wanted = [("default", [], True), ("linear", ["--arch", "linear"], False)]
    for name, chosen, said in wanted:
        arguments = ["train", "--data", str(data), "--out", str(tmp_path / name), *chosen]
        result = CliRunner().invoke(app, [*arguments, *(f"--set={text}" for text in sizes)])
        assert result.exit_code == 0, result.output
        assert (DEFAULT_IS_STALE.split("--arch")[0] in " ".join(result.output.split())) == said
