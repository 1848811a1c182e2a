"""A small CLIP text tower with random weights in transformers' own format, for the demo and tests."""

import json
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from stale_edge.model.text import TextEncoder

MEAN_COSINE = 0.65
"""Mean cosine between class embeddings that the tower is calibrated to; CLIP's own lie between 0.5 and 0.8."""

START, END = "<|startoftext|>", "<|endoftext|>"


def small_text_encoder(
    folder: Path, *, dim: int = 64, hidden_dim: int = 64, n_layers: int = 2, n_heads: int = 4, seed: int = 0
) -> TextEncoder:
    """Write a random CLIP text tower with a character-level byte-pair vocabulary, and return it without contexts.

    A freshly initialised CLIP tower gives nearly the same embedding to every text. This one is spread out and then
    shifted, so that class names have the pairwise cosine that they have in CLIP's text space. It has no language:
    names with similar spelling are near each other, whatever they mean.

    Args:
        folder: made if missing; afterwards `CLIPTextModelWithProjection.from_pretrained` and
            `CLIPTokenizer.from_pretrained` read it.
        dim: D, width of the embeddings.
        hidden_dim: width of the tower, a multiple of `n_heads`.
        seed: seed of the weights.
    """
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

    vocabulary = _character_vocabulary()
    config = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=hidden_dim,
        intermediate_size=4 * hidden_dim,
        projection_dim=dim,
        num_hidden_layers=n_layers,
        num_attention_heads=n_heads,
        bos_token_id=vocabulary[START],
        eos_token_id=vocabulary[END],
        pad_token_id=vocabulary[END],
    )
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=config.max_position_embeddings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tower = CLIPTextModelWithProjection(config).eval()
        encoder = TextEncoder(tower, tokenizer)
        _spread(tower)
        _calibrate(encoder)
    encoder.save(folder)
    # Readers outside Python's tokenizers library know CLIP's vocabulary by these two files.
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    return encoder


def _character_vocabulary() -> dict[str, int]:
    """Number the 256 byte characters of CLIP's tokenizer, inside and at the end of a word, and its special tokens."""
    from tokenizers import pre_tokenizers

    characters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*characters, *(f"{character}</w>" for character in characters), START, END]
    return {token: index for index, token in enumerate(tokens)}


@torch.no_grad()
def _spread(tower: Any) -> None:
    """Scale a fresh tower so that letters weigh more than what all texts share, and attention picks among them.

    The factors were chosen on the 200 class names of ActivityNet: embeddings less their mean have an effective rank of
    12 of 64 (10 as initialised), and eight fresh context vectors leave them a cosine of 0.76 (0.50 as initialised).
    """
    embeddings = tower.text_model.embeddings
    embeddings.token_embedding.weight.mul_(50.0)
    embeddings.position_embedding.weight.mul_(5.0)
    for layer in tower.text_model.encoder.layers:
        layer.self_attn.q_proj.weight.mul_(2.0)
        layer.self_attn.k_proj.weight.mul_(2.0)
        layer.self_attn.v_proj.weight.mul_(8.0)


@torch.no_grad()
def _calibrate(encoder: TextEncoder) -> None:
    """Shift the last layer norm so that random words have pairwise embeddings with a mean cosine of MEAN_COSINE.

    Embeddings become p + d: d differs by name and has mean 0 over random words, p is common; the mean cosine of p + d
    and p + d' is |p|^2 / (|p|^2 + E|d|^2).
    """
    tower = cast(Any, encoder.tower)
    norm, project = tower.text_model.final_layer_norm, tower.text_projection.weight  # (D, hidden)
    embeddings = encoder.encode(_random_names(256))  # (256, D)
    # The shift that moves the mean away and a common part of the right length in, found in the space of the layer norm.
    common = project @ torch.randn(project.shape[1])  # (D,)
    spread = float((embeddings - embeddings.mean(dim=0)).square().sum(dim=1).mean())
    common *= (spread * MEAN_COSINE / (1 - MEAN_COSINE)) ** 0.5 / common.norm()
    norm.bias.add_(
        torch.linalg.lstsq(project, (common - embeddings.mean(dim=0)).unsqueeze(1), driver="gelsd").solution[:, 0]
    )


def _random_names(n: int) -> list[str]:
    """Make n names of one to four words of three to nine letters, at the frequencies of English."""
    letters = "eeeeeeeeeeeetttttttttaaaaaaaaooooooooiiiiiiinnnnnnnsssssshhhhhhrrrrrrddddllllcccuuummmwwffggyyppbbvk"
    choose: Tensor = torch.randint(len(letters), (n, 36))
    lengths = torch.randint(3, 10, (n, 4)).tolist()
    n_words = torch.randint(1, 5, (n,)).tolist()
    names = []
    for row, word_lengths, words in zip(choose.tolist(), lengths, n_words, strict=True):
        text = "".join(letters[i] for i in row)
        names.append(" ".join(text[9 * j : 9 * j + word_lengths[j]] for j in range(words)))
    return names
