"""Detectors whose losses count over a whole batch, on two processes that share it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import test_actionformer_training
import test_two_stage
import torch
from training_data import CHANNELS, write_data_set
from two_processes import TWO_PROCESSES, run_on_two

from stale_edge.config import Config, FeatureSpec, config_from_dict, to_dict
from stale_edge.data import write_feature_spec
from stale_edge.errors import ConfigError
from stale_edge.model.architectures import ARCHITECTURES
from stale_edge.training import train
from stale_edge.training.run_folder import RunFolder, read_state_file

EPOCHS = 2
TRAIN_BOTH = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from stale_edge.training import train
from test_training_processes import CONFIGS
for name, config in CONFIGS.items():
    train(config(), Path(sys.argv[1]), Path(sys.argv[2]) / name)
"""


def actionformer() -> Config:
    """Parts of whole videos with dropped paths, a weight average, and weights of the losses that follow the batch."""
    values = to_dict(test_actionformer_training.small_config(epochs=EPOCHS, validate_every=0))
    values["model"].update(drop_path=0.3, dropout=0.2)
    values["loss"]["offset_weight"] = None
    return config_from_dict(values, ARCHITECTURES)


def two_stage() -> Config:
    """Segments are classified in means over the batch."""
    values = to_dict(test_two_stage.config())
    values["train"].update(epochs=EPOCHS, warmup_epochs=1, batch_size=3, validate_every=0)
    return config_from_dict(values, ARCHITECTURES)


CONFIGS: dict[str, Callable[[], Config]] = {"actionformer": actionformer, "two-stage": two_stage}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_data_set(tmp_path_factory.mktemp("data") / "set")
    times = FeatureSpec(encoder="test", channels=CHANNELS, fps=10.0, stride=15, num_frames=10)
    write_feature_spec(root / "feature_spec.json", times)
    return root


@pytest.fixture(scope="module")
def shared(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of two processes: batches of 3, 3 and 2 videos, shares of unequal size, some filled up."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "both.py").write_text(TRAIN_BOTH)
    ran = run_on_two(folder / "both.py", [str(data), str(folder)])
    assert ran.returncode == 0, ran.stderr
    return folder


@pytest.mark.parametrize("name", list(CONFIGS))
def test_two_processes_give_the_result_of_one(data: Path, shared: Path, tmp_path: Path, name: str) -> None:
    torch.set_num_threads(1)
    train(CONFIGS[name](), data, tmp_path / "run")
    ours, theirs = (read_state_file(run / "state.pt").weights for run in (shared / name, tmp_path / "run"))
    assert ours.keys() == theirs.keys()
    assert any(key.endswith("normalizer") for key in theirs), "the count of positive points is compared too"
    for key, weight in theirs.items():
        torch.testing.assert_close(ours[key], weight, rtol=0, atol=TWO_PROCESSES, msg=lambda m, n=key: n + m)
    both = [RunFolder(run).read_metrics(up_to_epoch=EPOCHS) for run in (shared / name, tmp_path / "run")]
    for one, two in zip(*both, strict=True):
        for key in ("loss", "gradient_norm", *_terms(one)):
            assert two[key] == pytest.approx(one[key], abs=TWO_PROCESSES), key


def _terms(record: dict[str, Any]) -> set[str]:
    return record.keys() & {"classification", "offsets", "actionness"}


def test_weak_supervision_refuses_several_processes(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = {"architecture": "weak", "feature_channels": CHANNELS, "width": 16, "n_heads": 2}
    config = config_from_dict({"model": model, "train": {"device": "cpu"}}, ARCHITECTURES)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"in one process; torchrun started 2: start it without torchrun"):
        train(config, data, tmp_path / "run")
    assert not (tmp_path / "run").exists()
