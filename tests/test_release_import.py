"""`stale-edge import`: checkpoint files of the public code, good ones and all kinds of bad ones."""

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from test_model_release import public_state_dict
from torch import Tensor

from stale_edge.bundle import ClassBank
from stale_edge.config import DecodeConfig, Policy
from stale_edge.data import resample
from stale_edge.errors import BundleError, CheckpointError, DataError
from stale_edge.model import (
    TextEncoder,
    class_bank,
    load_checkpoint,
    random_release,
    read_checkpoint,
    small_text_encoder,
)
from stale_edge.model.parameters import describe_checkpoint, public_blocks, totals
from stale_edge.model.stale.release_import import PROMPT, import_release
from stale_edge.model.stale.release_weights import NEVER_USED, public_shapes

DIM, LENGTH, HEADS = 8, 5, 2
NAMES = ("Long jump", "Pole vault")
GOLDEN_TOLERANCE = 1e-4  # asked for by the golden cases
DEAD = {
    "proj.0.weight": (512, 2048, 3),
    "proj.0.bias": (512,),
    "bn1.weight": (2048,),
    "bn1.bias": (2048,),
    "reduce_mask.0.weight": (1, 100, 1),
    "reduce_mask.0.bias": (1,),
    "mask_MLP.0.weight": (1, 5, 1),
    "mask_MLP.0.bias": (1,),
}
"""Shapes that the public class gives what it never uses, and that the golden list leaves out."""
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small text tower with its tokenizer, standing in for CLIP's."""
    folder = tmp_path_factory.mktemp("clip")
    small_text_encoder(folder, dim=DIM, hidden_dim=16, n_heads=1, seed=3)
    return folder


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("names") / "classes.txt"
    path.write_text("\n".join(NAMES) + "\n", encoding="utf-8")
    return path


def tiny_tensors(clip: Path) -> dict[str, Tensor]:
    """Make a small state dict with all kinds of tensors that a public one has."""
    generator = torch.Generator().manual_seed(0)
    shapes = {**public_shapes(length=LENGTH, dim=DIM, n_heads=HEADS), **dict.fromkeys(sorted(NEVER_USED), (3,))}
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    tensors["bn1.num_batches_tracked"] = torch.tensor(7)
    for name, tensor in TextEncoder.load(clip).tower.state_dict().items():
        tensors[f"txt_model.{name}"] = tensor
    tensors["txt_model.text_model.embeddings.position_ids"] = torch.arange(77)[None]  # as transformers < 4.31 saved
    tensors["txt_model.vision_model.post_layernorm.weight"] = torch.zeros(768)
    tensors["txt_model.visual_projection.weight"] = torch.zeros(4, 768)
    tensors["txt_model.logit_scale"] = torch.tensor(4.6)
    return tensors


def save(path: Path, tensors: dict[str, Tensor], **how: object) -> Path:
    state = {f"module.{name}": tensor for name, tensor in tensors.items()}
    torch.save({"epoch": 4, "state_dict": state}, path, **how)
    return path


@pytest.fixture(scope="module")
def good(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("release") / "STALE_best.pth.tar", tiny_tensors(clip))


def test_with_a_tokenizer_the_text_tower_of_the_file_encodes_prompts(
    good: Path, clip: Path, names: Path, tmp_path: Path
) -> None:
    report = import_release(good, tmp_path / "ckpt", classes=names, tokenizer=clip)
    checkpoint = read_checkpoint(tmp_path / "ckpt")
    assert (report.epoch, report.temporal_scale, report.text_encoder) == (4, LENGTH, True)
    assert checkpoint.sha256 == report.sha256
    assert checkpoint.class_bank.names == NAMES
    with torch.no_grad():
        expected = TextEncoder.load(clip).encode([f"a video of action {name}" for name in NAMES])
    np.testing.assert_allclose(checkpoint.class_bank.embeddings, expected.numpy(), atol=1e-6)
    config = checkpoint.config
    assert (config.model.architecture, config.model.temporal_scale, config.train.n_snippets) == ("release", 5, 5)
    assert config.decode == DecodeConfig(policy="release")
    assert (checkpoint.feature_spec.encoder, checkpoint.feature_spec.channels) == ("openai/clip-vit-base-patch32", DIM)
    assert checkpoint.origin is not None
    assert checkpoint.origin["file"] == good.name


