"""The localizer: what it computes, what it refuses, and that many threads may share it."""

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny

from stale_edge import Localizer, load_bundle
from stale_edge.bundle import ClassBank, add_classes
from stale_edge.data import resample
from stale_edge.decoding import decode
from stale_edge.errors import (
    BundleError,
    ClassBankError,
    FeatureContractError,
    MissingExtraError,
    StaleEdgeError,
    VerificationError,
)
from stale_edge.runtime import PrecisionWarning, check_feature_spec, open_backend

SAME_ARITHMETIC = 1e-5
"""Sums of eight float32 products in another order, through a sigmoid at most."""


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("runtime") / "bundle", precisions=("fp32", "fp16", "int8"))


@pytest.fixture(scope="module")
def fixed_path(tmp_path_factory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("runtime") / "fixed", length=16)


@pytest.fixture(scope="module")
def localizer(path) -> Localizer:
    return load_bundle(path)


# --- forward ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (1, 37), (3, 16), (5, 2)])
def test_forward_is_the_arithmetic_of_the_graph(localizer, shape) -> None:
    batch, n_snippets = shape
    x = tiny.features(n_snippets, batch=batch)
    found, wanted = localizer.forward(x), tiny.outputs(x, tiny.bank().embeddings)
    assert list(found) == ["class_logits", "masks", "foreground"]
    for name, value in wanted.items():
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], value, atol=SAME_ARITHMETIC)
    assert found["class_logits"].shape == (batch, 4, n_snippets)


def test_one_video_goes_in_and_comes_out_without_the_batch_axis(localizer) -> None:
    x = tiny.features(9)
    one, batch = localizer.forward(x), localizer.forward(x[None])
    for name, value in batch.items():
        np.testing.assert_array_equal(one[name], value[0])


def test_another_vocabulary_is_an_argument(localizer) -> None:
    x = tiny.features(9)
    for k in (1, 7):
        rows = np.random.default_rng(k).standard_normal((k, tiny.EMBED_DIM))
        wanted = tiny.outputs(x[None], rows.astype(np.float32))["class_logits"][0]
        np.testing.assert_allclose(localizer.forward(x, rows)["class_logits"], wanted, atol=SAME_ARITHMETIC)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_are_converted(localizer, dtype) -> None:
    x = tiny.features(9).astype(np.float16)
    wanted = localizer.forward(x.astype(np.float32))
    found = localizer.forward(x.astype(dtype))
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value)


def test_the_input_is_not_changed_and_may_be_read_only_or_strided(localizer) -> None:
    wide = np.random.default_rng(0).standard_normal((9, 2 * tiny.CHANNELS)).astype(np.float32)
    strided = wide[:, ::2]
    strided.setflags(write=False)
    before = strided.copy()
    found = localizer.forward(strided)
    np.testing.assert_array_equal(strided, before)
    np.testing.assert_array_equal(found["masks"], localizer.forward(before)["masks"])


def _with(value, at=(3, 2)):
    x = tiny.features(9).astype(np.float64)
    x[at] = value
    return x


