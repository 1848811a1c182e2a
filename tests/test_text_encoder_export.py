"""`text_encoder.onnx`: names read without torch as the checkpoint reads them, new classes, and what is refused."""

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import exporting_case as case
import numpy as np
import onnx
import pytest
import tiny
import torch

from stale_edge.benchmarking.target import bundle_target
from stale_edge.benchmarking.torch_rows.text_tower import text_tower_of
from stale_edge.bundle import ClassBank, FeatureContract, add_classes, read_bundle, verify_bundle, write_bundle
from stale_edge.bundle.feature_contract import FORMAT_1
from stale_edge.bundle.files import sha256_of
from stale_edge.bundle.onnx_metadata import FORMAT_KEY, copy_with_metadata, read_onnx_metadata
from stale_edge.bundle.text_contract import TEXT_KEY
from stale_edge.config import Config, DecodeConfig, SimulateConfig, TextConfig, TrainConfig
from stale_edge.errors import BundleError, ClassBankError, VerificationError
from stale_edge.exporting import export_checkpoint, text_files
from stale_edge.exporting.parity.reference import Reference
from stale_edge.exporting.parity.videos import simulated_data
from stale_edge.exporting.text_files import compare_text_encoder
from stale_edge.model import TextEncoder, build_model, class_bank, small_text_encoder
from stale_edge.runtime import BundleTextEncoder, load_bundle, load_text_encoder
from stale_edge.runtime.evaluate import evaluate_localizer
from stale_edge.runtime.text_encoder import NAMES_PER_BATCH

NEW = ("pole vault", "Ćwiczenia na drążku", "跳高", "a b c d e f")
SAME = 1e-5
"""Of embeddings of size 1 to 10: float32 arithmetic in another order."""


@pytest.fixture(
    scope="module",
    params=[
        (0, "{}", (0, 0)),
        (8, "a video of {}.", (0, 0)),
        (0, "{}\na photo of {}.", (0, 0)),
        (0, "{}", (3, 2)),
    ],
    ids=["plain", "contexts-and-prompt", "two-prompts", "prompt-table"],
)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Give the folder of a text encoder, and a bundle that holds it beside a detector."""
    n_contexts, prompt, around = request.param
    root = tmp_path_factory.mktemp("text")
    small_text_encoder(root / "tower", dim=tiny.EMBED_DIM, hidden_dim=16, seed=3)
    tower = TextEncoder.load(root / "tower")
    encoder = TextEncoder(tower.tower, tower.tokenizer, n_contexts=n_contexts, prompt=prompt, around=around).eval()
    encoder.save(root / "text_encoder")
    without = read_bundle(tiny.write(root / "without"))
    with write_bundle(root / "bundle") as writer:
        detector = without.manifest.detectors[0]
        shutil.copy(without.path / detector.path, writer.folder)
        tensors = {"inputs": detector.inputs, "outputs": detector.outputs}
        writer.add_file(detector.path, role="detector", runtime="onnxruntime", precision="fp32", **tensors)
        entries, _ = text_files.write_text_encoder(encoder, writer.folder)
        for entry in entries:
            writer.add(entry)
        writer.set_class_bank(class_bank(encoder, tiny.NAMES))
        manifest = without.manifest
        writer.commit(
            architecture=manifest.architecture, feature_contract=manifest.feature_contract, decode=manifest.decode
        )
    return root / "text_encoder", root / "bundle"


@pytest.fixture
def bundle(exported: tuple[Path, Path], tmp_path: Path) -> Path:
    """Copy the bundle, for tests that change it."""
    return Path(shutil.copytree(exported[1], tmp_path / "bundle"))


def test_names_are_read_as_the_checkpoint_reads_them(exported: tuple[Path, Path]) -> None:
    folder, bundle = exported
    encoder = TextEncoder.load(folder)
    names = [*NEW, *(f"class {i}" for i in range(NAMES_PER_BATCH))]  # more than one batch
    bank = load_text_encoder(bundle).encode(names)
    expected = class_bank(encoder, names)
    assert (bank.names, bank.fingerprint) == (expected.names, expected.fingerprint)
    np.testing.assert_allclose(bank.embeddings, expected.embeddings, atol=SAME)
    # A name means the same alone: neither its batch nor the padding is seen.
    np.testing.assert_allclose(load_text_encoder(bundle).encode(NEW[2:3]).embeddings[0], bank.embeddings[2], atol=SAME)


def test_the_document_s_rows_are_ours(exported: tuple[Path, Path]) -> None:
    """The example of section 9 of export/BUNDLE.md, with nothing but the tokenizers library and the file's metadata."""
    from tokenizers import Tokenizer

    document = (Path(__file__).resolve().parent.parent / "export" / "BUNDLE.md").read_text(encoding="utf-8")
    section = document.split("\n## 9. ")[1].split("\n## 10. ")[0]
    namespace: dict[str, Callable] = {}  # type: ignore[type-arg]
    exec(section.split("```python\n")[1].split("```")[0], namespace)
    bundle = exported[1]
    text = json.loads(read_onnx_metadata(bundle / "text_encoder.onnx")[TEXT_KEY])
    tokenizer = Tokenizer.from_file(str(bundle / text["tokenizer"]))

    def tokenize(name: str) -> list[int]:
        return tokenizer.encode(name, add_special_tokens=False).ids

    expected = load_text_encoder(bundle).tokenize(NEW)
    assert namespace["token_ids"](list(NEW), tokenize, text) == expected.tolist()
    for name in ("<|endoftext|>", "a" * 77):
        with pytest.raises(ValueError, match="has no token, too many, or one that ends a text"):
            namespace["token_ids"]([name], tokenize, text)


