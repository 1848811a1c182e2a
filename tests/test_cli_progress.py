"""Progress in logs: lines in place of bars."""

import pytest

from stale_edge.cli.output import ProgressLines, progress_bar


def test_lines_at_intervals_and_at_the_end_of_a_stage(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter((0.0, 4.0, 12.0, 15.0, 40.0, 100.0, 102.0))
    monkeypatch.setattr("stale_edge.cli.output.time.monotonic", lambda: next(clock))
    show = ProgressLines(every_s=10)
    for done in (0, 1, 3, 4, 10):
        show("train", done, 10, f"epoch {done}/10\nloss 1.5")
    assert capsys.readouterr().err.splitlines() == [
        "train: 3 of 10 in 12 s, about 28 s left  epoch 3/10 loss 1.5",
        "train: 10 of 10 in 40 s  epoch 10/10 loss 1.5",
    ]
    for done in (0, 2):
        show("train", done, 2)
    assert capsys.readouterr().err == "train: 2 of 2 in 2 s\n", "a later stage of the same name begins anew"


def test_a_pipe_gets_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar() as progress:
        progress("detect", 2, 2)
    assert capsys.readouterr().err == "detect: 2 of 2 in 0 s\n"
