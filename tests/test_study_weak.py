"""The study of weak supervision: its simulated videos have the two failures, and its table has every stage."""

from pathlib import Path

import numpy as np
import torch

from stale_edge.bundle import ClassBank
from stale_edge.data import open_data_set
from stale_edge.study import StudyOptions, run_study
from stale_edge.study.weak_data import simulate_two_encoders
from stale_edge.study.weak_supervision import FULL, LONGER, WeakSupervision


def test_one_encoder_sees_the_middle_of_actions_and_the_other_too_much(tmp_path: Path) -> None:
    data_set = simulate_two_encoders(tmp_path / "set", n_videos=30, seed=0)
    wide = open_data_set(tmp_path / "set", encoder="vlp")
    bank = ClassBank.load(tmp_path / "set" / "class_bank.npz")
    peaks, inside, before = [], [], []
    for video, entry in data_set.annotations.videos.items():
        narrow = np.linalg.norm(data_set.load(video), axis=1)
        for action in entry.actions:
            start, stop = int(action.start_s), int(action.end_s)
            middle = (start + stop) // 2
            peaks.append(narrow[middle] - narrow[[start, stop - 1]].mean())
            text = bank.embeddings[bank.names.index(action.label)]
            similar = wide.load(video) @ text
            inside.append(similar[start:stop].mean())
            before.append(similar[max(0, start - 2) : start].mean())
    assert np.mean(peaks) > 0.3
    assert np.mean(before) > 0.6 * np.mean(inside)


def test_every_stage_has_a_row(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    study = WeakSupervision(StudyOptions(tmp_path, scale=0.05, repeats=1, videos=9))
    summary = run_study(study, tmp_path)
    stages = [row["stage"] for row in summary.tables[0].rows]
    assert stages[0] == "warm-up"
    assert stages[-2:] == [LONGER, FULL]
    assert len(stages) == 9
    assert "ours" in summary.tables[0].caption
    assert "wanted: at least +3" in summary.notes[0]
    assert (tmp_path / "weak-supervision.png").is_file()
