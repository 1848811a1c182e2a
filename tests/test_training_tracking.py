"""Epochs in an experiment tracker and in the standard logger."""

import json
import logging
import sys
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training_data import small_config, write_data_set

from stale_edge.training import train


def test_every_epoch_reaches_tracker_and_logger(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.set_num_threads(1)
    data, run = write_data_set(tmp_path / "data"), tmp_path / "run"
    with caplog.at_level(logging.INFO, logger="stale_edge"):
        train(small_config(epochs=2, tracker="tensorboard"), data, run)
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    events = EventAccumulator(str(run / "tracker")).Reload()
    for name in ("loss", "average_mAP", "learning_rate"):
        points = [(event.step, event.value) for event in events.Scalars(name)]
        assert points == [(record["epoch"], pytest.approx(record[name], rel=1e-6)) for record in records], name
    lines = [record.getMessage() for record in caplog.records if record.name == "stale_edge.training.loop"]
    assert sum(line.startswith(("epoch 1 of 2", "epoch 2 of 2")) for line in lines) == 2
    assert f"wrote {run / 'last'}" in lines


def test_a_tracker_is_finished_where_training_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished = []
    monkeypatch.setattr("accelerate.tracking.TensorBoardTracker.finish", lambda tracker: finished.append(tracker.name))
    monkeypatch.setattr("stale_edge.training.loop.track", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(small_config(epochs=1, tracker="tensorboard"), write_data_set(tmp_path / "data"), tmp_path / "run")
    assert finished == ["tensorboard"]


def test_a_missing_tracker_is_not_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ModuleNotFoundError, match="tensorboard"):
        train(small_config(epochs=1, tracker="tensorboard"), write_data_set(tmp_path / "data"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