def test_classes_encoded_later_use_the_same_prompt(good: Path, clip: Path, names: Path, tmp_path: Path) -> None:
    import_release(good, tmp_path / "ckpt", classes=names, tokenizer=clip)
    encoder = read_checkpoint(tmp_path / "ckpt").text_encoder
    assert isinstance(encoder, TextEncoder)
    assert encoder.prompt == PROMPT
    plain = TextEncoder.load(clip)
    with torch.no_grad():
        torch.testing.assert_close(encoder.encode(["Ski {}"]), plain.encode(["a video of action Ski {}"]))
    assert encoder.fingerprint() != plain.fingerprint()


def test_a_class_bank_goes_in_as_it_is(good: Path, tmp_path: Path) -> None:
    bank = ClassBank(NAMES, np.eye(2, DIM, dtype=np.float32), "elsewhere")
    bank.save(tmp_path / "bank.npz")
    report = import_release(good, tmp_path / "ckpt", bank=tmp_path / "bank.npz")
    checkpoint = read_checkpoint(tmp_path / "ckpt")
    assert checkpoint.class_bank == bank
    assert checkpoint.text_encoder is None
    assert not report.text_encoder
    assert not (tmp_path / "ckpt" / "text_encoder").exists()


def test_without_class_names_there_is_the_network_alone(run: Run, good: Path, clip: Path, tmp_path: Path) -> None:
    code, out, _ = run("import", good, "--out", tmp_path / "ckpt")
    assert code == 0
    assert "holds neither class names nor a tokenizer" in " ".join(out.split())
    checkpoint = read_checkpoint(tmp_path / "ckpt")
    assert (checkpoint.vocabulary, checkpoint.text_encoder) == ((), None)
    import_release(good, tmp_path / "full", tokenizer=clip)
    one, other = load_checkpoint(tmp_path / "ckpt").state_dict(), load_checkpoint(tmp_path / "full").state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(CheckpointError, match="no classes to look for; import it again with --classes and --tokenizer"):
        assert checkpoint.class_bank
    code, _, err = run("export", tmp_path / "ckpt", "--out", tmp_path / "bundle")
    assert code == 1
    assert "no classes to look for" in err
    assert not (tmp_path / "bundle").exists()


