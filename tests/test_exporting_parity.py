"""The parity check: what it measures, and that it fails when it should."""

import copy
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import exporting_case as case
import numpy as np
import pytest
import tiny_points
import torch
from oracle import gate_margin_by_loops

from stale_edge.bundle import ClassBank, FeatureContract
from stale_edge.config import DecodeConfig, FeaturesConfig, FeatureSpec, ModelConfig, PointsConfig
from stale_edge.decoding import decode_arrays
from stale_edge.errors import DataError, FeatureContractError, ParityError
from stale_edge.evaluation.agreement import count_matched
from stale_edge.exporting import pipeline
from stale_edge.exporting.artifact_formats import find_format
from stale_edge.exporting.graph.detector_graph import TRACED_BATCH, TRACED_CLASSES, TRACED_LENGTH, in_eval_mode
from stale_edge.exporting.parity.compare import Run, compare_with_model
from stale_edge.exporting.parity.reference import Reference, run_detector
from stale_edge.exporting.parity.result import BUDGETS, Parity, parity_table, refuse_failures
from stale_edge.exporting.parity.videos import shape_cases, simulated_data, validation_data
from stale_edge.model import build_model
from stale_edge.segments import Detection, FloatArray

FP32 = find_format("onnx", "fp32")
OUTPUTS = ("class_logits", "masks", "foreground")


def compared(reference: Reference, run: Run, precision: str) -> Parity:
    """Compare a stand-in for a file with the model."""
    return compare_with_model(reference, run, file=f"detector-{precision}.onnx", precision=precision)


def contract(length: int | None = None, resample_to: int | None = case.LENGTH) -> FeatureContract:
    spec = FeatureSpec(encoder="toy", channels=case.CHANNELS, fps=8.0, stride=16)
    return FeatureContract.from_spec(spec, length=length, resampling="linear", resample_to=resample_to)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    torch.set_num_threads(1)
    root = case.save_data(tmp_path_factory.mktemp("parity") / "data", n_videos=6)
    data = validation_data(root, contract=contract(), bank=case.bank())
    return Reference(case.trained_model(), bank=case.bank(), data=data, decode_config=DecodeConfig())


def run_model(features: FloatArray, class_embeddings: FloatArray) -> dict[str, FloatArray]:
    """Use the model itself as the exported file."""
    with torch.no_grad():
        output = case.trained_model()(torch.from_numpy(features.copy()), torch.from_numpy(class_embeddings.copy()))
    return {name: getattr(output, name).numpy().copy() for name in OUTPUTS}


def test_the_model_itself_passes_in_every_precision(reference: Reference) -> None:
    for precision in BUDGETS:
        parity = compared(reference, run_model, precision)
        assert parity.passed, parity.failures
        assert parity.flipped_snippets == parity.shape_flips == 0
        assert parity.matched_detections == 1.0
        assert parity.n_snippets == 6 * case.LENGTH
        assert parity.n_detections > 0
        assert parity.average_mAP == parity.model_average_mAP
        assert set(parity.max_difference.values()) == {0.0}


def test_the_model_has_learned_something_to_lose(reference: Reference) -> None:
    assert reference.average_map is not None
    assert reference.average_map > 80
    assert 0 < reference.gate_margins["least"] <= reference.gate_margins["percentile_1"]


def test_budgets_are_those_of_the_contract() -> None:
    assert BUDGETS["fp32"].max_difference == 1e-4
    assert BUDGETS["fp32"].max_flipped == 0
    assert BUDGETS["fp32"].min_matched == 1.0
    assert BUDGETS["fp16"].max_map_loss == 0.1
    assert BUDGETS["int8"].max_map_loss == 0.5


@pytest.mark.parametrize(("precision", "least"), [("fp32", 1.0), ("fp16", 0.95), ("int8", 0.75), ("int8-static", 0.98)])
def test_a_file_that_loses_more_detections_than_promised_fails(precision: str, least: float) -> None:
    """Without labels, this check alone refuses a broken file."""
    for matched, passes in ((least, True), (least - 0.01, False)):
        parity = Parity(file="f", precision=precision, budget=BUDGETS[precision], matched_detections=matched).checked()
        assert parity.passed == passes
        says = f"{matched:.1%} of detections match, at least {least:.1%} must"
        assert parity.failures == (() if passes else (says,))


