"""Text encoder and small random towers."""

import shutil
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from stale_edge.errors import CheckpointError
from stale_edge.model import FreeClassEmbeddings, TextEncoder, class_bank, small_text_encoder
from stale_edge.model.small_text import MEAN_COSINE

NAMES = ["Clean and jerk", "Walking the dog", "Ćwiczenia", "x"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text")
    small_text_encoder(path, dim=12, hidden_dim=16, seed=3)
    return path


def test_without_contexts_it_is_transformers_own_output(folder: Path) -> None:
    tower = CLIPTextModelWithProjection.from_pretrained(folder).eval()
    tokens = CLIPTokenizer.from_pretrained(folder)(NAMES, padding=True, return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(TextEncoder.load(folder, n_contexts=0).encode(NAMES), tower(**tokens).text_embeds)


def test_contexts_equal_to_token_embeddings_read_as_those_tokens(folder: Path) -> None:
    """[SOS] [contexts] [name] [EOS]: with the vectors of "ab " as contexts the name "c" is the text "ab c"."""
    encoder = TextEncoder.load(folder, n_contexts=2)
    table = encoder.tower.get_input_embeddings().weight
    ids = encoder.tokenizer("ab", add_special_tokens=False).input_ids
    with torch.no_grad():
        encoder.contexts.copy_(table[ids])
        expected = TextEncoder.load(folder).encode(["ab c", "ab clean and jerk"])
        torch.testing.assert_close(encoder.encode(["c", "clean and jerk"]), expected, atol=1e-5, rtol=1e-5)


def test_a_name_means_the_same_alone_and_among_longer_ones(folder: Path) -> None:
    encoder = TextEncoder.load(folder, n_contexts=3)
    with torch.no_grad():
        together = encoder.encode(NAMES)
        for k, name in enumerate(NAMES):
            torch.testing.assert_close(encoder.encode([name])[0], together[k], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("trainable", [False, True])
def test_contexts_always_learn_and_the_tower_when_it_is_tuned(folder: Path, trainable: bool) -> None:
    encoder = TextEncoder.load(folder, n_contexts=3, trainable=trainable)
    encoder.encode(NAMES).square().sum().backward()
    assert encoder.contexts.grad.abs().min() > 0
    assert all((p.grad is not None) == trainable for p in encoder.tower.parameters())


def test_saved_contexts_come_back(folder: Path, tmp_path: Path) -> None:
    encoder = TextEncoder.load(folder, n_contexts=3)
    encoder.save(tmp_path)
    again = TextEncoder.load(tmp_path)
    assert torch.equal(again.contexts, encoder.contexts)
    assert again.fingerprint() == encoder.fingerprint()
    with torch.no_grad():
        assert torch.equal(again.encode(NAMES), encoder.encode(NAMES))
    with pytest.raises(CheckpointError, match="holds 3 contexts; 4 were asked for"):
        TextEncoder.load(tmp_path, n_contexts=4)


def test_fingerprint_changes_with_weights_contexts_and_tokenizer_and_not_with_use(folder: Path) -> None:
    encoder = TextEncoder.load(folder, n_contexts=1)
    before = encoder.fingerprint()
    encoder.encode(NAMES)
    assert encoder.fingerprint() == before
    with torch.no_grad():
        encoder.contexts.add_(1e-3)
    with_contexts = encoder.fingerprint()
    with torch.no_grad():
        encoder.tower.text_projection.weight[0, 0] += 1e-3
    with_weights = encoder.fingerprint()
    encoder.tokenizer.add_tokens(["jerk"])
    assert len({before, with_contexts, with_weights, encoder.fingerprint()}) == 4


def test_a_name_that_is_too_long_is_refused_and_never_cut(folder: Path) -> None:
    encoder = TextEncoder.load(folder, n_contexts=5)
    longest = "a" * (77 - 2 - 5)
    assert encoder.encode([longest]).shape == (1, 12)
    with pytest.raises(ValueError, match="has 71 tokens; with 5 contexts the text encoder takes at most 70"):
        encoder.encode(["short", longest + "a"])


@pytest.mark.parametrize(
    ("names", "says"),
    [([], "at least one class name"), ("jump", "at least one class name"), (["a", " "], "' ' has no token of its own"),
     (["<|endoftext|>"], "one that ends a text")],
)  # fmt: skip
def test_names_that_say_nothing_are_refused(folder: Path, names: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        TextEncoder.load(folder).encode(names)


def test_too_many_contexts_and_a_foreign_tokenizer_are_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"n_contexts must lie in 0\.\.74"):
        TextEncoder.load(folder, n_contexts=75)
    encoder = TextEncoder.load(folder)
    encoder.tokenizer.add_tokens(["one", "two"])
    with pytest.raises(ValueError, match=r"the tokenizer \(516 tokens, end token 513\) is not the text tower's"):
        TextEncoder(encoder.tower, encoder.tokenizer)


def test_a_missing_name_without_network_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="cannot load the text encoder 'no-such/model': no such local folder"):
        TextEncoder.load("no-such/model")


def test_a_folder_in_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not in transformers' format"):
        TextEncoder.load(tmp_path)


def test_a_tower_that_lacks_weights_is_refused_and_not_made_up(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "tower")
    weights = load_file(tmp_path / "tower" / "model.safetensors")
    del weights["text_projection.weight"]
    save_file(weights, tmp_path / "tower" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 weights are missing, such as text_projection.weight"):
        TextEncoder.load(tmp_path / "tower")


def test_damaged_contexts_are_refused(folder: Path, tmp_path: Path) -> None:
    TextEncoder.load(folder, n_contexts=2).save(tmp_path)
    (tmp_path / "contexts.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(CheckpointError, match="does not hold context vectors"):
        TextEncoder.load(tmp_path)


def test_class_bank_is_the_encoding_and_leaves_the_mode_alone(folder: Path) -> None:
    encoder = TextEncoder.load(folder, n_contexts=2).train()
    names = [f"class {i}" for i in range(130)]  # more than one batch
    bank = class_bank(encoder, names)
    assert encoder.training
    assert bank.names == tuple(names)
    assert bank.fingerprint == encoder.fingerprint()
    with torch.no_grad():
        expected = encoder.eval().encode(names)
    torch.testing.assert_close(torch.from_numpy(bank.embeddings.copy()), expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="at least one class name"):
        class_bank(encoder, [])


def test_free_embeddings_know_training_classes_alone() -> None:
    encoder = FreeClassEmbeddings(["a", "b", "c"], dim=4)
    assert torch.equal(encoder.encode(["c", "a"]), encoder.embeddings[[2, 0]])
    assert class_bank(encoder, ["b"]).fingerprint == encoder.fingerprint()
    with pytest.raises(ValueError, match=r"only training classes have embeddings; unknown: \['d'\]"):
        encoder.encode(["a", "d"])


def test_small_tower_is_a_function_of_its_seed(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(9)
    expected = torch.rand(1)
    torch.manual_seed(9)
    same = small_text_encoder(tmp_path / "a", dim=12, hidden_dim=16, seed=3)
    other = small_text_encoder(tmp_path / "b", dim=12, hidden_dim=16, seed=4)
    assert torch.equal(torch.rand(1), expected)
    assert same.fingerprint() == TextEncoder.load(folder).fingerprint() != other.fingerprint()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_small_tower_tells_names_apart_as_much_as_clip_does(shared_data: Path, tmp_path: Path, seed: int) -> None:
    names = (shared_data / "splits/activitynet/75_25/train/split_0.list").read_text().split("\n")
    names = sorted({name for name in names if name})
    bank = class_bank(small_text_encoder(tmp_path, seed=seed), names)
    vectors = torch.nn.functional.normalize(torch.from_numpy(bank.embeddings.copy()), dim=1)
    cosine = (vectors @ vectors.T)[~torch.eye(len(names), dtype=torch.bool)]
    assert abs(float(cosine.mean()) - MEAN_COSINE) < 0.1
    assert cosine.max() < 0.995  # no two of the 150 names coincide
    # spread over directions, not along one: effective rank of what is left after the mean
    power = torch.linalg.svdvals(vectors - vectors.mean(dim=0)) ** 2
    assert power.sum() ** 2 / (power**2).sum() > 6
