"""The manifest: its content, and every way in which it can be wrong."""

import copy
import json
from pathlib import Path

import pytest
import tiny

from stale_edge.bundle import (
    Bundle,
    FeatureContract,
    Manifest,
    TensorSpec,
    detector_inputs,
    mask_detector_outputs,
    read_bundle,
)
from stale_edge.bundle.manifest import is_sealed, sealed_text
from stale_edge.config import DecodeConfig, FeatureSpec
from stale_edge.errors import BundleError, ConfigError


@pytest.fixture(scope="module")
def values(tmp_path_factory) -> dict:
    path = tiny.write(tmp_path_factory.mktemp("m") / "bundle", precisions=("fp32", "int8"))
    return json.loads((path / "manifest.json").read_text(encoding="utf-8"))


def test_text_and_dataclasses_agree(values) -> None:
    manifest = Manifest.from_json(values)
    assert Manifest.from_text(manifest.to_text()) == manifest
    assert {**manifest.to_json(), "manifest_sha256": values["manifest_sha256"]} == values
    assert manifest.decode == tiny.DECODE
    assert manifest.feature_contract == tiny.contract()
    assert [entry.path for entry in manifest.detectors] == ["detector-fp32.onnx", "detector-int8.onnx"]
    assert manifest.class_bank.path == "class_bank.npz"


def test_the_seal_is_of_the_bytes(values) -> None:
    content = Manifest.from_json(values).to_text().encode()
    assert is_sealed(content)
    for other in (content[:-1], content + b" ", content.replace(b"\n", b"\r\n"), b"\xff", b"[]", b"{}", b"[" * 100_000):
        assert not is_sealed(other)
    unsealed = {key: value for key, value in values.items() if key != "manifest_sha256"}
    assert not is_sealed(json.dumps(unsealed, indent=2).encode())
    assert Manifest.from_json(unsealed) == Manifest.from_json(values), "reading needs no seal, verifying does"
    assert is_sealed(sealed_text({"parity": {2: 1, 10: "日本 \ud800"}}).encode("utf-8", "surrogatepass")) is False
    assert is_sealed(sealed_text({"parity": {2: 1, 10: "日本"}}).encode())


def test_what_the_contract_promises_is_in_the_json(values) -> None:
    assert values["format"] == "stale-edge-bundle/2"
    assert values["architecture"] == "paper"
    assert values["feature_contract"]["channels"] == tiny.CHANNELS
    assert values["feature_contract"]["length"] is None
    int8 = values["files"][1]
    assert (int8["runtime"], int8["precision"]) == ("onnxruntime", "int8")
    assert (int8["weights_quantized"], int8["weights_total"]) == (48, 55)
    assert int8["inputs"][0] == {"name": "features", "dtype": "float32", "shape": ["B", "T", 8]}
    assert int8["outputs"][0] == {"name": "class_logits", "dtype": "float32", "shape": ["B", "K+1", "T"]}
    assert values["parity"] == {"fp32": {"flipped_snippets": 0}}


def _set(*keys_and_value):
    *keys, last, value = keys_and_value

    def change(values) -> None:
        for key in keys:
            values = values[key]
        values[last] = value

    return change


def _drop(*keys):
    *keys, last = keys

    def change(values) -> None:
        for key in keys:
            values = values[key]
        del values[last]

    return change


def _turn(index, role, **changes):
    def change(values) -> None:
        values["files"][index].update(role=role, **changes)

    return change