REFUSED = {
    "one channel too many": (np.zeros((9, 9), np.float32), r"C = 8 channels \(encoder tiny-encoder\); got 9"),
    "transposed": (np.zeros((8, 9), np.float32), "C = 8 channels.*got 9"),
    "no snippet": (np.zeros((0, 8), np.float32), r"empty: shape \(0, 8\)"),
    "no channel": (np.zeros((9, 0), np.float32), r"empty: shape \(9, 0\)"),
    "no video": (np.zeros((0, 9, 8), np.float32), r"empty: shape \(0, 9, 8\)"),
    "one axis": (np.zeros(8, np.float32), r"\(T, C\) or \(B, T, C\); got \(8,\)"),
    "four axes": (np.zeros((1, 1, 9, 8), np.float32), r"got \(1, 1, 9, 8\)"),
    "a number": (1.0, r"got \(\)"),
    "integers": (np.zeros((9, 8), np.int64), "floating point.*got int64"),
    "bytes": (np.zeros((9, 8), np.uint8), "got uint8"),
    "truth values": (np.zeros((9, 8), bool), "got bool"),
    "complex": (np.zeros((9, 8), np.complex64), "got complex64"),
    "objects": (np.array([[None] * 8] * 9), "got object"),
    "text": (np.array(["features.npy"]), "got <U"),
    "ragged": ([[1.0, 2.0], [3.0]], "must be an array of shape"),
    "NaN": (_with(np.nan), r"finite float32 values; got nan at index \(3, 2\)"),
    "infinity": (_with(-np.inf), r"got -inf at index \(3, 2\)"),
    "too large for float32": (_with(1e300), r"got 1e\+300 at index \(3, 2\)"),
}


@pytest.mark.parametrize("case", REFUSED, ids=str)
@pytest.mark.parametrize("call", ["forward", "detect"])
def test_features_that_break_the_contract(localizer, case, call) -> None:
    features, said = REFUSED[case]
    with pytest.raises(FeatureContractError, match=said) as caught:
        localizer.forward(features) if call == "forward" else localizer.detect(features, duration_s=1.0)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, StaleEdgeError)


def test_where_t_is_fixed_forward_is_strict_and_detect_resamples(fixed_path) -> None:
    fixed = load_bundle(fixed_path)
    assert fixed.forward(tiny.features(16))["masks"].shape == (16, 16)
    for n_snippets in (15, 17):
        with pytest.raises(FeatureContractError, match=rf"T = 16 snippets.*got {n_snippets}"):
            fixed.forward(tiny.features(n_snippets))
        assert fixed.detect(tiny.features(n_snippets), duration_s=10.0)


@pytest.mark.parametrize(
    ("embeddings", "said"),
    [
        (np.zeros((2, 5), np.float32), r"shape \(K, 6\) with K >= 1; got float32 \(2, 5\)"),
        (np.zeros((0, 6), np.float32), r"got float32 \(0, 6\)"),
        (np.zeros(6, np.float32), r"got float32 \(6,\)"),
        (np.zeros((1, 6), np.int8), "got int8"),
        (np.array([[0.0] * 6, [np.nan] * 6]), "finite; row 1 is not"),
    ],
)
def test_embeddings_that_do_not_fit(localizer, embeddings, said) -> None:
    with pytest.raises(ClassBankError, match=said):
        localizer.forward(tiny.features(4), embeddings)


# --- detect ----------------------------------------------------------------------------------------------------------


def _expected(x, bank, *, duration_s, **enhancement):
    found = tiny.outputs(resample(x, 16)[None], bank.embeddings)
    return decode(
        found["class_logits"][0],
        found["masks"][0],
        class_names=bank.names,
        duration_s=duration_s,
        config=tiny.DECODE,
        **enhancement,
    )


def _assert_same(found, wanted) -> None:
    assert [d.label for d in found] == [d.label for d in wanted]
    np.testing.assert_allclose([d[1:] for d in found], [d[1:] for d in wanted], atol=SAME_ARITHMETIC)


@pytest.mark.parametrize("n_snippets", [1, 7, 16, 61])
def test_detect_is_resample_forward_decode(localizer, n_snippets) -> None:
    x = tiny.features(n_snippets)
    found = localizer.detect(x, duration_s=42.5)
    assert found
    _assert_same(found, _expected(x, tiny.bank(), duration_s=42.5))
    assert all(0 <= d.start_s < d.end_s <= 42.5 for d in found)
    assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)


def test_without_resampling_features_are_taken_as_they_come(tmp_path) -> None:
    plain = load_bundle(tiny.write(tmp_path / "bundle", resample_to=None))
    x = tiny.features(11)
    found = tiny.outputs(x[None], tiny.bank().embeddings)
    wanted = decode(
        found["class_logits"][0], found["masks"][0], class_names=tiny.NAMES, duration_s=5.0, config=tiny.DECODE
    )
    _assert_same(plain.detect(x, duration_s=5.0), wanted)