@pytest.mark.parametrize(
    ("file", "noise", "passes"), [(50.6, 0.0, True), (60.0, 0.0, True), (49.4, 0.0, False), (49.4, 0.1, True)]
)
def test_a_gain_of_map_is_no_failure_and_noise_widens_the_allowed_loss(file: float, noise: float, passes: bool) -> None:
    parity = Parity(
        file="f", precision="int8", budget=BUDGETS["int8"], average_mAP=file, model_average_mAP=50.0, map_noise=noise
    )
    assert parity.checked().passed == passes
    assert parity.within(BUDGETS["int8"]) == passes


def test_the_table_fits_a_terminal_and_says_what_is_allowed() -> None:
    parity = Parity(
        file="detector-int8-static.torchscript.pt", precision="int8", budget=BUDGETS["int8"], n_snippets=24_000,
        flipped_snippets=12_345, average_mAP=49.4, model_average_mAP=50.0, map_noise=0.05,
    ).checked()  # fmt: skip
    lines = parity_table([parity, dataclasses.replace(parity, precision="fp16", budget=BUDGETS["fp16"])]).splitlines()
    assert max(map(len, lines[:3])) <= 80
    assert lines[3] == (
        "  allowed int8: 1.0% flipped, 75.0% matched, 0.5 mAP lost (and 0.10 for the noise of few videos)"
    )
    assert lines[4].startswith("  allowed fp16: 0.1% flipped")


def test_a_difference_in_masks_beyond_1e_4_fails_fp32_alone(reference: Reference) -> None:
    def run(features: FloatArray, class_embeddings: FloatArray) -> Mapping[str, FloatArray]:
        outputs = run_model(features, class_embeddings)
        return {**outputs, "masks": np.clip(outputs["masks"] - np.float32(2e-4), 0, 1)}

    parity = compared(reference, run, "fp32")
    assert any("masks differs by 0.0002" in failure for failure in parity.failures)
    assert compared(reference, run, "int8").passed


def test_one_flipped_snippet_fails_fp32_and_is_counted(reference: Reference) -> None:
    def run(features: FloatArray, class_embeddings: FloatArray) -> Mapping[str, FloatArray]:
        outputs = run_model(features, class_embeddings)
        if np.array_equal(features[0], reference.data.videos[2].features):
            outputs["foreground"][0, 7] = 1 - outputs["foreground"][0, 7]
        return outputs

    parity = compared(reference, run, "fp32")
    assert parity.flipped_snippets == 1
    assert f"1 of {6 * case.LENGTH} snippets flip, allowed 0.0%" in parity.failures
    assert compared(reference, run, "int8").passed


def test_class_logits_are_compared_where_the_gate_agrees(reference: Reference) -> None:
    """A flipped snippet's logits jump by design; this must count as a flip, not as a difference of logits."""

    def run(features: FloatArray, class_embeddings: FloatArray) -> Mapping[str, FloatArray]:
        outputs = run_model(features, class_embeddings)
        outputs["foreground"][0, 0] = 1 - outputs["foreground"][0, 0]
        outputs["class_logits"][0, :, 0] += 12
        return outputs

    assert compared(reference, run, "int8").max_difference["class_logits"] == 0.0


def test_wrong_labels_fail_by_detections_and_map(reference: Reference) -> None:
    def run(features: FloatArray, class_embeddings: FloatArray) -> Mapping[str, FloatArray]:
        outputs = run_model(features, class_embeddings)
        return {**outputs, "class_logits": np.roll(outputs["class_logits"], 1, axis=1)}

    parity = compared(reference, run, "int8")
    assert any("of detections match" in failure for failure in parity.failures)
    (lost,) = (failure for failure in parity.failures if "average mAP changes by -" in failure)
    assert 0 < parity.map_noise < 20
    assert lost.endswith(f"allowed loss 0.5 and {2 * parity.map_noise:.2f} for the noise of few videos")
    with pytest.raises(ParityError, match=r"1 of 1 artifacts decide differently .* nothing was written") as raised:
        refuse_failures([parity], reference.data.description)
    assert raised.value.exit_code == 3
    assert "detector-int8.onnx" in str(raised.value)


@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs_that_are_not_finite_fail(reference: Reference, name: str) -> None:
    def run(features: FloatArray, class_embeddings: FloatArray) -> Mapping[str, FloatArray]:
        outputs = run_model(features, class_embeddings)
        outputs[name].flat[-1] = np.nan
        return outputs

    assert any(f"{name} is not finite" in failure for failure in compared(reference, run, "int8").failures)


def test_an_output_of_another_shape_fails(reference: Reference) -> None:
    def run(features: FloatArray, class_embeddings: FloatArray) -> Mapping[str, FloatArray]:
        outputs = run_model(features, class_embeddings)
        return {**outputs, "masks": outputs["masks"][:, :1]}

    assert any("masks is float32 (" in failure for failure in compared(reference, run, "int8").failures)