@pytest.fixture(scope="module")
def named_late(good: Path, clip: Path, names: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder: a checkpoint with classes (`ckpt`), one without (`unnamed`), and a bundle of the latter."""
    from stale_edge.exporting import export_checkpoint

    folder = tmp_path_factory.mktemp("late")
    import_release(good, folder / "ckpt", tokenizer=clip, classes=names)
    import_release(good, folder / "unnamed", tokenizer=clip)
    export_checkpoint(folder / "unnamed", folder / "bundle", formats=["onnx"], precisions=["fp32"], classes=names)
    return folder


def test_with_a_tokenizer_alone_classes_are_named_at_export(named_late: Path, tmp_path: Path) -> None:
    from stale_edge.bundle import read_bundle
    from stale_edge.exporting import export_checkpoint

    assert read_bundle(named_late / "bundle").class_bank == read_checkpoint(named_late / "ckpt").class_bank
    with pytest.raises(CheckpointError, match="no classes to look for; give --classes"):
        export_checkpoint(named_late / "unnamed", tmp_path / "bundle", formats=["onnx"], precisions=["fp32"])


def test_evaluate_decodes_as_the_public_script_does(run: Run, named_late: Path, tmp_path: Path) -> None:
    """Checkpoint, bundle, and a checkpoint with classes from the data set give the same result."""
    from stale_edge.decoding import decode
    from stale_edge.runtime import load_bundle

    rng = np.random.default_rng(0)
    data = tmp_path / "data"
    (data / "features").mkdir(parents=True)
    videos = {f"v{i}": rng.standard_normal((7 + i, DIM)).astype(np.float32) for i in range(3)}
    for video, features in videos.items():
        np.save(data / "features" / f"{video}.npy", features)
    database = {
        video: {
            "duration": 30.0,
            "subset": "validation",
            "annotations": [{"segment": [0.0, 20.0], "label": NAMES[i % 2]}],
        }
        for i, video in enumerate(videos)
    }
    (data / "annotations.json").write_text(json.dumps({"version": "1", "taxonomy": [], "database": database}))
    spec = {"encoder": "openai/clip-vit-base-patch32", "channels": DIM, "fps": None, "stride": None}
    (data / "feature_spec.json").write_text(json.dumps(spec), encoding="utf-8")
    results = []
    for source in ("ckpt", "unnamed", "bundle"):
        code, out, err = run("evaluate", named_late / source, "--data", data, "--json", "-")
        assert code == 0, err
        results.append(json.loads(out)["average_mAP"])
    assert results == pytest.approx([results[0]] * 3, abs=1e-6)
    assert results[0] > 0
    localizer = load_bundle(named_late / "bundle")
    outputs = localizer.forward(resample(videos["v0"], LENGTH))
    arrays = (outputs["class_logits"], outputs["masks"])
    by_script = decode(*arrays, class_names=NAMES, duration_s=30.0, policy="release")
    assert localizer.detect(videos["v0"], duration_s=30.0) == by_script
    assert decode(*arrays, class_names=NAMES, duration_s=30.0, policy="paper") != by_script


def test_an_old_kind_of_file_without_prefixes_and_text_tower_is_read_too(
    good: Path, clip: Path, tmp_path: Path
) -> None:
    tensors = tiny_tensors(clip)
    bare = {name: tensor for name, tensor in tensors.items() if name in public_shapes(length=5, dim=8, n_heads=2)}
    torch.save({"state_dict": bare}, tmp_path / "old.pth.tar", _use_new_zipfile_serialization=False)
    ClassBank(NAMES, np.eye(2, DIM, dtype=np.float32), "elsewhere").save(tmp_path / "bank.npz")
    for file in (good, tmp_path / "old.pth.tar"):
        import_release(file, tmp_path / file.stem, bank=tmp_path / "bank.npz")
    old, new = (load_checkpoint(tmp_path / stem).state_dict() for stem in ("old.pth", "STALE_best.pth"))
    assert old.keys() == new.keys()
    assert all(torch.equal(old[name], new[name]) for name in old)


class Evil:
    """A pickle of this object makes a folder when it is read unsafely."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def _truncated(bad: Path) -> None:
    torch.save({"epoch": 1, "state_dict": {"a": torch.ones(9)}}, bad)
    content = bad.read_bytes()
    bad.write_bytes(content[: len(content) // 2])


def _zip(bad: Path) -> None:
    with zipfile.ZipFile(bad, "w") as archive:
        archive.writestr("notes.txt", "holidays")


def _legacy_truncated(bad: Path) -> None:
    torch.save({"epoch": 1, "state_dict": {"a": torch.ones(9)}}, bad, _use_new_zipfile_serialization=False)
    bad.write_bytes(bad.read_bytes()[:-6])


FILES = {
    "text": (lambda bad: bad.write_text("hello, world\n"), "begins with b'hell': not written by torch.save"),
    "empty": (lambda bad: bad.touch(), "begins with b'': not written by torch.save"),
    "folder": (lambda bad: bad.mkdir(), "is a folder"),
    "absent": (lambda _: None, "no file"),
    "truncated": (_truncated, "is truncated"),
    "old and truncated": (_legacy_truncated, "is truncated, damaged"),
    "zip": (_zip, "is truncated, damaged or not written by torch.save"),
    "plain pickle": (lambda bad: bad.write_bytes(pickle.dumps({"a": 1})), "a pickle that torch.save did not"),
    "code": (lambda bad: torch.save({"state_dict": Evil(bad.parent / "run")}, bad), r"asks to run code.*mkdir"),
    "code in a plain pickle": (
        lambda bad: bad.write_bytes(pickle.dumps(Evil(bad.parent / "run"), protocol=2)),
        r"asks to run code.*mkdir",
    ),
    "another network": (lambda bad: torch.save({"model": 1}, bad), "holds a dict with 'model'"),
    "a tensor": (lambda bad: torch.save(torch.ones(2), bad), "holds a Tensor"),
    "no tensors": (
        lambda bad: torch.save({"epoch": 1, "state_dict": {"module.a": 3}}, bad),
        "'module.a': int; allowed: named tensors",
    ),
    "integers": (
        lambda bad: torch.save({"state_dict": {"a": torch.ones(2, dtype=torch.int64)}}, bad),
        "'a' is torch.int64",
    ),
    "foreign tensors": (
        lambda bad: torch.save({"epoch": 1, "state_dict": {"fc.weight": torch.ones(2)}}, bad),
        "'localizer_mask.2.weight' is missing",
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_no_public_checkpoint_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    make, says = FILES[kind]
    bad = tmp_path / "bad.pth.tar"
    make(bad)
    with pytest.raises(CheckpointError, match=says) as caught:
        import_release(bad, tmp_path / "ckpt")
    assert str(bad) in str(caught.value)
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "ckpt").exists()


TEXT = "txt_model.text_model.final_layer_norm.bias"
TENSORS: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
    "missing": (lambda t: t.pop("embedding.w_qs.weight"), "'embedding.w_qs.weight' is missing"),
    "missing deep inside": (lambda t: t.pop("embedding.fc.bias"), "lacks the tensor 'embedding.fc.bias'"),
    "unknown": (lambda t: t.update(head=torch.ones(1)), "unknown tensors: head"),
    "unknown beside dead weight": (lambda t: t.update({"proj.7.bias": torch.ones(1)}), "unknown tensors: proj.7.bias"),
    "unknown in CLIP": (lambda t: t.update({"txt_model.head": torch.ones(1)}), "unknown tensors: txt_model.head"),
    "no T": (lambda t: t.update({"localizer_mask.2.weight": torch.ones(0, 4, 1)}), "T = 0"),
    "one dimension": (lambda t: t.update({"cross_att.w_ks.weight": torch.ones(3)}), r"w_ks.weight: shape \(3,\)"),
    "half of a packed tensor": (
        lambda t: t.update({"masktrans.transformer.encoder.layers.0.self_attn.in_proj_bias": torch.ones(2)}),
        r"in_proj_bias: shape \(2,\), expected \(24,\)",
    ),
    "not finite": (lambda t: t["bg_embeddings"].fill_(float("nan")), "bg_embeddings: not finite"),
    "no text tower": (
        lambda t: [t.pop(name) for name in list(t) if name.startswith("txt_model.")],
        "holds no CLIP text tower",
    ),
    "text tower: missing": (lambda t: t.pop(TEXT), f"{TEXT}: missing"),
    "text tower: shape": (lambda t: t.update({TEXT: torch.ones(3)}), TEXT + r": shape \(3,\), expected \(16,\)"),
    "text tower: unknown": (lambda t: t.update({f"{TEXT}2": torch.ones(3)}), f"{TEXT}2: unknown"),
    "text tower: not finite": (lambda t: t.update({TEXT: torch.full((16,), torch.inf)}), f"{TEXT}: not finite"),
    "text tower: width": (
        lambda t: t.update({"txt_model.text_projection.weight": torch.ones(6, 16)}),
        "gives embeddings of 6",
    ),
    "text tower: another vocabulary": (
        lambda t: t.update({"txt_model.text_model.embeddings.token_embedding.weight": torch.ones(99, 16)}),
        "is not the text tower's",
    ),
}


@pytest.mark.parametrize("kind", TENSORS)
def test_tensors_that_do_not_fit_are_refused_by_name(clip: Path, names: Path, kind: str, tmp_path: Path) -> None:
    change, says = TENSORS[kind]
    tensors = {name: tensor.clone() for name, tensor in tiny_tensors(clip).items()}
    change(tensors)
    file = save(tmp_path / "bad.pth.tar", tensors)
    with pytest.raises(CheckpointError, match=says) as caught:
        import_release(file, tmp_path / "ckpt", classes=names, tokenizer=clip)
    assert str(file) in str(caught.value)
    assert not (tmp_path / "ckpt").exists()


def test_a_tensor_with_and_without_prefix_is_refused(tmp_path: Path) -> None:
    state = {"module.bg_embeddings": torch.ones(1, DIM), "bg_embeddings": torch.zeros(1, DIM)}
    torch.save({"state_dict": state}, tmp_path / "bad.pth.tar")
    with pytest.raises(CheckpointError, match="'bg_embeddings' twice"):
        import_release(tmp_path / "bad.pth.tar", tmp_path / "ckpt")


def test_options_that_do_not_fit_are_refused(good: Path, clip: Path, names: Path, tmp_path: Path) -> None:
    ClassBank(NAMES, np.eye(2, 3, dtype=np.float32), "elsewhere").save(tmp_path / "narrow.npz")
    (tmp_path / "long.txt").write_text("x" * 99, encoding="utf-8")
    (tmp_path / "nothing").mkdir()
    for given, error, says in [
        ({"classes": names}, CheckpointError, "holds no tokenizer, .*: give --tokenizer"),
        ({"classes": names, "bank": names}, CheckpointError, "without --classes and --tokenizer"),
        ({"tokenizer": clip, "bank": names}, CheckpointError, "without --classes and --tokenizer"),
        ({"bank": tmp_path / "narrow.npz"}, CheckpointError, "of width 3; .* needs 8"),
        ({"bank": names}, BundleError, "classes.txt: not a readable class bank"),
        ({"classes": tmp_path / "absent.txt", "tokenizer": clip}, DataError, "absent.txt"),
        (
            {"classes": tmp_path / "long.txt", "tokenizer": clip},
            CheckpointError,
            r"tokens in the prompt .*shorten the name",
        ),
        ({"classes": names, "tokenizer": tmp_path / "nothing"}, CheckpointError, "no tokenizer in"),
    ]:
        with pytest.raises(error, match=says):
            import_release(good, tmp_path / "ckpt", **given)
        assert not (tmp_path / "ckpt").exists()


def test_parameters_are_those_of_table_2_of_the_thesis(golden: Path) -> None:
    """170.7 M at T = 100: 16.2 M of them find actions, 63.4 M read class names, 91.1 M do nothing."""
    from transformers import CLIPConfig, CLIPModel

    with torch.device("meta"):
        tensors = {f"txt_model.{name}": tensor for name, tensor in CLIPModel(CLIPConfig()).state_dict().items()}
        tensors |= {name: torch.empty(shape) for name, shape in DEAD.items()}
        tensors["bn1.running_mean"] = torch.empty(2048)
    tensors |= public_state_dict(golden, seed=1)
    counts = totals(public_blocks(tensors))
    assert counts["all"] == sum(counts[use] for use in ("detector", "class names", "never"))
    millions = {use: round(count / 1e6, 1) for use, count in counts.items()}
    assert millions == {"all": 170.7, "detector": 16.2, "class names": 63.4, "never": 91.1}
    assert counts["detector"] == sum(parameter.numel() for parameter in random_release(100).parameters())


def test_inspect_shows_what_is_used_and_what_is_dead_weight(
    run: Run, good: Path, clip: Path, names: Path, tmp_path: Path
) -> None:
    arguments = ("import", good, "--out", tmp_path / "ckpt", "--classes", names, "--tokenizer", clip)
    code, out, err = run(*arguments, "--json", "-")
    assert code == 0
    assert json.loads(out)["classes"] == list(NAMES)
    assert "never used and were left behind: txt_model.vision_model" in err
    code, out, _ = run("inspect", tmp_path / "ckpt", "--json", "-")
    assert code == 0
    found = json.loads(out)
    assert found == describe_checkpoint(tmp_path / "ckpt")
    checkpoint = read_checkpoint(tmp_path / "ckpt")
    used = sum(parameter.numel() for parameter in checkpoint.model.parameters())
    assert isinstance(checkpoint.text_encoder, TextEncoder)
    text = sum(parameter.numel() for parameter in checkpoint.text_encoder.parameters())
    never = 768 + 4 * 768 + 1 + 3 * len([name for name in NEVER_USED if "running" not in name and "num" not in name])
    assert found["parameters_by_use"] == {
        "all": used + text + never,
        "detector": used,
        "class names": text,
        "never": never,
    }
    assert {row["block"] for row in found["parameters"] if row["use"] == "never"} >= {"proj", "bn1", "contexts"}
    assert (found["snippets"], found["text_encoder"]["prompt"]) == (LENGTH, PROMPT)
    code, out, _ = run("inspect", tmp_path / "ckpt")
    assert code == 0
    assert "txt_model.vision_model" in out


def test_a_mistake_is_one_line_and_exit_code_1(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.pth.tar").write_text("no checkpoint")
    code, out, err = run("import", tmp_path / "bad.pth.tar", "--out", tmp_path / "ckpt")
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1


@pytest.fixture(scope="module")
def golden_bundle(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The golden network as a public file, imported and exported; gives checkpoint and bundle."""
    from stale_edge.exporting import export_checkpoint

    folder = tmp_path_factory.mktemp("golden")
    file = save(folder / "STALE_best.pth.tar", public_state_dict(golden, seed=1))
    text = np.load(golden / "release_forward_T100_seed1.npz")["text"]
    ClassBank(tuple(f"class {k}" for k in range(len(text))), text, "golden").save(folder / "bank.npz")
    import_release(file, folder / "ckpt", bank=folder / "bank.npz")
    export_checkpoint(folder / "ckpt", folder / "bundle", formats=["onnx"], precisions=["fp32"])
    return folder / "ckpt", folder / "bundle"


def test_golden_through_import_and_onnx(golden_bundle: tuple[Path, Path], golden: Path) -> None:
    from stale_edge.runtime import load_bundle

    case = np.load(golden / "release_forward_T100_seed1.npz")
    outputs = load_bundle(golden_bundle[1]).forward(case["features"])
    wanted = {"class_logits": case["score_maps"], "masks": case["masks"], "foreground": case["soft_mask"]}
    for name, value in wanted.items():
        np.testing.assert_allclose(outputs[name], value, atol=GOLDEN_TOLERANCE, rtol=0, err_msg=name)


@pytest.mark.parametrize("policy", ["paper", "release"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_golden_localizer_finds_what_detector_and_core_find(
    golden_bundle: tuple[Path, Path], golden: Path, precision: str, policy: Policy
) -> None:
    import onnx

    from stale_edge.decoding import decode_arrays
    from stale_edge.exporting.decoder.pipeline_graph import pipeline_graph
    from stale_edge.exporting.graph.precision import quantize_weights
    from stale_edge.runtime.onnx_session import open_session

    config = DecodeConfig(policy=policy)
    proto = onnx.load(golden_bundle[1] / "detector-fp32.onnx")
    proto = quantize_weights(proto) if precision == "int8" else proto
    model = read_checkpoint(golden_bundle[0]).config.model
    merged = pipeline_graph(proto, model=model, decode=config)
    detector, localizer = (open_session(graph.SerializeToString(), threads=1) for graph in (proto, merged))
    case = np.load(golden / "release_forward_T100_seed1.npz")
    for noise in (0.0, 0.3, 3.0):
        rng = np.random.default_rng(0)
        features = case["features"] + noise * rng.standard_normal(case["features"].shape, dtype=np.float32)
        feeds = {"features": features[None], "class_embeddings": case["text"]}
        class_logits, masks = detector.run(["class_logits", "masks"], feeds)
        wanted = decode_arrays(class_logits[0], masks[0], config=config)
        duration = np.array([120.5], dtype=np.float32)
        segments, scores, labels = localizer.run(None, {**feeds, "duration_s": duration})
        assert len(labels) > 20
        assert labels.tolist() == wanted.labels.tolist()
        np.testing.assert_allclose(segments, wanted.segments / len(features) * duration, rtol=1e-6, atol=1e-5)
        np.testing.assert_allclose(scores, wanted.scores, rtol=1e-6, atol=1e-37)


def test_another_length_is_resampled_and_the_manifest_says_so(
    golden_bundle: tuple[Path, Path], golden: Path, run: Run, tmp_path: Path
) -> None:
    from stale_edge.bundle import read_bundle
    from stale_edge.decoding import decode
    from stale_edge.runtime import load_bundle
    from stale_edge.training import TorchLocalizer

    checkpoint, bundle = golden_bundle
    manifest = read_bundle(bundle).manifest
    contract = manifest.feature_contract
    assert (contract.length, contract.resampling, contract.resample_to) == (100, "linear", 100)
    assert manifest.decode == DecodeConfig(policy="release")
    assert run("verify", bundle)[0] == 0
    features = resample(np.load(golden / "release_forward_T100_seed1.npz")["features"], 173)
    localizer = load_bundle(bundle)
    found = localizer.detect(features, duration_s=60.0)
    outputs = localizer.forward(resample(features, 100))
    bank = localizer.class_bank
    expected = decode(
        outputs["class_logits"], outputs["masks"], class_names=bank.names, duration_s=60.0, policy="release"
    )
    assert found
    assert found == expected
    torch_found = TorchLocalizer.of(read_checkpoint(checkpoint)).detect(features, duration_s=60.0)
    assert [d.label for d in torch_found] == [d.label for d in found]
    np.testing.assert_allclose([d.start_s for d in torch_found], [d.start_s for d in found], atol=1e-4)
    np.save(tmp_path / "v.npy", features)
    code, out, _ = run("detect", bundle, tmp_path / "v.npy", "--duration", "60")
    assert code == 0
    assert len(json.loads(out)["results"]["v"]) == len(found)


def test_clips_own_vocabulary_gives_the_tokens_of_the_public_prompt(shared_data: Path) -> None:
    """The public code's tokenizer on its prompt; ids from CLIP's published vocabulary."""
    from stale_edge.model.saved_text import load_tokenizer

    tokenizer = load_tokenizer(shared_data / "clip")
    ids = tokenizer(PROMPT.replace("{}", "x")).input_ids
    assert ids == [49406, 320, 1455, 539, 1816, 343, 49407]


def test_a_prompt_needs_one_place_for_the_name(clip: Path) -> None:
    plain = TextEncoder.load(clip)
    for prompt in ("a video", "{} and {}"):
        with pytest.raises(ValueError, match=r"holds \{\} once"):
            TextEncoder(plain.tower, plain.tokenizer, prompt=prompt)


def test_a_changed_prompt_is_no_longer_the_class_banks(good: Path, clip: Path, names: Path, tmp_path: Path) -> None:
    import_release(good, tmp_path / "ckpt", classes=names, tokenizer=clip)
    encoder = read_checkpoint(tmp_path / "ckpt").text_encoder
    assert isinstance(encoder, TextEncoder)
    before = class_bank(encoder, NAMES).fingerprint
    encoder.prompt = "{}"
    assert class_bank(encoder, NAMES).fingerprint != before
