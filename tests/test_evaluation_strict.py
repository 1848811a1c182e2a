"""The strict protocol: figures by hand, and a detector that finds what it should not."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from typer.testing import CliRunner

from stale_edge.bundle import ClassBank
from stale_edge.cli.app import app
from stale_edge.data import open_data_set
from stale_edge.errors import ClassBankError
from stale_edge.evaluation.zero_shot import ABSENT, NONSENSE, Asked, StrictReport, mean_and_deviation, strict_report
from stale_edge.report.reliability import reliability_figure
from stale_edge.runtime.evaluate import EvaluationSettings
from stale_edge.runtime.strict_protocol import evaluate_strictly
from stale_edge.segments import Detection
from tests.training_data import CLASSES, small_config, write_data_set

TRUTH = {
    "database": {
        "one": {"subset": "validation", "duration": 100.0, "annotations": [{"label": "run", "segment": [0, 10]}]},
        "two": {"subset": "validation", "duration": 100.0, "annotations": [{"label": "jump", "segment": [0, 10]}]},
    }
}
RUN, JUMP = ("run", 0, 10), ("jump", 0, 10)
ASKED = Asked(("run",), ("jump",), ("pole vault",), ("asdf",))


def _layout(**videos: list[tuple[str, float, float, float]]) -> dict[str, Any]:
    rows = {
        video: [{"label": label, "score": score, "segment": [start, end]} for label, start, end, score in found]
        for video, found in videos.items()
    }
    return {"results": rows}


def _report(mixed: dict[str, Any], with_nonsense: dict[str, Any] | None = None) -> StrictReport:
    return strict_report(
        TRUTH, mixed, mixed if with_nonsense is None else with_nonsense, asked=ASKED, hours=0.5, subset="validation",
        tiou_thresholds=[0.5],
    )  # fmt: skip


def test_seen_unseen_and_their_harmonic_mean() -> None:
    # "jump": a wrong detection above the right one halves its AP.
    mixed = _layout(one=[(*RUN, 0.9)], two=[(*JUMP, 0.6), ("jump", 50, 60, 0.8)])
    report = _report(mixed)
    assert (report.seen_average_mAP, report.unseen_average_mAP) == (100.0, 50.0)
    assert report.harmonic_mean == pytest.approx(2 * 100 * 50 / 150)


def test_alarms_count_at_the_score_of_the_highest_f1() -> None:
    found = [(*RUN, 0.9), ("pole vault", 20, 30, 0.7), ("pole vault", 40, 50, 0.59)]
    report = _report(_layout(one=found, two=[(*JUMP, 0.6), ("jump", 50, 60, 0.3)]))
    assert report.operating_score == 0.6  # both actions, nothing wrong
    assert report.false_alarms_per_hour == {"absent": 2.0, "nonsense": 0.0}  # one above 0.6, in half an hour


def test_nonsense_that_takes_the_score_of_an_action_is_seen() -> None:
    mixed = _layout(one=[(*RUN, 0.9)], two=[(*JUMP, 0.8)])
    stolen = _layout(one=[("asdf", 0, 10, 0.9)], two=[(*JUMP, 0.8)])
    report = _report(mixed, stolen)
    assert report.nonsense_lowers_by == 50.0
    assert report.false_alarms_per_hour["nonsense"] == 2.0
    assert _report(mixed).nonsense_lowers_by == 0.0


def test_reliability_by_hand() -> None:
    rows = [(*RUN, 0.95), ("run", 50, 60, 0.91), ("run", 70, 80, 0.15)]
    report = _report(_layout(one=rows, two=[(*JUMP, 1.0)]))
    top, low = report.reliability[9], report.reliability[1]
    assert (top.n, low.n) == (3, 1)
    assert top.right == pytest.approx(2 / 3)
    assert top.score == pytest.approx((0.95 + 0.91 + 1.0) / 3)
    assert low.right == 0.0
    expected = (3 * abs(top.score - 2 / 3) + 0.15) / 4
    assert report.expected_calibration_error == pytest.approx(expected)
    assert reliability_figure(report).startswith(b"\x89PNG")


def test_nothing_found_is_no_alarm() -> None:
    report = _report(_layout(one=[], two=[]))
    assert (report.seen_average_mAP, report.harmonic_mean, report.operating_score) == (0.0, 0.0, 1.0)
    assert report.false_alarms_per_hour == {"absent": 0.0, "nonsense": 0.0}


def test_mean_and_deviation_over_models() -> None:
    one = _report(_layout(one=[(*RUN, 0.9)], two=[(*JUMP, 0.6)]))
    other = _report(_layout(one=[(*RUN, 0.9)], two=[(*JUMP, 0.6), ("jump", 50, 60, 0.8)]))
    found = mean_and_deviation([one, other])
    assert found["unseen_average_mAP"]["mean"] == 75.0
    assert found["unseen_average_mAP"]["deviation"] == pytest.approx(np.std([100, 50], ddof=1))
    assert mean_and_deviation([one])["unseen_average_mAP"]["deviation"] is None


class _Everywhere:
    """Finds every name it is asked for, over the whole video."""

    def __init__(self) -> None:
        self.class_bank = tiny.bank()
        self.asked: list[tuple[str, ...]] = []

    def detect(self, features: Any, *, duration_s: float, class_bank: ClassBank) -> list[Detection]:
        del features
        self.asked.append(class_bank.names)
        return [Detection(name, 0.5, 0.0, duration_s) for name in class_bank.names]


def _world(root: Path, bank: ClassBank) -> Any:
    seen, unseen = bank.names[:2]
    (root / "features").mkdir(parents=True)
    database = {}
    for i, label in enumerate((seen, unseen)):
        np.save(root / "features" / f"v_{i}.npy", tiny.features())
        annotations = [{"label": label, "segment": [0, 10]}]
        database[f"v_{i}"] = {"duration": 10.0, "subset": "validation", "annotations": annotations}
    (root / "annotations.json").write_text(json.dumps({"version": "1", "taxonomy": [], "database": database}))
    return open_data_set(root)


def test_all_names_are_asked_for_together_and_what_cannot_be_embedded_is_named(tmp_path: Path) -> None:
    localizer = _Everywhere()
    bank = localizer.class_bank

    def encode(names: Any) -> ClassBank:
        if names == ["asdf"]:
            raise ClassBankError("cannot be read")
        return ClassBank(tuple(names), np.ones((1, bank.width), np.float32), bank.fingerprint)

    localizer_any: Any = localizer
    data_set = _world(tmp_path, bank)
    report = evaluate_strictly(localizer_any, data_set, seen=bank.names[:1], encode=encode)
    absent = set(ABSENT) - set(bank.names)
    assert set(localizer.asked[0]) == {*bank.names[:2], *absent}
    assert set(localizer.asked[1]) == {*localizer.asked[0], *NONSENSE} - {"asdf"}
    assert report.names["unseen"] == (bank.names[1],)
    assert report.notes == ("1 names could not be embedded and were not asked for: asdf",)
    hours = 20 / 3600
    assert report.false_alarms_per_hour == {
        "absent": pytest.approx(2 * len(absent) / hours), "nonsense": pytest.approx(2 * (len(NONSENSE) - 1) / hours),
    }  # fmt: skip
    with pytest.raises(ValueError, match="takes no external scores"):
        evaluate_strictly(localizer_any, data_set, seen=(), encode=encode, settings=EvaluationSettings(scores={}))


def test_the_command_on_a_checkpoint_without_a_text_encoder(tmp_path: Path) -> None:
    from stale_edge.training import train

    data = write_data_set(tmp_path / "data", n_videos=6)
    (tmp_path / "seen.list").write_text("\n".join(CLASSES[:3]))
    last = train(small_config(epochs=1), data, tmp_path / "run").last
    command = ["evaluate", str(last), "--data", str(data), "--protocol", "strict"]
    json_path, plot = tmp_path / "strict.json", tmp_path / "reliability.png"
    result = CliRunner().invoke(
        app,
        [*command, "--seen", str(tmp_path / "seen.list"), "--also", str(last), "--plot", str(plot),
         "--json", str(json_path)],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    written = json.loads(json_path.read_text())
    assert written["false_alarms_per_hour"] == {"absent": None, "nonsense": None}
    assert written["over_splits"]["seen_average_mAP"]["deviation"] == 0.0
    assert len(written["splits"]) == 2
    assert "could not be embedded" in result.output
    assert plot.is_file()
    assert CliRunner().invoke(app, [*command, "--scores", str(json_path)]).exit_code == 2
    assert CliRunner().invoke(app, [*command[:-2], "--plot", str(plot)]).exit_code == 2