def test_a_failure_on_other_sizes_alone_is_found(reference: Reference) -> None:
    """An artifact that is right on single videos of the usual length, and wrong in a batch."""

    def run(features: FloatArray, class_embeddings: FloatArray) -> Mapping[str, FloatArray]:
        outputs = run_model(features, class_embeddings)
        if len(features) > 1:
            outputs["foreground"] = 1 - outputs["foreground"]
        return outputs

    parity = compared(reference, run, "fp32")
    assert parity.flipped_snippets == 0
    assert any("snippets flip on batches of other sizes" in failure for failure in parity.failures)


def _tied(reference: Reference) -> tuple[Reference, dict[str, FloatArray]]:
    """One video in which two snippets propose overlapping segments with scores that a rounding error parts."""
    length, n_classes = case.LENGTH, len(case.bank().names)
    logits = np.full((1, n_classes + 1, length), -4, np.float32)
    logits[:, -1] = 8
    masks = np.zeros((1, length, length), np.float32)
    for snippet, end, logit in ((4, 12, 6.0), (5, 10, np.nextafter(np.float32(6), np.float32(0)))):
        logits[0, 0, snippet], logits[0, -1, snippet] = logit, -4
        masks[0, snippet, 3:end] = 0.9
    outputs = {"class_logits": logits, "masks": masks, "foreground": np.ones((1, length), np.float32)}
    tied = copy.copy(reference)
    tied.shapes, tied.videos = [], [dataclasses.replace(reference.videos[0], outputs=outputs)]
    tied.data = dataclasses.replace(reference.data, videos=reference.data.videos[:1], truth=None)
    tied.detections, tied.average_map = [tied.decode(0, outputs)], None
    return tied, outputs


def test_either_outcome_of_a_near_tie_is_the_models(reference: Reference) -> None:
    """Soft-NMS picks one first and decays the other: a rounding error changes scores by 0.3, but not the decisions."""
    tied, outputs = _tied(reference)
    logits = outputs["class_logits"].copy()
    logits[0, 0, 4] = np.nextafter(np.nextafter(np.float32(6), np.float32(0)), np.float32(0))
    picked_first = [tied.decode(0, made)[0].end_s for made in (outputs, {**outputs, "class_logits": logits})]
    assert picked_first[0] != picked_first[1]
    parity = compared(tied, lambda *_: {**outputs, "class_logits": logits}, "fp32")
    assert (parity.failures, parity.near_ties) == ((), 1)
    assert parity.matched_detections == 1.0
    assert 0 < parity.max_score_difference <= 1e-4
    assert compared(tied, lambda *_: outputs, "fp32").near_ties == 0


def test_a_near_tie_excuses_no_other_score(reference: Reference) -> None:
    tied, outputs = _tied(reference)

    def run(*_: FloatArray) -> Mapping[str, FloatArray]:
        return {**outputs, "masks": np.where(outputs["masks"] > 0, np.float32(0.88), 0).astype(np.float32)}

    failures = compared(tied, run, "fp32").failures
    assert any(failure.startswith("scores differ by 0.02") for failure in failures), failures


def test_a_pipeline_may_reach_either_outcome(reference: Reference, monkeypatch: pytest.MonkeyPatch) -> None:
    tied, outputs = _tied(reference)
    logits = outputs["class_logits"].copy()
    logits[0, 0, 4] = np.nextafter(np.nextafter(np.float32(6), np.float32(0)), np.float32(0))
    found = decode_arrays(logits[0], outputs["masks"][0], config=tied.decode_config)
    shares = found.segments / case.LENGTH * tied.data.videos[0].duration_s

    def compared_with(scores: FloatArray) -> Parity:
        played = {
            "open_backend": SimpleNamespace(run=lambda *_: outputs),
            "open_session": SimpleNamespace(run=lambda *_: (shares, scores, found.labels)),
        }
        for name, object_ in played.items():
            monkeypatch.setattr(pipeline, name, lambda *_, made=object_, **__: made)
        return pipeline.compare_pipeline(tied, FP32, Path("detector.onnx"), Path("localizer.onnx"))

    parity = compared_with(found.scores)
    assert (parity.passed, parity.near_ties, parity.n_detections) == (True, 1, len(found.labels))
    assert compared_with(found.scores + 1e-3).different == (tied.data.videos[0].name,)


