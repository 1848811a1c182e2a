"""The part of a detector that decoding needs: few masks, one vocabulary, the detections of the whole graph."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import tiny

pytest.importorskip("torch")
pytest.importorskip("onnxscript")
import exporting_case as case
import torch

from stale_edge.bundle import ClassBank
from stale_edge.config import DecodeConfig, PointsConfig
from stale_edge.data import open_data_set
from stale_edge.decoding import decode, voting_snippets
from stale_edge.errors import BundleError
from stale_edge.exporting import export_checkpoint
from stale_edge.runtime import Localizer, load_bundle
from stale_edge.runtime.decoded_outputs import FEW_MASKS, complete_masks, decoded_outputs
from stale_edge.segments import Detection, FloatArray

WAYS = [
    ("onnxruntime", "fp32"),
    ("onnxruntime", "int8"),
    ("onnxruntime", "int8-static"),
    pytest.param(
        ("openvino", "fp32"),
        marks=pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed"),
    ),
]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("decoded")
    checkpoint = case.save_checkpoint(root / "checkpoint", case.trained_model())
    data = case.save_data(root / "data")
    export_checkpoint(checkpoint, root / "bundle", precisions=["fp32", "int8", "int8-static"], data=data)
    return root / "bundle", data


def _whole(localizer: Localizer, features: FloatArray, bank: ClassBank) -> list[Detection]:
    """Decode all outputs of the whole graph."""
    outputs = localizer.forward(features, bank.embeddings)
    return decode(
        outputs["class_logits"],
        outputs["masks"],
        class_names=bank.names,
        duration_s=30.0,
        config=localizer.decode_config,
    )


def _assert_alike(found: list[Detection], wanted: list[Detection]) -> None:
    assert [d.label for d in found] == [d.label for d in wanted]
    np.testing.assert_allclose([d[1:] for d in found], [d[1:] for d in wanted], atol=1e-4)


@pytest.mark.parametrize("way", WAYS)
def test_few_masks_for_one_vocabulary_find_what_the_whole_graph_finds(
    exported: tuple[Path, Path], way: tuple[str, str]
) -> None:
    bundle, data = exported
    data_set, localizer = open_data_set(data), load_bundle(bundle, runtime=way[0], precision=way[1])
    some = localizer.class_bank.select(localizer.class_bank.names[1:])
    n_found = 0
    for video in list(data_set.videos("validation"))[:6]:
        features = np.asarray(data_set.load(video), dtype=np.float32)
        for bank in (localizer.class_bank, some):  # the second one was not computed ahead
            found = localizer.detect(features, duration_s=30.0, class_bank=bank)
            _assert_alike(found, _whole(localizer, features, bank))
            n_found += len(found)
    assert n_found > 10


@pytest.mark.parametrize("precision", ["fp32", "int8", "int8-static"])
def test_the_paper_s_detector_is_opened_for_few_masks_and_its_own_classes(
    exported: tuple[Path, Path], precision: str
) -> None:
    localizer = load_bundle(exported[0], precision=precision)
    backend = localizer._decoding
    assert [spec.name for spec in backend.inputs or ()] == ["features"]
    assert {spec.name for spec in backend.outputs or ()} == set(FEW_MASKS)
    features = np.random.default_rng(0).standard_normal((1, case.LENGTH, case.CHANNELS)).astype(np.float32)
    outputs = backend.run(features, localizer.class_bank.embeddings)
    assert outputs["mask_networks"].shape[1] == outputs["mask_features"].shape[2] == case.LENGTH


def test_rows_of_silent_snippets_are_left_out_and_the_others_are_the_graph_s(exported: tuple[Path, Path]) -> None:
    bundle, data = exported
    data_set, localizer = open_data_set(data), load_bundle(bundle)
    features = np.asarray(data_set.load(next(iter(data_set.videos("validation")))), dtype=np.float32)
    whole = localizer.forward(features)
    few = localizer._run_for_decoding(features[None], localizer.class_bank.embeddings)["masks"][0]
    voting = voting_snippets(whole["class_logits"], config=localizer.decode_config)
    silent = np.setdiff1d(np.arange(len(few)), voting)
    assert len(voting) > 0
    assert len(silent) > 0
    np.testing.assert_allclose(few[voting], whole["masks"][voting], atol=1e-5)
    assert not few[silent].any()


STALE = ("class_logits", "masks", "foreground")


def test_a_detector_that_lacks_what_its_policy_reads_is_refused() -> None:
    with pytest.raises(BundleError, match=r"points reads class_logits, offsets, valid; .* has no offsets, valid"):
        decoded_outputs(Path("detector.onnx"), STALE, PointsConfig())


def test_what_cannot_leave_masks_out_is_opened_for_all(exported: tuple[Path, Path], tmp_path: Path) -> None:
    detector = exported[0] / "detector-fp32.onnx"
    assert decoded_outputs(detector, STALE, DecodeConfig()) == FEW_MASKS
    assert decoded_outputs(detector, STALE, DecodeConfig(policy="release")) == STALE[:2]  # it reads every mask
    assert decoded_outputs(Path("detector-fp32.torchscript.pt"), STALE, DecodeConfig()) == STALE[:2]
    tiny.write(tmp_path / "bundle")  # no names inside its graph
    (file,) = (tmp_path / "bundle").glob("*fp32*.onnx")
    assert decoded_outputs(file, STALE, DecodeConfig()) == STALE[:2]
    outputs = {"class_logits": np.zeros((1, 2, 3), np.float32), "masks": np.ones((1, 3, 3), np.float32)}
    assert complete_masks(outputs, DecodeConfig()) == outputs


def test_masks_may_be_asked_for(exported: tuple[Path, Path]) -> None:
    localizer = load_bundle(exported[0])
    features = np.random.default_rng(0).standard_normal((2, case.LENGTH, case.CHANNELS)).astype(np.float32)
    outputs = localizer._decoding.run(features, localizer.class_bank.embeddings)
    masks = complete_masks(outputs, localizer.decode_config, snippets=[0, 3])["masks"]
    assert masks.shape == (2, case.LENGTH, case.LENGTH)
    assert set(np.flatnonzero(masks.any(axis=2).any(axis=0))) == {0, 3}
