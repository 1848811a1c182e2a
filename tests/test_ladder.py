"""A detector is better than the linear probe if it is so on seen and on unseen classes; a tie is not better."""

import pytest

from stale_edge.evaluation.ladder import Rung, shortfall

PROBE = Rung("linear", 60.0, 50.0)


@pytest.mark.parametrize(
    ("seen", "unseen", "named"),
    [(60.1, 50.1, ()), (60.0, 50.1, ("seen",)), (70.0, 49.0, ("unseen",)), (1.0, 2.0, ("seen", "unseen"))],
)
def test_it_must_beat_the_probe_on_both(seen: float, unseen: float, named: tuple[str, ...]) -> None:
    said = shortfall([Rung("training-free", 0.5, 0.5), PROBE, Rung("STALE", seen, unseen)])
    if not named:
        assert said is None
        return
    assert said is not None
    assert said.startswith("STALE does not beat the linear probe")
    assert ("on seen classes" in said, "on unseen classes" in said) == ("seen" in named, "unseen" in named)
    assert f"{seen if named[0] == 'seen' else unseen:.1f} against" in said


def test_a_detector_behind_the_one_without_training_says_so() -> None:
    said = shortfall([Rung("training-free", 12.3, 41.1), Rung("linear", 5.8, 4.6), Rung("light", 24.4, 14.0)])
    assert said is not None
    assert said.startswith("light does not beat the detector without training (14.0 against 41.1 on unseen classes,")
    both = shortfall([Rung("training-free", 30.0, 41.1), Rung("linear", 25.0, 4.6), Rung("light", 24.4, 14.0)])
    assert both is not None
    assert both.index("the linear probe") < both.index("the detector without training")


def test_a_ladder_without_a_probe_says_so() -> None:
    with pytest.raises(ValueError, match="needs a rung 'linear'; got STALE"):
        shortfall([Rung("STALE", 1.0, 1.0)])


def test_a_closed_vocabulary_is_compared_on_its_own_classes_alone() -> None:
    assert shortfall([PROBE, Rung("actionformer", 60.1, None)]) is None
    said = shortfall([PROBE, Rung("actionformer", 59.0, None)])
    assert said is not None
    assert "59.0 against 60.0 on seen classes" in said
    assert "unseen" not in said