def test_a_pipeline_in_int8_is_compared_with_the_network_inside_it(
    reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last bit before a rounding to 8 bits moves outputs by a step; decoding must still be that of the core."""
    tied, outputs = _tied(reference)
    inside = {**outputs, "class_logits": outputs["class_logits"] * np.float32(0.99)}
    one = {name: values[0] for name, values in inside.items()}
    found = decode_arrays(one["class_logits"], one["masks"], config=tied.decode_config)
    shares = found.segments / case.LENGTH * tied.data.videos[0].duration_s

    def compared_in(precision: str, scores: FloatArray) -> Parity:
        monkeypatch.setattr(pipeline, "open_backend", lambda *_, **__: SimpleNamespace(run=lambda *_: outputs))
        answer = SimpleNamespace(run=lambda *_: (shares, scores, found.labels))
        monkeypatch.setattr(pipeline, "open_session", lambda *_, **__: answer)
        monkeypatch.setattr(pipeline, "_network_inside", lambda *_: lambda _: one)
        row = find_format("onnx", precision)
        return pipeline.compare_pipeline(tied, row, Path("detector.onnx"), Path("localizer.onnx"))

    assert (compared_in("int8", found.scores).passed, compared_in("int8", found.scores).near_ties) == (True, 1)
    assert compared_in("fp32", found.scores).different == (tied.data.videos[0].name,)
    assert compared_in("int8", found.scores + 1e-3).different == (tied.data.videos[0].name,)


def test_gate_margins_are_those_of_the_loops() -> None:
    rng = np.random.default_rng(0)
    shapes = ((2, 4, 5), (2, 5, 5), (2, 5))
    outputs = dict(zip(OUTPUTS, (rng.random(shape, dtype=np.float32) for shape in shapes), strict=True))
    for config in (case.PAPER, case.RELEASE, dataclasses.replace(case.PAPER, foreground_threshold=0.3)):
        expected = gate_margin_by_loops(
            outputs["masks"], outputs["foreground"], config.architecture, config.foreground_threshold
        )
        np.testing.assert_allclose(build_model(config).undecided(outputs), expected, atol=1e-12)


def test_a_tie_opens_the_gate_of_the_release_alone() -> None:
    tie = {"masks": np.zeros((1, 2, 2), np.float32), "foreground": np.full((1, 2), 0.5, np.float32)}
    assert (build_model(case.RELEASE).undecided(tie) > 0).all()
    assert not (build_model(dataclasses.replace(case.PAPER, foreground_threshold=0.5)).undecided(tie) > 0).any()


A = Detection("run", 0.9, 0.0, 100.0)


@pytest.mark.parametrize(
    ("artifact", "matched", "difference", "reason"),
    [
        ([A], 1, 0.0, "itself"),
        ([], 0, 0.0, "nothing there"),
        ([A._replace(label="jump")], 0, 0.0, "another label"),
        ([A._replace(end_s=95.0)], 1, 0.0, "tIoU 0.95 is the same segment"),
        ([A._replace(end_s=94.9)], 0, 0.0, "tIoU below 0.95 is another"),
        ([A._replace(score=0.5)], 1, 0.4, "a score may differ; by how much is reported"),
        ([A._replace(score=0.5), A._replace(score=0.89, end_s=99.0)], 1, 0.01, "of two the one nearest in score"),
    ],
)
def test_matching(artifact: list[Detection], matched: int, difference: float, reason: str) -> None:
    result = count_matched([A], artifact, confident=0.1)
    assert (result.total, result.matched) == (1, matched), reason
    assert result.max_score_difference == pytest.approx(difference)


def test_matching_is_one_to_one() -> None:
    twice = [A, A._replace(score=0.8)]
    assert count_matched(twice, [A], confident=0.1)[:2] == (2, 1)


def test_the_tail_is_not_matched() -> None:
    tail = Detection("run", 0.08, 0.0, 5.0)
    assert count_matched([A, tail], [A], confident=0.1)[:2] == (1, 1)
    assert count_matched([], [A], confident=0.1) == (0, 0, 0.0)


def test_equal_segments_of_zero_length_match() -> None:
    point = Detection("run", 0.9, 3.0, 3.0)
    assert count_matched([point], [point], confident=0.1)[:2] == (1, 1)


def test_no_parity_batch_has_a_traced_size(reference: Reference) -> None:
    traced = (TRACED_BATCH, TRACED_LENGTH, TRACED_CLASSES)
    sizes = [
        (*batch.features.shape[:2], len(batch.class_embeddings)) for batch in (*reference.shapes, *reference.videos)
    ]
    assert all(size != traced for size in sizes)
    assert {size[0] for size in sizes} > {1}
    assert {1, 2} < {size[1] for size in sizes}
    assert len({size[2] for size in sizes}) > 1


def test_the_release_is_compared_at_its_own_length() -> None:
    model = build_model(case.RELEASE).eval()
    length = case.RELEASE.temporal_scale
    data = simulated_data(model, contract=contract(length, length), bank=case.bank())
    cases = shape_cases(data, config=case.RELEASE, bank=case.bank())
    assert {shape.features.shape[1] for shape in cases} == {length}
    assert {shape.features.shape[0] for shape in cases} == {1, 3}


def test_simulated_videos_have_the_training_statistics() -> None:
    model = build_model(dataclasses.replace(case.PAPER, features=FeaturesConfig(normalize="data-mean")))
    center = torch.linspace(-3, 3, case.CHANNELS)
    model.temporal.normalize.center.copy_(center)
    model.temporal.normalize.scale.fill_(1 / 0.25)
    data = simulated_data(model, contract=contract(), bank=case.bank())
    snippets = np.concatenate([video.features for video in data.videos])
    np.testing.assert_allclose(snippets.mean(axis=0), center.numpy(), atol=1e-3)
    assert np.sqrt(np.square(snippets - snippets.mean(axis=0)).mean()) == pytest.approx(0.25, rel=1e-3)
    assert data.source == "simulated"
    assert data.truth is None
    assert "no mAP" in data.no_truth


@pytest.mark.parametrize(
    ("channels", "embed_dim", "n_classes"),
    [(8, 16, 3), (24, 16, 3), (16, 16, 1)],
    ids=["narrow", "C != D", "one class"],
)
def test_simulation_fits_any_detector(channels: int, embed_dim: int, n_classes: int) -> None:
    config = ModelConfig(feature_channels=channels, embed_dim=embed_dim, n_heads=2, feedforward_dim=8, localizer_dim=8)
    embeddings = np.random.default_rng(0).standard_normal((n_classes, embed_dim)).astype(np.float32)
    bank = ClassBank(tuple(f"class {k}" for k in range(n_classes)), embeddings, "toy")
    wanted = FeatureContract("toy", channels, None, None, None, "linear", 20)
    data = simulated_data(build_model(config), contract=wanted, bank=bank)
    assert {video.features.shape for video in data.videos} == {(20, channels)}
    assert all(np.isfinite(video.features).all() and video.duration_s > 0 for video in data.videos)


def test_labels_outside_the_class_bank_leave_no_map(tmp_path: Path) -> None:
    root = case.save_data(tmp_path / "data", n_videos=2)
    other = ClassBank(("sit", "stand"), case.bank().embeddings[:2], "toy")
    data = validation_data(root, contract=contract(), bank=other)
    assert data.truth is None
    assert data.no_truth == "no validation video has an action of a class in the class bank"


def test_a_data_set_without_validation_videos_is_refused(tmp_path: Path) -> None:
    root = case.save_data(tmp_path / "data", n_videos=2)
    foreign = dataclasses.replace(contract(), encoder="another encoder")
    with pytest.raises(FeatureContractError, match="another encoder"):
        validation_data(root, contract=foreign, bank=case.bank())
    text = (root / "annotations.json").read_text(encoding="utf-8").replace("validation", "training")
    (root / "annotations.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="parity is decided on validation videos"):
        validation_data(root, contract=contract(), bank=case.bank())


@pytest.mark.parametrize(("precision", "labels", "compares"), [("fp32", 0, 1), ("int8", 0, 0), ("int8", 1, 1)])
def test_a_comparison_without_anything_to_compare_fails(
    reference: Reference, precision: str, labels: int, compares: int
) -> None:
    model = tiny_points.TinyPoints(tiny_points.TinyConfig())  # no hard decisions, and here no detections
    data = reference.data if labels else dataclasses.replace(reference.data, truth=None, no_truth="none given")
    silent = PointsConfig(n_levels=1, duration_threshold=1000)
    ours = Reference(model, bank=reference.bank, data=data, decode_config=silent)

    def run(features: FloatArray, class_embeddings: FloatArray) -> Mapping[str, FloatArray]:
        with in_eval_mode(model):
            return run_detector(model, features, class_embeddings)

    parity = compared(ours, run, precision)
    assert parity.n_detections == 0
    assert parity.passed == bool(compares), parity.failures
    if not compares:
        assert "nothing to compare: the model finds no confident action in 6 videos" in parity.failures[0]