def test_the_longest_name_fits_and_one_more_token_is_refused(exported: tuple[Path, Path]) -> None:
    folder, bundle = exported
    expected, encoder = TextEncoder.load(folder), load_text_encoder(bundle)
    around = len(encoder.tokenize(["x"])[0]) - 1  # start, end and the prompt's own tokens
    longest = "a" * (encoder.contract.max_tokens - around)
    np.testing.assert_allclose(
        encoder.encode([longest]).embeddings, class_bank(expected, [longest]).embeddings, atol=SAME
    )
    with pytest.raises(ClassBankError, match="takes at most"):
        encoder.encode([longest + "a"])


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["<|endoftext|>"], "one that ends a text"),
        (["jump", "jump"], "must be distinct"),
        ([" jump"], "must not be empty or begin or end with a space"),
        ([" "], "has no token of its own"),
        ([], "at least one class name"),
        ("jump", "at least one class name"),
    ],
)
def test_names_that_say_nothing_are_refused(exported: tuple[Path, Path], names: list[str], says: str) -> None:
    with pytest.raises(ClassBankError, match=says):
        load_text_encoder(exported[1]).encode(names)


def test_the_file_is_one_standard_graph_and_says_what_a_program_needs(exported: tuple[Path, Path]) -> None:
    folder, bundle = exported
    encoder = TextEncoder.load(folder)
    graph = onnx.load(bundle / "text_encoder.onnx")
    assert {node.domain for node in graph.graph.node} == {""}
    assert [entry.version for entry in graph.opset_import] == [18]
    entry = read_bundle(bundle).file("text_encoder")
    assert [(spec.name, spec.dtype, spec.shape) for spec in (*entry.inputs, *entry.outputs)] == [
        ("token_ids", "int64", ("K", "L")),
        ("class_embeddings", "float32", ("K", tiny.EMBED_DIM)),
    ]
    metadata = read_onnx_metadata(bundle / "text_encoder.onnx")
    assert metadata["stale_edge.fingerprint"] == encoder.fingerprint() == read_bundle(bundle).class_bank.fingerprint
    assert json.loads(metadata["stale_edge.text"]) == {
        "prompt": encoder.prompt,
        "n_contexts": sum(encoder.around),
        "context_length": 77,
        "start_id": encoder.tokenizer.bos_token_id,
        "end_id": encoder.tokenizer.eos_token_id,
        "pad_id": encoder.tokenizer.pad_token_id,
        "tokenizer": "tokenizer.json",
    }


def test_the_tokenizer_keeps_nothing_of_the_calls_before(exported: tuple[Path, Path]) -> None:
    text = json.loads((exported[1] / "tokenizer.json").read_text())
    assert text["padding"] is None
    assert text["truncation"] is None