def test_classes_can_be_chosen_by_name_or_brought_along(localizer) -> None:
    x = tiny.features(20)
    chosen = ["Ćwiczenia", "jump"]
    _assert_same(
        localizer.detect(x, duration_s=9.0, class_bank=chosen),
        _expected(x, tiny.bank().select(chosen), duration_s=9.0),
    )
    brought = tiny.bank(("golf", "chess"))
    found = localizer.detect(x, duration_s=9.0, class_bank=brought)
    _assert_same(found, _expected(x, brought, duration_s=9.0))
    assert {d.label for d in found} <= {"golf", "chess"}


def test_another_large_vocabulary_is_opened_for_once(path, monkeypatch) -> None:
    """Attention among many classes, computed anew for every video, took gigabytes."""
    monkeypatch.setattr("stale_edge.runtime.localizer.MANY_CLASSES", 2)
    localizer, opened = load_bundle(path), []
    inner = localizer._open_detector
    monkeypatch.setattr(localizer, "_open_detector", lambda *given: opened.append(given[1]) or inner(*given))
    x, reverse = tiny.features(12), tiny.NAMES[::-1]
    for names, n_opened in ((reverse, 1), (reverse, 1), (tiny.NAMES, 1), (tiny.NAMES[:2], 2), (reverse, 2)):
        bank = tiny.bank().select(names)
        _assert_same(localizer.detect(x, duration_s=9.0, class_bank=bank), _expected(x, bank, duration_s=9.0))
        assert len(opened) == n_opened
    np.testing.assert_array_equal(opened[0], tiny.bank().select(reverse).embeddings)
    assert opened[1] is None


def test_classes_that_do_not_fit(localizer) -> None:
    x = tiny.features(20)
    with pytest.raises(ClassBankError, match="did you mean 'jump'"):
        localizer.detect(x, duration_s=9.0, class_bank=["jumpp"])
    with pytest.raises(ClassBankError, match="single string 'jump'"):
        localizer.detect(x, duration_s=9.0, class_bank="jump")
    with pytest.raises(ClassBankError, match="another text encoder: fingerprint 'other'"):
        localizer.detect(x, duration_s=9.0, class_bank=tiny.bank(("golf",), fingerprint="other"))
    wide = ClassBank(("golf",), np.zeros((1, 7), np.float32), tiny.FINGERPRINT)
    with pytest.raises(ClassBankError, match=r"\(K, 6\).*got float32 \(1, 7\)"):
        localizer.detect(x, duration_s=9.0, class_bank=wide)


def test_score_enhancement_reaches_the_decoder(localizer) -> None:
    x = tiny.features(20)
    plain = localizer.detect(x, duration_s=9.0)
    enhanced = localizer.detect(x, duration_s=9.0, video_label="pole vault", video_score=0.99)
    _assert_same(enhanced, _expected(x, tiny.bank(), duration_s=9.0, video_label="pole vault", video_score=0.99))
    assert {d.label for d in plain} != {"pole vault"}
    assert all(d.label == "pole vault" for d in enhanced if d.score <= 0.99)
    with pytest.raises(ValueError, match="video_score"):
        localizer.detect(x, duration_s=9.0, video_label="pole vault")


@pytest.mark.parametrize("duration_s", [0, -1.0, float("nan"), float("inf"), True])
def test_a_duration_must_be_one(localizer, duration_s) -> None:
    with pytest.raises(ValueError, match="duration_s must be the video's length"):
        localizer.detect(tiny.features(4), duration_s=duration_s)


