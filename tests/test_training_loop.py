"""The training loop on a tiny data set: outputs, errors, and the same result after a kill."""

import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_data import CHANNELS, CLASSES, small_config, write_data_set
from two_processes import TWO_PROCESSES, run_on_two, run_python

from stale_edge.config import Config, FeatureSpec, config_from_dict, to_dict
from stale_edge.data import write_feature_spec
from stale_edge.errors import BusyError, ConfigError, DataError, FeatureContractError, TrainingError
from stale_edge.model import load_checkpoint, read_checkpoint, small_text_encoder
from stale_edge.model.architectures import ARCHITECTURES
from stale_edge.model.stale.objective import StaleObjective
from stale_edge.model.targets import BatchTargets
from stale_edge.runtime.evaluate import EvaluationSettings
from stale_edge.training import TorchLocalizer, evaluate_checkpoint, train
from stale_edge.training.batches import Batch, Share
from stale_edge.training.loop import _require_finite
from stale_edge.training.run_folder import RunFolder, read_state_file

TERMS = ("classification", "mask", "completeness", "consistency")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def banked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set whose class embeddings come from its class bank."""
    return write_data_set(tmp_path_factory.mktemp("banked"))


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with a text encoder."""
    root = write_data_set(tmp_path_factory.mktemp("encoded"))
    small_text_encoder(root / "text_encoder", dim=CHANNELS, hidden_dim=16, n_layers=1, n_heads=2)
    return root


def _with(config: Config, **changes: Any) -> Config:
    """Change settings: `model__text__encoder="none"` is model.text.encoder = "none"."""
    values = to_dict(config)
    for path, value in changes.items():
        section = values
        *tables, key = path.split("__")
        for table in tables:
            section = section[table]
        section[key] = value
    return config_from_dict(values, ARCHITECTURES)


def _state(run: Path) -> dict[str, Any]:
    return vars(read_state_file(run / "state.pt"))


def _assert_same_run(run: Path, undisturbed: Path) -> None:
    """Weights, optimizer, metrics (but for seconds) and checkpoints agree to the last bit."""
    ours, theirs = _state(run), _state(undisturbed)
    assert ours["epoch"] == theirs["epoch"]
    assert ours["weights"].keys() == theirs["weights"].keys()
    for name, weight in theirs["weights"].items():
        assert torch.equal(ours["weights"][name], weight), name
    for index, moments in theirs["optimizer"]["state"].items():
        assert torch.equal(ours["optimizer"]["state"][index]["exp_avg"], moments["exp_avg"])
    assert _metrics(run) == _metrics(undisturbed)
    for checkpoint in ("last", "best"):
        weights = [(folder / checkpoint / "model.safetensors").read_bytes() for folder in (run, undisturbed)]
        assert weights[0] == weights[1], checkpoint


def _metrics(run: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if not key.endswith("seconds")} for record in records]