def test_classes_are_added_without_torch(exported: tuple[Path, Path], bundle: Path) -> None:
    """In an interpreter that cannot import torch or transformers: add, then detect names that nobody added."""
    np.save(bundle.parent / "v.npy", tiny.features())
    script = (
        "import sys\n"
        "sys.modules.update(torch=None, transformers=None, safetensors=None, onnx=None)\n"
        "from stale_edge.cli.app import main\n"
        "main()\n"
    )

    def stale_edge(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", script, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=True)

    stale_edge("classes", "add", bundle, "plank", "juggling")
    verify_bundle(bundle)
    bank, encoder = read_bundle(bundle).class_bank, TextEncoder.load(exported[0])
    assert bank.names == (*tiny.NAMES, "plank", "juggling")
    expected = class_bank(encoder, ["plank", "juggling"]).embeddings
    np.testing.assert_allclose(bank.embeddings[-2:], expected, atol=SAME)
    found = stale_edge("detect", bundle, bundle.parent / "v.npy", "--classes", "jump,high jump,plank")
    assert f"{bundle}: new classes, read by its text encoder: high jump" in found.stderr.splitlines()
    assert {row["label"] for row in json.loads(found.stdout)["results"]["v"]} <= {"jump", "high jump", "plank"}
    assert read_bundle(bundle).class_bank == bank  # looking for a class does not add it


def test_a_bank_of_another_encoder_is_refused(bundle: Path, tmp_path: Path) -> None:
    other = small_text_encoder(tmp_path / "other", dim=tiny.EMBED_DIM, hidden_dim=16, seed=4)
    with pytest.raises(ClassBankError, match="come from another text encoder"):
        add_classes(bundle, class_bank(other, NEW))
    bank = class_bank(other, tiny.NAMES)
    with pytest.raises(
        VerificationError, match=r"text_encoder.onnx has fingerprint sha256:.*the class bank was made by"
    ):
        rewrite(bundle, bank=bank)


def test_a_bundle_without_a_text_encoder_says_what_to_do(tmp_path: Path, run: Callable) -> None:  # type: ignore[type-arg]
    out, features = tiny.write(tmp_path / "out"), tmp_path / "v.npy"
    code, _, error = run("classes", "add", out, "juggling")
    assert (code, error.count("\n")) == (1, 1)
    assert "holds class embeddings but no text encoder" in error
    with pytest.raises(BundleError, match="the bundle has no text encoder; it has: no text encoder"):
        load_text_encoder(out)
    np.save(features, tiny.features())
    code, _, error = run("detect", out, features, "--classes", "jump,high jump")
    assert code == 1
    assert "class 'high jump' is not in the class bank" in error


@pytest.mark.parametrize(("option", "wanted"), [([], True), (["--no-text-encoder"], False)])
def test_a_text_encoder_can_be_left_out(
    option: list[str],
    wanted: bool,
    monkeypatch: pytest.MonkeyPatch,
    run: Callable,  # type: ignore[type-arg]
) -> None:
    def export(*_: object, text_encoder: bool, **__: object) -> None:
        raise BundleError(f"text encoder: {text_encoder}")

    monkeypatch.setattr("stale_edge.exporting.export_checkpoint", export)
    assert run("export", "checkpoint", "--out", "bundle", *option)[2] == f"error: text encoder: {wanted}\n"


def test_without_the_tokenizers_package_the_extra_is_named(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, run: Callable
) -> None:  # type: ignore[type-arg]
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    code, _, error = run("classes", "add", bundle, "pole vault")
    assert code == 1
    assert error == 'error: new classes need the tokenizers package: pip install "stale-edge[text]"\n'


@pytest.mark.parametrize("name", ["text_encoder.onnx", "tokenizer.json"])
def test_a_changed_file_is_refused(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(VerificationError, match=f"{name} has changed"):
        load_text_encoder(bundle)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"prompt": "no place"}, "a prompt holds {} once"),
        ({"n_contexts": 75}, "leave no room for a name"),
        ({"tokenizer": "vocab.json"}, "needs vocab.json; tokenizers in the manifest"),
        ({"start_id": -1}, "start_id"),
        ({"extra": 1}, "extra"),
    ],
)
def test_metadata_that_cannot_be_is_refused(bundle: Path, change: dict[str, object], says: str) -> None:
    text = json.loads(read_onnx_metadata(bundle / "text_encoder.onnx")[TEXT_KEY])
    with pytest.raises(VerificationError, match=says):
        rewrite(bundle, text={TEXT_KEY: json.dumps({**text, **change})})