BAD = {
    "another version": (_set("format", "stale-edge-bundle/9"), "format 'stale-edge-bundle/9'"),
    "no version": (_drop("format"), "format None"),
    "not an object": (_set("files", {}), "files must be a JSON list; got dict"),
    "unknown key": (_set("colour", 1), "unknown colour"),
    "missing key": (_drop("parity"), "missing parity"),
    "format 1 with a later key": (_set("format", "stale-edge-bundle/1"), "unknown normalize, num_frames"),
    "architecture": (_set("architecture", ""), "architecture must be a non-empty string"),
    "architecture of another type": (_set("architecture", ["paper"]), "architecture must be a non-empty string"),
    "policy": (_set("decode", "policy", "telepathy"), "decode.policy must be one of paper, release, points, runs"),
    "frames": (_set("feature_contract", "num_frames", 0), "num_frames must be an integer >= 1 or null"),
    "contract without C": (_drop("feature_contract", "channels"), "feature_contract: missing channels"),
    "C of another type": (_set("feature_contract", "channels", "8"), "feature_contract.channels must be of type int"),
    "C is a boolean": (_set("feature_contract", "channels", True), "feature_contract.channels must be of type int"),
    "C is zero": (_set("feature_contract", "channels", 0), "channels must be an integer >= 1"),
    "T is zero": (_set("feature_contract", "length", 0), "length must be an integer >= 1 or null"),
    "resampling": (_set("feature_contract", "resampling", "cubic"), "resampling must be one of"),
    "resampling nowhere": (_set("feature_contract", "resample_to", None), "resample_to must be an integer >= 1"),
    "decode": (_set("decode", "sigma", -1), "decode.sigma must be a number > 0"),
    "decode key": (_set("decode", "sigmas", 1), "did you mean decode.sigma"),
    "hash": (_set("files", 0, "sha256", "ABC"), r"files\[0\].sha256 must be 64"),
    "size": (_set("files", 0, "bytes", -1), r"files\[0\].bytes must be an integer >= 0; got -1"),
    "size is a boolean": (_set("files", 0, "bytes", True), "bytes must be an integer"),
    "role": (_set("files", 0, "role", "sidecar"), r"files\[0\].role must be one of"),
    "runtime": (_set("files", 0, "runtime", None), r"files\[0\].runtime must be a non-empty string"),
    "runtime of the bank": (_set("files", 2, "runtime", "numpy"), "must be null for a class bank"),
    "shape": (_set("files", 0, "inputs", 0, "shape", ["B", 0, 8]), "sizes >= 1 and symbolic names"),
    "no inputs": (_set("files", 0, "inputs", []), "a detector needs inputs and outputs"),
    "localizer without precision": (_turn(0, "localizer", precision=None), "precision must be a non-empty string"),
    "text encoder without outputs": (_turn(0, "text_encoder", outputs=[]), "a text encoder needs inputs and outputs"),
    "tokenizer with precision": (_turn(2, "tokenizer", precision="fp32"), "must be null for a tokenizer; got 'fp32'"),
    "tokenizer with inputs": (
        _turn(0, "tokenizer", runtime=None, precision=None, outputs=[]),
        "a tokenizer has neither inputs nor outputs",
    ),
    "visual encoder with half a signature": (_turn(0, "visual_encoder", outputs=[]), "needs inputs and outputs"),
    "visual encoder's own manifest with a runtime": (
        _turn(2, "visual_encoder", runtime="onnxruntime"),
        "must be null for a file without inputs and outputs",
    ),
    "impossible count": (_set("files", 1, "weights_quantized", 56), "56 weights quantized of 55"),
    "no class bank": (_drop("files", 2), "exactly one class bank; the manifest lists none"),
    "two of a kind": (_set("files", 1, "precision", "fp32"), "two files of role detector for onnxruntime fp32"),
    "listed twice": (_set("files", 1, "path", "detector-fp32.onnx"), "lists a file twice"),
    "twice but for case": (_set("files", 1, "path", "Detector-FP32.onnx"), "lists a file twice"),
    "climbs": (_set("files", 0, "path", "../detector.onnx"), r"outside the bundle: '\.\./detector\.onnx'"),
    "climbs later": (_set("files", 0, "path", "a/../../b.onnx"), "outside the bundle"),
    "absolute": (_set("files", 0, "path", "/etc/passwd"), "outside the bundle: '/etc/passwd'"),
    "Windows drive": (_set("files", 0, "path", "C:detector.onnx"), "outside the bundle"),
    "Windows separators": (_set("files", 0, "path", "..\\detector.onnx"), "outside the bundle"),
    "empty path": (_set("files", 0, "path", ""), "path must be a non-empty string"),
    "the folder itself": (_set("files", 0, "path", "."), "outside the bundle"),
    "not its plain name": (_set("files", 0, "path", "./detector.onnx"), r"has the part '\.'"),
    "the manifest itself": (_set("files", 0, "path", "manifest.json"), "no file of a bundle can be called"),
    "provenance": (_set("provenance", []), "provenance must be a JSON object"),
}