@pytest.fixture(scope="module")
def undisturbed(encoded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    train(small_config(), encoded, out)
    return out


def test_a_run_writes_what_it_promises(encoded: Path, tmp_path: Path) -> None:
    calls: list[tuple[str, int, int, str]] = []
    result = train(small_config(), encoded, tmp_path / "run", progress=lambda *call: calls.append(call))
    records = _metrics(tmp_path / "run")
    assert [record["epoch"] for record in records] == [1, 2, 3]
    assert records[-1]["loss"] < records[0]["loss"]
    for record in records:
        assert record["loss"] == pytest.approx(sum(record[term] for term in TERMS), abs=1e-5)
        assert record["videos"] == 8
        assert 0 <= record["average_mAP"] <= 100
        assert 0 <= record["baseline_average_mAP"] <= 100
    assert result.epochs == 3
    assert result.average_mAP == max(record["average_mAP"] for record in records)
    assert records[result.best_epoch - 1]["average_mAP"] == result.average_mAP
    assert (tmp_path / "run" / "loss.png").read_bytes().startswith(b"\x89PNG")
    checkpoint = read_checkpoint(result.best)
    assert checkpoint.class_bank.names == CLASSES
    assert not load_checkpoint(result.last).training
    steps = [call for call in calls if call[0] == "train"]
    assert [call[1:3] for call in steps][:3] == [(3, 24), (6, 24), (8, 24)]
    assert all(term in steps[-1][3] for term in ("epoch 3/3", "loss", *TERMS))
    assert json.loads(json.dumps(result.to_json()))["best_epoch"] == result.best_epoch
    assert "best epoch" in result.summary()


def test_it_learns(banked: Path, tmp_path: Path) -> None:
    """Each class is one direction: a detector must get the training classes right, and beat chance by far."""
    result = train(small_config(epochs=40, validate_every=40, learning_rate=1e-2), banked, tmp_path / "run")
    assert result.records[-1]["classification"] < 0.5 * result.records[0]["classification"]
    report = evaluate_checkpoint(result.last, banked, settings=EvaluationSettings("training"))
    assert report.result.mAP[0] > 40
    assert any("class_bank.npz" in note for note in result.notes)


def test_the_gradient_is_clipped(banked: Path, tmp_path: Path) -> None:
    """Adam divides by the gradient's size plus 1e-8, so a gradient clipped far below that moves next to nothing."""
    moved = {}
    for clip in (1e-13, 1.0):
        weights = []
        for epochs in (1, 3):
            run = tmp_path / f"{clip}-{epochs}"
            train(small_config(epochs=epochs, gradient_clip=clip, weight_decay=0.0), banked, run)
            weights.append(_state(run)["weights"])
        first, later = weights
        moved[clip] = max(
            float((later[name] - first[name]).abs().max()) for name in first if first[name].is_floating_point()
        )
    assert moved[1e-13] < 1e-6
    assert moved[1.0] > 1e-3


def test_the_same_seed_gives_the_same_run_and_another_another(encoded: Path, undisturbed: Path, tmp_path: Path) -> None:
    train(small_config(), encoded, tmp_path / "again")
    _assert_same_run(tmp_path / "again", undisturbed)
    train(small_config(seed=1), encoded, tmp_path / "other")
    assert _metrics(tmp_path / "other") != _metrics(undisturbed)


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from stale_edge.training import train
from training_data import small_config

def kill_in_epoch_2(stage, done, total, note):
    if stage == "train" and done == 14:
        os.kill(os.getpid(), signal.SIGKILL)

train(small_config(), Path(sys.argv[1]), Path(sys.argv[2]), progress=kill_in_epoch_2)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_run_killed_within_an_epoch_resumes_to_the_same_weights(
    encoded: Path, undisturbed: Path, tmp_path: Path
) -> None:
    killed = run_python(["-c", KILLED, str(encoded), str(tmp_path / "run")])
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert _state(tmp_path / "run")["epoch"] == 1
    result = train(small_config(), encoded, tmp_path / "run", resume=True)
    _assert_same_run(tmp_path / "run", undisturbed)
    assert result.epochs == 3


class _Killed(BaseException):
    """Simulates a kill; nothing in the loop may catch it."""


@pytest.mark.parametrize(
    ("when", "moment"),
    [("after", "write_metrics"), ("after", "write_checkpoint"), ("before", "write_state"), ("after", "write_state")],
)
def test_a_kill_while_saving_changes_nothing(
    encoded: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, when: str
) -> None:
    """Kill the run around each write of the second epoch, whichever files are then ahead of the others."""
    from stale_edge.training import loop
    from stale_edge.training.run_folder import RunFolder

    owner: Any = loop if moment == "write_checkpoint" else RunFolder
    original: Callable[..., Any] = getattr(owner, moment)
    # In epoch 1 `last` and `best` are written: the third checkpoint is the first of epoch 2.
    calls = iter(range(1, 100))
    fatal = 3 if moment == "write_checkpoint" else 2

    def killed(*args: Any, **kwargs: Any) -> Any:
        if next(calls) != fatal:
            return original(*args, **kwargs)
        if when == "after":
            original(*args, **kwargs)
        raise _Killed

    monkeypatch.setattr(owner, moment, killed)
    with pytest.raises(_Killed):
        train(small_config(), encoded, tmp_path / "run")
    monkeypatch.undo()
    train(small_config(), encoded, tmp_path / "run", resume=True)
    _assert_same_run(tmp_path / "run", undisturbed)


def test_a_run_killed_in_its_first_epoch_starts_anew(encoded: Path, undisturbed: Path, tmp_path: Path) -> None:
    def kill(*_: Any) -> None:
        raise _Killed

    with pytest.raises(_Killed):
        train(small_config(), encoded, tmp_path / "run", progress=kill)
    train(small_config(), encoded, tmp_path / "run", resume=True)
    _assert_same_run(tmp_path / "run", undisturbed)


def test_a_finished_run_can_be_lengthened_but_not_changed(encoded: Path, undisturbed: Path, tmp_path: Path) -> None:
    train(small_config(epochs=2), encoded, tmp_path / "run")
    with pytest.raises(TrainingError, match=r"config\.train\.learning_rate was 0\.005, is 0\.01"):
        train(small_config(learning_rate=0.01), encoded, tmp_path / "run", resume=True)
    train(small_config(), encoded, tmp_path / "run", resume=True)
    assert _metrics(tmp_path / "run") == _metrics(undisturbed)
    before = (tmp_path / "run" / "state.pt").read_bytes()
    assert train(small_config(), encoded, tmp_path / "run", resume=True).epochs == 3
    assert (tmp_path / "run" / "state.pt").read_bytes() == before


def test_features_of_another_encoder_or_rate_do_not_go_on(encoded: Path, tmp_path: Path) -> None:
    data = shutil.copytree(encoded, tmp_path / "data")
    channels = small_config().model.feature_channels
    write_feature_spec(data / "feature_spec.json", FeatureSpec("one", channels, 16.0, 8))
    train(small_config(epochs=1), data, tmp_path / "run")
    for spec, said in (
        (FeatureSpec("other", channels, 16.0, 8), "feature_spec.encoder was 'one', is 'other'"),
        (FeatureSpec("one", channels, 8.0, 4), "feature_spec.fps was 16.0, is 8.0; feature_spec.stride was 8, is 4"),
    ):
        write_feature_spec(data / "feature_spec.json", spec)
        with pytest.raises(TrainingError, match=re.escape(said)):
            train(small_config(), data, tmp_path / "run", resume=True)


def test_a_folder_that_holds_something_is_not_overwritten(encoded: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(TrainingError, match="already holds files"):
        train(small_config(), encoded, tmp_path)
    with pytest.raises(TrainingError, match="a file"):
        train(small_config(), encoded, tmp_path / "notes.txt")


def test_a_state_with_a_changed_byte_is_not_resumed_from(undisturbed: Path, tmp_path: Path) -> None:
    content = bytearray((undisturbed / "state.pt").read_bytes())
    for place in np.random.default_rng(0).integers(0, len(content), 200):
        content[place] ^= 1
        (tmp_path / "state.pt").write_bytes(content)
        with pytest.raises(TrainingError, match=r"state\.pt: (the|not a readable) training state"):
            read_state_file(tmp_path / "state.pt")
        content[place] ^= 1


def test_the_state_of_an_older_version_is_read(undisturbed: Path, tmp_path: Path) -> None:
    state = _state(undisturbed)
    torch.save({"format": "stale-edge-run/1", **state}, tmp_path / "state.pt")
    old = _state(tmp_path)
    assert {key: old[key] for key in ("epoch", "identity")} == {key: state[key] for key in ("epoch", "identity")}


def test_two_processes_do_not_train_into_one_folder(encoded: Path, tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run").held(), pytest.raises(BusyError, match="is writing it"):
        train(small_config(epochs=1), encoded, tmp_path / "run")


@pytest.mark.parametrize("line", ["{", "7", '{"epoch": 2}', "\udcff"])
def test_damaged_metrics_are_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(line.encode("utf-8", "surrogateescape"))
    with pytest.raises(TrainingError, match=r"metrics\.jsonl: "):
        RunFolder(tmp_path).read_metrics(up_to_epoch=1)


def test_a_damaged_state_is_named(encoded: Path, tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(TrainingError, match=r"state\.pt: not a readable training state"):
        train(small_config(), encoded, tmp_path, resume=True)


TWO = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from stale_edge.training import train
from training_data import small_config
result = train(small_config(), Path(sys.argv[1]), Path(sys.argv[2]))
print(f"leads {result.leads}: {result.summary()}\\n", end="")
"""


def test_two_processes_give_the_result_of_one(encoded: Path, undisturbed: Path, tmp_path: Path) -> None:
    """With dropout on, and batches of 3, 3 and 2 videos: shares of unequal size, and one filled up."""
    script = tmp_path / "two.py"
    script.write_text(TWO)
    ran = run_on_two(script, [str(encoded), str(tmp_path / "run")])
    assert ran.returncode == 0, ran.stderr
    reports = sorted(line.partition(": ")[::2] for line in ran.stdout.splitlines() if line.startswith("leads"))
    assert [leads for leads, _ in reports] == ["leads False", "leads True"]
    assert reports[0][1] == reports[1][1], "both processes return what only the first one measured"
    ours, theirs = _state(tmp_path / "run"), _state(undisturbed)
    for name, weight in theirs["weights"].items():
        torch.testing.assert_close(
            ours["weights"][name], weight, rtol=0, atol=TWO_PROCESSES, msg=lambda m, n=name: n + m
        )
    for one, two in zip(_metrics(undisturbed), _metrics(tmp_path / "run"), strict=True):
        for key in ("loss", "gradient_norm", *TERMS):
            assert two[key] == pytest.approx(one[key], abs=TWO_PROCESSES), key
        assert two["videos"] == one["videos"]


def test_a_loss_that_is_not_finite_stops_with_the_videos_named() -> None:
    good, bad = torch.tensor([1.0, 2.0]), torch.tensor([1.0, float("nan")])
    share = Share((0, 1), (0, 1), (0.5, 0.5), 2)
    targets = BatchTargets(torch.zeros(2, 3), torch.zeros(2, 3, 3))
    batch = Batch(("video_a", "video_b"), torch.zeros(2, 3, 4), targets, torch.tensor([0.5, 0.5]), share)
    terms = dict.fromkeys(StaleObjective.terms, good)
    _require_finite(terms, batch, "epoch 1, step 2")
    with pytest.raises(TrainingError, match=r"epoch 1, step 2: the mask loss is not finite for video_b; the batch was"):
        _require_finite({**terms, "mask": bad}, batch, "epoch 1, step 2")


def test_a_run_that_diverges_stops(banked: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"not finite.*video_\d"):
        train(small_config(learning_rate=1e30, epochs=5), banked, tmp_path / "run")


def test_open_set_training_leaves_unseen_classes_out(banked: Path, tmp_path: Path) -> None:
    seen = tmp_path / "seen.list"
    seen.write_text("\n".join(CLASSES[1:]))
    unseen = tmp_path / "unseen.list"
    unseen.write_text(CLASSES[0])
    config = _with(small_config(epochs=1), classes=str(seen))
    result = train(config, banked, tmp_path / "run")
    assert read_checkpoint(result.last).class_bank.names == CLASSES[1:]
    assert any("show only classes not trained on" in note for note in result.notes)
    report = evaluate_checkpoint(result.last, banked, split=unseen)
    assert set(report.result.per_class) == {CLASSES[0]}
    assert {row["label"] for rows in report.predictions["results"].values() for row in rows} == {CLASSES[0]}


def test_free_embeddings_know_no_other_class(encoded: Path, tmp_path: Path) -> None:
    seen = tmp_path / "seen.list"
    seen.write_text("\n".join(CLASSES[:3]))
    config = _with(small_config(epochs=1), classes=str(seen), model__text__encoder="none")
    result = train(config, encoded, tmp_path / "run")
    report = evaluate_checkpoint(result.last, encoded)
    assert report.unknown_classes == (CLASSES[3],)
    assert report.result.per_class[CLASSES[3]] == 0


@pytest.mark.parametrize("encoder", ["frozen", "tuned"])
def test_what_of_the_text_encoder_is_trained(encoded: Path, tmp_path: Path, encoder: str) -> None:
    train(_with(small_config(epochs=1), model__text__encoder=encoder), encoded, tmp_path / "run")
    trained = read_checkpoint(tmp_path / "run" / "last").text_encoder
    fresh = small_text_encoder(tmp_path / "fresh", dim=CHANNELS, hidden_dim=16, n_layers=1, n_heads=2)
    assert trained is not None
    weights = {name: w for name, w in trained.state_dict().items() if name.startswith("tower")}
    changed = [name for name, w in fresh.state_dict().items() if name in weights and not torch.equal(weights[name], w)]
    assert bool(changed) == (encoder == "tuned")


def test_bf16_trains_on_a_cpu_and_fp16_is_refused(banked: Path, tmp_path: Path) -> None:
    exact = train(small_config(epochs=1), banked, tmp_path / "fp32")
    mixed = train(small_config(epochs=1, precision="bf16"), banked, tmp_path / "bf16")
    assert mixed.records[0]["loss"] != exact.records[0]["loss"]
    assert mixed.records[0]["loss"] == pytest.approx(exact.records[0]["loss"], rel=0.05)
    with pytest.raises(ConfigError, match="fp16 needs a CUDA device"):
        train(small_config(precision="fp16"), banked, tmp_path / "fp16")


@pytest.mark.parametrize("choice", ["cnn", "none", "ground-truth"])
def test_the_masks_of_table_4_train(banked: Path, tmp_path: Path, choice: str) -> None:
    result = train(_with(small_config(epochs=1), model__masking=choice), banked, tmp_path / "run")
    assert (result.average_mAP is None) == (choice == "ground-truth")


def test_workers_that_read_features_change_nothing(banked: Path, tmp_path: Path) -> None:
    train(small_config(epochs=1), banked, tmp_path / "none")
    train(small_config(epochs=1, workers=1), banked, tmp_path / "one")
    assert _metrics(tmp_path / "one") == _metrics(tmp_path / "none")


RELEASE = {"model__architecture": "release", "model__features__normalize": "none"}


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"model__feature_channels": 8}, ConfigError, "model.feature_channels=16"),
        ({"model__embed_dim": 8}, ConfigError, "model.embed_dim=16"),
        ({"model__text__encoder": "tuned"}, ConfigError, "needs a text encoder"),
        (
            {"model__architecture": "release", "model__features__normalize": "none", "model__temporal_scale": 7},
            ConfigError,
            "set both to the same number",
        ),
        ({"classes": "no/such.list"}, DataError, "no such split file"),
    ],
)
def test_settings_that_do_not_fit_say_what_to_do(
    banked: Path, tmp_path: Path, changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        train(_with(small_config(), **changes), banked, tmp_path / "run")


def test_a_list_of_videos_is_all_that_is_trained_on(banked: Path, tmp_path: Path) -> None:
    (tmp_path / "videos.list").write_text("video_3\nvideo_0\n")
    config = _with(small_config(epochs=1), videos=str(tmp_path / "videos.list"))
    assert train(config, banked, tmp_path / "run").records[0]["videos"] == 2
    (tmp_path / "videos.list").write_text("video_0\nvideo_2\n")  # video_2 is for validation
    with pytest.raises(DataError, match=r"1 of 2 videos are not in subset 'training' .*video_2"):
        train(config, banked, tmp_path / "other")


def test_without_validation_the_best_epoch_is_the_last(banked: Path, tmp_path: Path) -> None:
    result = train(small_config(epochs=2, validate_every=0), banked, tmp_path / "run")
    assert (result.best_epoch, result.average_mAP) == (2, None)
    assert "average_mAP" not in result.records[-1]


@pytest.mark.parametrize("broken", ["no features", "no actions"])
def test_a_validation_subset_that_cannot_be_scored_is_left_out(tmp_path: Path, broken: str) -> None:
    root = write_data_set(tmp_path / "data")
    document = json.loads((root / "annotations.json").read_text())
    for video, entry in document["database"].items():
        if entry["subset"] == "validation" and broken == "no actions":
            entry["annotations"] = []
        elif entry["subset"] == "validation":
            (root / "features" / f"{video}.npy").unlink()
    (root / "annotations.json").write_text(json.dumps(document))
    result = train(small_config(epochs=1), root, tmp_path / "run")
    assert result.average_mAP is None
    assert "no validation: no video of subset 'validation' has features" in result.summary()


def test_a_bad_feature_file_stops_before_the_first_step(tmp_path: Path) -> None:
    root = write_data_set(tmp_path / "data")
    features = np.load(root / "features" / "video_4.npy")
    features[2, 3] = np.nan
    np.save(root / "features" / "video_4.npy", features)
    steps: list[str] = []
    with pytest.raises(FeatureContractError, match=r"video_4\.npy.*finite"):
        train(small_config(), root, tmp_path / "run", progress=lambda stage, *_: steps.append(stage))
    assert "train" not in steps


def test_missing_features_are_said(tmp_path: Path) -> None:
    root = write_data_set(tmp_path / "data")
    (root / "features" / "video_4.npy").unlink()
    result = train(small_config(epochs=1), root, tmp_path / "run")
    assert result.records[0]["videos"] == 7
    assert any("1 of 8 training videos have no features (the first: video_4)" in note for note in result.notes)


def test_the_torch_localizer_keeps_the_mode_and_the_contract(banked: Path, undisturbed: Path) -> None:
    checkpoint = read_checkpoint(undisturbed / "last")
    checkpoint.model.train()
    localizer = TorchLocalizer.of(checkpoint)
    features = np.load(banked / "features" / "video_0.npy")
    outputs = localizer.forward(features)
    assert checkpoint.model.training
    assert {name: value.shape for name, value in outputs.items()} == {
        "class_logits": (5, len(features)), "masks": (len(features),) * 2, "foreground": (len(features),)
    }  # fmt: skip
    batched = localizer.forward(np.stack([features, features]))
    np.testing.assert_allclose(batched["masks"][1], outputs["masks"], atol=1e-5)
    detections = localizer.detect(features, duration_s=30.0, class_bank=CLASSES[1:3])
    assert {detection.label for detection in detections} <= set(CLASSES[1:3])
    with pytest.raises(FeatureContractError, match="16 channels"):
        localizer.detect(features[:, :5], duration_s=30.0)
    with pytest.raises(ValueError, match="duration_s"):
        localizer.detect(features, duration_s=0.0)
