"""`stale-edge import` of a checkpoint of the public ActionFormer program."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from actionformer_cases import made_up_weights, public_config
from conftest import Run

from stale_edge.errors import CheckpointError, ConfigError
from stale_edge.model import load_checkpoint, read_checkpoint
from stale_edge.model.actionformer.public_import import import_actionformer
from stale_edge.model.actionformer.public_settings import load_public_settings, read_public_settings
from stale_edge.model.stale.release_import import import_release


def public_file(golden: Path, path: Path, *, case: str = "small", **changes: Any) -> Path:
    """Write what the public program saves after an epoch: raw weights that are wrong, their average that is right."""
    arrays = np.load(golden / f"actionformer_{case}.npz")
    network = read_public_settings(public_config(golden, case)).network
    weights = {f"module.{name}": tensor for name, tensor in made_up_weights(network, int(arrays["seed"])).items()}
    content = {
        "epoch": 35,
        "state_dict": {name: torch.zeros_like(tensor) for name, tensor in weights.items()},
        "state_dict_ema": weights,
        "scheduler": {"last_epoch": 3500, "base_lrs": [1e-4]},
        "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4, "params": [0, 1]}]},
    }
    torch.save(content | changes, path)
    return path


@pytest.fixture
def small(golden: Path, tmp_path: Path) -> Path:
    return public_file(golden, tmp_path / "epoch_035.pth.tar")


def test_the_average_answers_as_the_public_program(golden: Path, tmp_path: Path, small: Path, run: Run) -> None:
    out, names = tmp_path / "checkpoint", tmp_path / "names.txt"
    names.write_text("run\njump\nswim\n")
    code, printed, _ = run(
        "import", small, "--out", out, "--config", golden / "actionformer_small.json", "--classes", names, "--json", "-"
    )
    assert code == 0
    report = json.loads(printed)
    assert (report["epoch"], report["averaged"], report["classes"]) == (35, True, ["run", "jump", "swim"])
    checkpoint = read_checkpoint(out)
    assert checkpoint.vocabulary == ("run", "jump", "swim")
    assert checkpoint.class_bank.space == "rows"
    assert checkpoint.config.decode.policy == "points"
    arrays = np.load(golden / "actionformer_small.npz")
    model = load_checkpoint(out)
    with torch.no_grad():
        features = torch.from_numpy(arrays["T40/features"])[None]
        output = model(features, torch.from_numpy(checkpoint.class_bank.embeddings.copy()))
    np.testing.assert_allclose(output.class_logits[0, :40], arrays["T40/logits0"][:40], atol=1e-4, rtol=0)
    np.testing.assert_allclose(output.offsets[0, :40], arrays["T40/offsets0"][:40], atol=1e-4, rtol=0)


def test_a_published_yaml_file_is_read(golden: Path, tmp_path: Path, small: Path) -> None:
    resolved = public_config(golden, "small")
    sizes = {"input_dim": 12, "num_classes": 3, "max_seq_len": 64}
    published = {
        "dataset_name": "thumos",
        "dataset": {**sizes, "feat_stride": 4, "num_frames": 16, "default_fps": 30},
        "model": {
            key: value for key, value in resolved.items() if key not in {*sizes, "train_cfg", "test_cfg", "fpn_type"}
        },
        "train_cfg": {"init_loss_norm": 100, "loss_weight": 1.0},
        "test_cfg": {"nms_method": "hard", "max_seg_num": 150, "iou_threshold": 0.3, "pre_nms_topk": 500},
        "opt": {"learning_rate": 0.0001},
    }
    path = tmp_path / "public.yaml"
    path.write_text(yaml.safe_dump(published))
    settings = load_public_settings(path)
    assert settings.network == read_public_settings(resolved).network
    assert (settings.features.stride, settings.features.num_frames, settings.features.fps) == (4, 16, 30.0)
    decoding = settings.decoding
    assert (decoding.soft_nms, decoding.max_detections, decoding.pre_nms_top_k) == ("hard", 150, 500)
    assert (decoding.tiou_threshold, decoding.n_levels) == (0.3, 4)
    report = import_actionformer(small, tmp_path / "out", config=path)
    assert report.classes == ("class 0", "class 1", "class 2")
    assert "numbered" in report.summary()


def test_one_class_is_called_action(golden: Path, tmp_path: Path) -> None:
    file = public_file(golden, tmp_path / "a.pth.tar", case="small_activitynet")
    config = golden / "actionformer_small_activitynet.json"
    assert import_actionformer(file, tmp_path / "out", config=config).classes == ("action",)


def test_scales_that_a_file_lacks_are_one(golden: Path, tmp_path: Path) -> None:
    arrays = np.load(golden / "actionformer_small.npz")
    network = read_public_settings(public_config(golden, "small")).network
    weights = made_up_weights(network, int(arrays["seed"]))
    kept = {name: tensor for name, tensor in weights.items() if "drop_path" not in name}
    file = public_file(golden, tmp_path / "a.pth.tar", state_dict_ema=kept)
    import_actionformer(file, tmp_path / "out", config=golden / "actionformer_small.json")
    state = load_checkpoint(tmp_path / "out").state_dict()
    scales = [tensor for name, tensor in state.items() if name.endswith("_path.scale")]
    assert len(scales) == 10
    assert all(bool((tensor == 1).all()) for tensor in scales)


def test_without_an_average_the_weights_are_read(golden: Path, tmp_path: Path) -> None:
    network = read_public_settings(public_config(golden, "small")).network
    file = tmp_path / "a.pth.tar"
    torch.save({"epoch": 1, "state_dict": made_up_weights(network, 1)}, file)
    report = import_actionformer(file, tmp_path / "out", config=golden / "actionformer_small.json")
    assert not report.averaged
    assert "no average" in report.summary()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_classes": 4}, r"cls_head\.cls_head\.conv\.weight: shape \(3, 16, 3\), expected \(4, 16, 3\)"),
        ({"input_dim": 13}, r"backbone\.embd\.0\.conv\.weight: shape \(16, 12, 3\), expected \(16, 13, 3\)"),
        ({"use_rel_pe": True}, r"rel_pe: missing"),
    ],
)
def test_weights_of_another_configuration_are_refused(
    golden: Path, tmp_path: Path, small: Path, change: dict[str, Any], message: str
) -> None:
    config = tmp_path / "other.json"
    config.write_text(json.dumps(public_config(golden, "small") | change))
    with pytest.raises(CheckpointError, match=message):
        import_actionformer(small, tmp_path / "out", config=config)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_mha_win_sise": 5}, "did you mean n_mha_win_size"),
        ({"backbone_type": "conv"}, "this kit has only backbone_type = 'convTransformer'"),
        ({"input_dim": None}, "model.feature_channels must be of type int; got None"),
        ({"n_mha_win_size": 4}, "odd"),
        ({"max_seq_len": 65}, "a multiple of 32"),
        ({"backbone_arch": [2, 2, 5]}, "makes 6 levels, and regression_range has 4 pairs"),
    ],
)
def test_configurations_that_cannot_be_used_are_refused(
    golden: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    config = tmp_path / "other.json"
    config.write_text(json.dumps(public_config(golden, "small") | change))
    with pytest.raises(ConfigError, match=message) as error:
        load_public_settings(config)
    assert str(config) in str(error.value)


@pytest.mark.parametrize("text", ["[1, 2]", "{", "a: [1", "!!python/object/apply:os.system ['true']"])
def test_files_that_are_no_configuration_are_refused(tmp_path: Path, text: str) -> None:
    config = tmp_path / "public.yaml"
    config.write_text(text)
    with pytest.raises(ConfigError, match=r"public\.yaml: "):
        load_public_settings(config)


def test_code_in_a_file_is_not_run(golden: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "touched",))

    file = tmp_path / "evil.pth.tar"
    file.write_bytes(pickle.dumps({"epoch": 1, "state_dict": Evil()}))
    with pytest.raises(CheckpointError):
        import_actionformer(file, tmp_path / "out", config=golden / "actionformer_small.json")
    assert not (tmp_path / "touched").exists()


def test_files_of_the_two_programs_are_not_mixed_up(golden: Path, tmp_path: Path, small: Path, run: Run) -> None:
    with pytest.raises(CheckpointError, match="--config FILE"):
        import_release(small, tmp_path / "out")
    stale = tmp_path / "stale.pth.tar"
    torch.save({"epoch": 1, "state_dict": {"a.weight": torch.zeros(1)}}, stale)
    with pytest.raises(CheckpointError, match="import it without --config"):
        import_actionformer(stale, tmp_path / "out", config=golden / "actionformer_small.json")
    code, _, error = run(
        "import", small, "--out", tmp_path / "out", "--config", golden / "actionformer_small.json", "--tokenizer", "x"
    )
    assert code == 1
    assert "no text encoder" in error


def test_too_few_class_names_are_refused(golden: Path, tmp_path: Path, small: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("run\njump\n")
    with pytest.raises(CheckpointError, match="holds 2 class names and the network has 3 classes"):
        import_actionformer(small, tmp_path / "out", config=golden / "actionformer_small.json", classes=names)