def test_a_text_encoder_of_format_1_is_read(bundle: Path) -> None:
    before = load_text_encoder(bundle).encode(NEW)
    rewrite(bundle, text={FORMAT_KEY: FORMAT_1})
    verify_bundle(bundle)
    assert load_text_encoder(bundle).encode(NEW) == before
    with pytest.raises(VerificationError, match="format 'stale-edge-bundle/9'; this version reads"):
        rewrite(bundle, text={FORMAT_KEY: "stale-edge-bundle/9"})


def rewrite(bundle: Path, *, bank: ClassBank | None = None, text: dict[str, str] | None = None) -> None:
    """Write the bundle again with another class bank or other metadata of its text encoder, sealed as any other."""
    old = read_bundle(bundle)
    with write_bundle(bundle, overwrite=True) as writer:
        files = []
        for entry in old.manifest.files:
            target = writer.folder / entry.path
            if entry.role == "class_bank" and bank is not None:
                bank.save(target)
            elif entry.role == "text_encoder" and text is not None:
                copy_with_metadata(bundle / entry.path, target, text)
            else:
                shutil.copy(bundle / entry.path, target)
            files.append(dataclasses.replace(entry, sha256=sha256_of(target), bytes=target.stat().st_size))
        writer.commit_manifest(dataclasses.replace(old.manifest, files=tuple(files)))


def with_contexts(folder: Path, n_contexts: int) -> TextEncoder:
    """Make a small text encoder with context vectors."""
    small_text_encoder(folder / "tower", dim=case.CHANNELS, hidden_dim=16, seed=3)
    return TextEncoder.load(folder / "tower", n_contexts=n_contexts).eval()


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """What a detector decides on a few videos, with the classes as `with_contexts` embeds them."""
    bank = class_bank(with_contexts(tmp_path_factory.mktemp("tower"), 0), case.NAMES)
    contract = FeatureContract("toy", case.CHANNELS, 8.0, 16, None, "linear", case.LENGTH)
    torch.manual_seed(0)
    model = build_model(case.PAPER).eval()
    data = simulated_data(model, contract=contract, bank=bank)
    few = dataclasses.replace(data, videos=data.videos[:3])
    return Reference(model, bank=bank, data=few, decode_config=DecodeConfig())


def failures_of(reference: Reference, encoder: TextEncoder, folder: Path) -> tuple[str, ...]:
    """Give what the parity check finds wrong with the files in a folder."""
    return compare_text_encoder(reference, encoder, folder).failures


