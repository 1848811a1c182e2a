"""SigLIP 2's text side: the rows, embeddings and exported files that transformers' own tokenizer and model give."""

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest

from stale_edge.bundle.text_contract import TEXT_ENCODER_NAME, TOKENIZER_NAME
from stale_edge.exporting.text_files import write_text_encoder
from stale_edge.model.class_embeddings import class_bank
from stale_edge.model.text import TextEncoder
from stale_edge.runtime.text_encoder import BundleTextEncoder

LENGTH = 64
NAMES = ("jump", "High Jump", "a b c jump high")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a small SigLIP with random weights and a tokenizer of letters, set up as the released one."""
    import torch
    import transformers as tf
    from tokenizers.processors import TemplateProcessing

    path = tmp_path_factory.mktemp("siglip") / "siglip"
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    words = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *letters]
    vocabulary = {word: i for i, word in enumerate(words)}
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        text = {**small, "vocab_size": 40, "max_position_embeddings": LENGTH, "projection_size": 32}
        vision = {**small, "image_size": 32, "patch_size": 16}
        model = tf.SiglipModel(tf.SiglipConfig(text_config=text, vision_config=vision)).eval()
        torch.nn.init.normal_(model.text_model.embeddings.position_embedding.weight)
        model.save_pretrained(path)
        tokenizer = tf.Siglip2Tokenizer(vocab=vocabulary, merges=[], padding_side="right")
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="$A <eos>", special_tokens=[("<eos>", vocabulary["<eos>"])]
        )
        tokenizer.save_pretrained(path)
    return path


def by_transformers(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Slow twin: transformers' tokenizer as SigLIP's processor calls it, and its whole model."""
    import torch
    import transformers as tf

    tokenizer = tf.Siglip2Tokenizer.from_pretrained(folder)
    ids = tokenizer(list(NAMES), padding="max_length", max_length=LENGTH, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        return ids.numpy(), tf.SiglipModel.from_pretrained(folder).eval().text_model(
            input_ids=ids
        ).pooler_output.numpy()


def test_rows_and_embeddings_are_those_of_transformers(folder: Path) -> None:
    ids, wanted = by_transformers(folder)
    encoder = TextEncoder.load(folder)
    assert (encoder.dim, encoder.max_tokens, encoder.layout.model) == (32, LENGTH, "SiglipTextModel")
    np.testing.assert_array_equal(encoder.tokenize(NAMES)[0].numpy(), ids)
    np.testing.assert_allclose(class_bank(encoder, NAMES).embeddings, wanted, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="takes at most 63"):
        encoder.encode(["a" * 64])


@pytest.mark.parametrize("n_contexts", [0, 3])
def test_a_device_reads_names_as_the_checkpoint_does(folder: Path, tmp_path: Path, n_contexts: int) -> None:
    encoder = TextEncoder.load(folder, n_contexts=n_contexts).eval()
    write_text_encoder(encoder, tmp_path)
    device = BundleTextEncoder(tmp_path / TEXT_ENCODER_NAME, tmp_path / TOKENIZER_NAME)
    assert device.tokenize(["jump"]).shape == (1, LENGTH - n_contexts)
    wanted = class_bank(encoder, NAMES)
    got = device.encode(NAMES)
    np.testing.assert_allclose(got.embeddings, wanted.embeddings, rtol=0, atol=1e-5)
    assert got.fingerprint == wanted.fingerprint
    encoder.save(tmp_path / "saved")
    again = TextEncoder.load(tmp_path / "saved")
    assert again.fingerprint() == encoder.fingerprint()
    assert {p.key for p in onnx.load(tmp_path / TEXT_ENCODER_NAME).metadata_props} >= {"stale_edge.text"}