def test_detect_takes_one_video(localizer) -> None:
    with pytest.raises(FeatureContractError, match=r"one video, features \(T, C\); got shape \(2, 4, 8\)"):
        localizer.detect(tiny.features(4, batch=2), duration_s=1.0)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_features_that_overflow_the_network_are_refused(localizer) -> None:
    with pytest.raises(FeatureContractError, match=r"class_logits are not finite for features of up to 3e\+38"):
        localizer.detect(np.full((5, tiny.CHANNELS), 3e38, np.float32) * np.sign(tiny.features(5)), duration_s=5)


def test_classes_added_on_the_device_are_found(tmp_path) -> None:
    path = tiny.write(tmp_path / "bundle")
    x = tiny.features(20)
    add_classes(path, tiny.bank(("golf",)))
    _assert_same(
        load_bundle(path).detect(x, duration_s=9.0), _expected(x, tiny.bank((*tiny.NAMES, "golf")), duration_s=9.0)
    )


# --- threads ---------------------------------------------------------------------------------------------------------


def test_eight_threads_share_one_session(localizer) -> None:
    """Every thread gets, for its own inputs of changing length, bit for bit what it would get alone."""
    inputs = [
        [tiny.features(5 + (thread * 7 + i * 3) % 40, seed=100 * thread + i) for i in range(25)] for thread in range(8)
    ]

    def work(x):
        outputs = localizer.forward(x)
        return [outputs[name] for name in outputs], localizer.detect(x, duration_s=30.0)

    serial = [[work(x) for x in videos] for videos in inputs]
    together: list = [None] * 8
    barrier = threading.Barrier(8)

    def run(thread: int) -> None:
        barrier.wait()
        together[thread] = [work(x) for x in inputs[thread]]

    threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for alone, shared in zip(serial, together, strict=True):
        for (arrays, detections), (shared_arrays, shared_detections) in zip(alone, shared, strict=True):
            assert shared_detections == detections
            for a, b in zip(arrays, shared_arrays, strict=True):
                np.testing.assert_array_equal(a, b)


# --- loading ---------------------------------------------------------------------------------------------------------


def test_properties(localizer) -> None:
    assert localizer.class_bank == tiny.bank()
    assert localizer.feature_contract == tiny.contract()
    assert localizer.decode_config == tiny.DECODE
    assert (localizer.runtime, localizer.precision, localizer.note) == ("onnxruntime", "fp32", "")
    assert localizer.manifest.architecture == "paper"


def test_fp16_runs_on_a_cpu_and_says_that_it_does_not_pay(path) -> None:
    with pytest.warns(PrecisionWarning, match=r"detector-fp16\.onnx: fp16 is slower than fp32 on a CPU"):
        localizer = load_bundle(path, precision="fp16")
    assert localizer.precision == "fp16"
    assert load_bundle(path, precision="int8").precision == "int8"


def test_what_the_bundle_has_is_listed(path) -> None:
    with pytest.raises(BundleError, match="no torchscript fp32 detector; it has: onnxruntime fp32, onnxruntime fp16"):
        load_bundle(path, runtime="torchscript")
    with pytest.raises(BundleError, match="onnxruntime runs detectors in fp32, fp16, int8, int8-static; got 'fp8'"):
        load_bundle(path, precision="fp8")
    with pytest.raises(BundleError, match=r"detectors with onnxruntime, openvino, torchscript.*; got 'tflite'"):
        load_bundle(path, runtime="tflite")
    with pytest.raises(BundleError, match="does not exist"):
        load_bundle(path / "nowhere")


@pytest.mark.parametrize("threads", [0, -1, 1.0, True])
def test_threads_are_counted(path, threads) -> None:
    with pytest.raises(ValueError, match="threads must be an integer >= 1"):
        load_bundle(path, threads=threads)


def test_a_path_may_be_a_string_and_threads_more_than_one(path) -> None:
    x = tiny.features(30)
    one, two = load_bundle(str(path)), load_bundle(str(path), threads=2)
    np.testing.assert_allclose(one.forward(x)["masks"], two.forward(x)["masks"], atol=SAME_ARITHMETIC)