def test_the_parity_check_finds_a_graph_without_the_learned_contexts(
    reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class WithoutContexts(text_files.TextGraph):
        def __init__(self, encoder: TextEncoder) -> None:
            super().__init__(encoder)
            self.learned = torch.zeros_like(self.learned)

    encoder = with_contexts(tmp_path, 2)
    monkeypatch.setattr(text_files, "TextGraph", WithoutContexts)
    text_files.write_text_encoder(encoder, tmp_path)
    failures = failures_of(reference, encoder, tmp_path)
    assert any(failure.startswith("class_embeddings differs by") for failure in failures)


def test_the_parity_check_finds_a_tokenizer_that_reads_differently(reference: Reference, tmp_path: Path) -> None:
    encoder = with_contexts(tmp_path, 0)
    text_files.write_text_encoder(encoder, tmp_path)
    assert failures_of(reference, encoder, tmp_path) == ()
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    tokenizer["normalizer"] = None  # CLIP's lower-cases
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    failures = failures_of(reference, encoder, tmp_path)
    assert any(failure.startswith("tokenizer.json reads 'Clean and jerk'") for failure in failures)


def test_clip_s_own_vocabulary(shared_data: Path, tmp_path: Path) -> None:
    """A tower of CLIP's vocabulary and lengths, small and random: words, not letters, become tokens."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(shared_data / "clip")
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        projection_dim=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=2,  # as in the files of openai/clip-vit-base-patch32
        pad_token_id=1,
    )
    torch.manual_seed(0)
    encoder = TextEncoder(CLIPTextModelWithProjection(config).eval(), tokenizer, n_contexts=4).eval()
    text_files.write_text_encoder(encoder, tmp_path)
    exported = BundleTextEncoder(tmp_path / "text_encoder.onnx", tmp_path / "tokenizer.json")
    assert exported.tokenize(["Clean and jerk"]).tolist() == [[49406, 3772, 537, 23917, 49407]]
    names = sorted((shared_data / "splits/activitynet/50_50/test/split_0.list").read_text().split("\n"))
    names = [name for name in names if name]
    assert len(names) == 100
    np.testing.assert_allclose(
        exported.encode(names).embeddings, class_bank(encoder, names).embeddings, atol=SAME, rtol=SAME
    )


def test_zero_shot_map_is_that_of_pytorch(tmp_path: Path) -> None:
    """Classes that training never saw, encoded on the device from their names: the mAP is the one PyTorch gives."""
    from stale_edge.training import evaluate_checkpoint, train
    from stale_edge.training.simulated_data import simulate_with_encoder

    small_text_encoder(tmp_path / "data/text_encoder", dim=32, hidden_dim=32)
    simulated = SimulateConfig(n_videos=40, n_classes=8, channels=32, seed=0)
    data_set = simulate_with_encoder(
        tmp_path / "data", text_encoder=str(tmp_path / "data/text_encoder"), config=simulated
    )
    unseen = tmp_path / "data/splits/test.list"
    model = dataclasses.replace(case.PAPER, feature_channels=32, embed_dim=32, text=TextConfig(n_contexts=4))
    config = Config(
        model=model,
        train=TrainConfig(epochs=4, batch_size=8, n_snippets=40, learning_rate=4e-3, validate_every=4, device="cpu"),
        classes=str(tmp_path / "data/splits/train.list"),
    )
    trained = train(config, tmp_path / "data", tmp_path / "run")
    report = export_checkpoint(
        trained.best, tmp_path / "bundle", formats=["onnx"], precisions=["fp32"], data=tmp_path / "data"
    )
    assert report.text_encoder is not None
    assert 0 < report.text_encoder.parity.max_difference["class_embeddings"] < SAME
    assert report.text_encoder.parity.matched_detections == 1
    localizer, encoder = load_bundle(tmp_path / "bundle"), load_text_encoder(tmp_path / "bundle")
    names = data_set.split("test.list")
    assert not set(names) & set(localizer.class_bank.names)
    pytorch = evaluate_checkpoint(trained.best, tmp_path / "data", split=unseen).result.average_mAP
    device = evaluate_localizer(localizer, data_set, classes=encoder.encode(names)).result.average_mAP
    assert pytorch > 1  # something is found, so that equal figures mean something
    assert abs(device - pytorch) < 0.1

    # The benchmark's reference has this bundle's own text tower, with its contexts.
    tower = text_tower_of(trained.best / "text_encoder", localizer.class_bank, n_contexts=4)
    network = bundle_target(tmp_path / "bundle").network
    assert network is not None
    assert network.text == tower
    assert (tower.width, tower.embed_dim) == (32, 32)


def test_files_that_are_no_text_encoder_are_refused(exported: tuple[Path, Path], tmp_path: Path) -> None:
    graph, tokenizer = exported[1] / "text_encoder.onnx", exported[1] / "tokenizer.json"
    (tmp_path / "bad").write_bytes(b"{}")
    with pytest.raises(BundleError, match=r"ONNX Runtime .* cannot load it"):
        BundleTextEncoder(tmp_path / "bad", tokenizer)
    with pytest.raises(BundleError, match="not a tokenizer that this library reads"):
        BundleTextEncoder(graph, tmp_path / "bad")
    with pytest.raises(BundleError, match=r"metadata_props lack stale_edge\.fingerprint, stale_edge\.text"):
        BundleTextEncoder(exported[1] / "detector-fp32.onnx", tokenizer)