def test_every_role_has_its_place(values) -> None:
    more = copy.deepcopy(values)
    graph, bank = more["files"][0], more["files"][2]
    more["files"] += [
        {**graph, "path": "localizer-fp32.onnx", "role": "localizer"},
        {**graph, "path": "text_encoder.onnx", "role": "text_encoder"},
        {**bank, "path": "tokenizer.json", "role": "tokenizer"},
        {**bank, "path": "encoder/manifest.json", "role": "visual_encoder"},
        {**graph, "path": "encoder/encoder-fp32.onnx", "role": "visual_encoder"},
        {**graph, "path": "triton/stale/1/model.onnx", "role": "model_repository", "runtime": "triton"},
        {**bank, "path": "triton/stale/config.pbtxt", "role": "model_repository"},
    ]
    bundle = Bundle(Path("b"), Manifest.from_json(more))
    assert bundle.file("localizer", precision="fp32").path == "localizer-fp32.onnx"
    assert bundle.file("tokenizer").path == "tokenizer.json"
    assert bundle.file("class_bank") == bundle.manifest.class_bank
    assert [entry.path for entry in bundle.manifest.of_role("visual_encoder")] == [
        "encoder/manifest.json",
        "encoder/encoder-fp32.onnx",
    ]
    with pytest.raises(BundleError, match="no int8 localizer; it has: onnxruntime fp32"):
        bundle.file("localizer", precision="int8")
    with pytest.raises(BundleError, match="has no tokenizer; it has: no tokenizer"):
        Bundle(Path("b"), Manifest.from_json(values)).file("tokenizer")


@pytest.mark.parametrize("case", BAD, ids=str)
def test_refuses_by_name(values, case) -> None:
    change, said = BAD[case]
    edited = copy.deepcopy(values)
    change(edited)
    with pytest.raises(BundleError, match=said):
        Manifest.from_json(edited)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[]", "manifest must be a JSON object; got list"),
        ('{"format": "stale-edge-bundle/2", "format": "stale-edge-bundle/2"}', "'format' stands twice"),
        ('{"format": NaN}', "NaN is no JSON number"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_refuses_text(text, said) -> None:
    with pytest.raises(BundleError, match=said):
        Manifest.from_text(text)


def test_a_folder_without_a_readable_manifest(tmp_path) -> None:
    with pytest.raises(BundleError, match="does not exist; a bundle is a folder"):
        read_bundle(tmp_path / "none")
    (tmp_path / "file").write_text("x")
    with pytest.raises(BundleError, match="is a file"):
        read_bundle(tmp_path / "file")
    with pytest.raises(BundleError, match=r"manifest\.json is missing"):
        read_bundle(tmp_path)
    (tmp_path / "manifest.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(BundleError, match=r"cannot read manifest\.json"):
        read_bundle(tmp_path)


def test_feature_contract_resolves_the_length_it_resamples_to() -> None:
    spec = FeatureSpec("clip", 8, 30.0, 16)
    fixed = FeatureContract.from_spec(spec, length=100, resampling="linear")
    assert fixed.resample_to == 100
    free = FeatureContract.from_spec(spec, length=None, resampling="linear", resample_to=64)
    assert (free.length, free.resample_to) == (None, 64)
    as_it_comes = FeatureContract.from_spec(spec, length=None, resampling="none")
    assert as_it_comes.resample_to is None
    for arguments in ({"length": None}, {"length": 100, "resample_to": 64}, {"length": None, "resample_to": 0}):
        with pytest.raises(ConfigError, match="resample_to must be an integer >= 1"):
            FeatureContract.from_spec(spec, resampling="linear", **arguments)
    with pytest.raises(ConfigError, match="null without resampling"):
        FeatureContract.from_spec(spec, length=None, resampling="none", resample_to=5)


def test_signature_of_the_contract() -> None:
    assert detector_inputs(channels=512, embed_dim=256, length=100) == (
        TensorSpec("features", "float32", ("B", 100, 512)),
        TensorSpec("class_embeddings", "float32", ("K", 256)),
    )
    assert [spec.shape for spec in mask_detector_outputs(length=None)] == [
        ("B", "K+1", "T"),
        ("B", "T", "T"),
        ("B", "T"),
    ]


def test_decode_keys_that_an_older_kit_did_not_write_keep_their_defaults(values) -> None:
    edited = copy.deepcopy(values)
    del edited["decode"]["regions"]
    assert Manifest.from_json(edited).decode.regions == DecodeConfig().regions