def test_the_bytes_that_are_used_are_checked(path, tmp_path) -> None:
    bundle = shutil.copytree(path, tmp_path / "bundle")
    (bundle / "detector-int8.onnx").write_bytes(b"never opened")
    assert load_bundle(bundle).precision == "fp32"
    with pytest.raises(VerificationError, match=r"detector-int8\.onnx has 12 bytes"):
        load_bundle(bundle, precision="int8")
    bank = bundle / "class_bank.npz"
    bank.write_bytes(bank.read_bytes()[:-1] + b"\x01")
    with pytest.raises(VerificationError, match=r"class_bank\.npz has changed"):
        load_bundle(bundle)


def _replace_detector(bundle: Path, model: onnx.ModelProto | bytes) -> None:
    """Replace the fp32 detector and update the manifest correctly."""
    import hashlib

    content = model if isinstance(model, bytes) else model.SerializeToString()
    (bundle / "detector-fp32.onnx").write_bytes(content)
    entry = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    tiny.edit_manifest(bundle, lambda values: values["files"][0].update(entry))


def test_a_detector_that_is_not_what_the_manifest_says(path, tmp_path) -> None:
    bundle = shutil.copytree(path, tmp_path / "bundle")
    good = onnx.load(bundle / "detector-fp32.onnx")
    metadata = {item.key: item.value for item in good.metadata_props}

    _replace_detector(bundle, tiny.model(metadata=metadata, length=16))
    with pytest.raises(BundleError, match=r"input features is float32 \('B', 16, 8\), promised .* \('B', 'T', 8\)"):
        load_bundle(bundle)

    renamed = tiny.model(metadata=metadata)
    renamed.graph.output[2].name = renamed.graph.node[-1].output[0] = "actionness"
    _replace_detector(bundle, renamed)
    localizer = load_bundle(bundle)
    assert localizer.detect(tiny.features(9), duration_s=3.0), "what decoding reads is as promised"
    with pytest.raises(BundleError, match=r"outputs are \['actionness', 'class_logits', 'masks'\], promised"):
        localizer.forward(tiny.features(9))
    renamed.graph.output[1].name = renamed.graph.node[-3].output[0] = "boxes"
    _replace_detector(bundle, renamed)
    with pytest.raises(BundleError, match="the graph has no output masks; it has actionness, boxes, class_logits"):
        load_bundle(bundle)

    _replace_detector(bundle, tiny.model(metadata={**metadata, "stale_edge.format": "stale-edge-bundle/0"}))
    with pytest.raises(BundleError, match=r"metadata stale_edge\.format is stale-edge-bundle/0"):
        load_bundle(bundle)

    contract = json.loads(metadata["stale_edge.feature_contract"]) | {"encoder": "another"}
    _replace_detector(bundle, tiny.model(metadata={**metadata, "stale_edge.feature_contract": json.dumps(contract)}))
    with pytest.raises(BundleError, match=r"metadata stale_edge\.feature_contract.*another"):
        load_bundle(bundle)

    _replace_detector(bundle, b"not onnx")
    with pytest.raises(BundleError, match=r"not an ONNX model|cut short"):
        load_bundle(bundle)


def test_torchscript_computes_the_same(tmp_path) -> None:
    path = tiny.write(tmp_path / "bundle", torchscript=True)
    ours, theirs = load_bundle(path), load_bundle(path, runtime="torchscript")
    for x in (tiny.features(13), tiny.features(4, batch=3)):
        found, wanted = theirs.forward(x), ours.forward(x)
        assert list(found) == list(wanted)
        for name, value in wanted.items():
            np.testing.assert_allclose(found[name], value, atol=SAME_ARITHMETIC)
    _assert_same(theirs.detect(tiny.features(9), duration_s=3.0), ours.detect(tiny.features(9), duration_s=3.0))


def test_torchscript_files_that_are_none(tmp_path) -> None:
    (tmp_path / "x.pt").write_bytes(b"no")
    with pytest.raises(BundleError, match=r"x\.pt: torch .* cannot load it"):
        open_backend(tmp_path / "x.pt", runtime="torchscript")
    with pytest.raises(BundleError, match="got 'tflite'"):
        open_backend(tmp_path / "x.pt", runtime="tflite")


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", SAME_ARITHMETIC), ("bf16", 0.1)])
def test_openvino_runs_the_onnx_files(path, precision, tolerance) -> None:
    """bf16 has 8 bits of mantissa where the processor has it."""
    ours, theirs = load_bundle(path), load_bundle(path, runtime="openvino", precision=precision)
    assert (theirs.runtime, theirs.precision) == ("openvino", precision)
    for x in (tiny.features(13), tiny.features(4, batch=3)):
        found, wanted = theirs.forward(x), ours.forward(x)
        assert list(found) == list(wanted)
        for name, value in wanted.items():
            np.testing.assert_allclose(found[name], value, atol=tolerance)
    if precision == "fp32":
        _assert_same(theirs.detect(tiny.features(9), duration_s=3.0), ours.detect(tiny.features(9), duration_s=3.0))


def test_openvino_files_that_are_none(tmp_path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no")
    with pytest.raises(BundleError, match=r"x\.onnx: OpenVINO .* cannot load it"):
        open_backend(tmp_path / "x.onnx", runtime="openvino")
    with pytest.raises(BundleError, match="openvino runs detectors in fp32, bf16, int8-static, int8-bf16; got 'fp16'"):
        open_backend(tmp_path / "x.onnx", runtime="openvino", precision="fp16")


def test_without_openvino_the_extra_is_named(path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"stale-edge\[openvino\]"):
        load_bundle(path, runtime="openvino")


def test_detect_loads_only_what_decoding_reads(path) -> None:
    backend = load_bundle(path)._decoding
    assert backend.outputs is not None
    assert [spec.name for spec in backend.outputs] == ["class_logits", "masks"]


def test_without_torch_only_torchscript_is_missing(tmp_path) -> None:
    """A process without torch can detect, and an error names the extra that TorchScript needs."""
    scripted = tiny.write(tmp_path / "bundle", torchscript=True)
    np.save(tmp_path / "x.npy", tiny.features(20))
    script = f"""
import sys
for name in ("torch", "onnx", "transformers"):
    sys.modules[name] = None
import numpy as np
import stale_edge
from stale_edge.errors import MissingExtraError
found = stale_edge.load_bundle({str(scripted)!r}).detect(np.load({str(tmp_path / "x.npy")!r}), duration_s=9.0)
assert found and isinstance(found[0], stale_edge.Detection)
try:
    stale_edge.load_bundle({str(scripted)!r}, runtime="torchscript")
except MissingExtraError as error:
    assert "stale-edge[train]" in str(error), error
else:
    raise SystemExit("torchscript without torch went through")
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_importing_the_runtime_does_not_import_onnxruntime() -> None:
    script = "import sys, stale_edge.runtime; sys.exit('onnxruntime' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_data_sets_of_another_kind(localizer) -> None:
    from dataclasses import replace

    from stale_edge.config import FeatureSpec

    contract = localizer.feature_contract
    check_feature_spec(contract, FeatureSpec("tiny-encoder", 8, 25.0, 5))
    check_feature_spec(contract, FeatureSpec(channels=8))
    check_feature_spec(replace(contract, encoder="unspecified", fps=None, stride=None), FeatureSpec("a", 8, 1.0, 2))
    with pytest.raises(
        FeatureContractError, match=r"C is 9.*encoder is 'a'.*fps is 30\.0.*stride is 4, the contract says 5"
    ):
        check_feature_spec(contract, FeatureSpec("a", 9, 30.0, 4))
