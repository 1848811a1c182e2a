"""The text tower as one graph: token ids in, class embeddings out, the learned context vectors inside."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from stale_edge.bundle.text_contract import TOKENIZER_NAME, TextContract
from stale_edge.model.text import TextEncoder

TRACED_NAMES, TRACED_TOKENS = 5, 11
"""Sizes of the example: primes that no other size equals by chance."""


class TextGraph(nn.Module):
    """CLIP's text tower, eq. 2, in plain operators: causal attention, pre-norm layers, output at the end token.

    Rows of token ids have no places for the contexts; these are inserted here, after the start token. No padding mask
    is needed: attention is causal and the embedding is read at the first end token, so padding is never read.
    """

    positions: Tensor
    contexts: Tensor

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        tower = cast(Any, encoder.tower)
        embeddings = tower.get_input_embeddings()
        self.words = embeddings
        self.layers = tower.text_model.encoder.layers
        self.norm = tower.text_model.final_layer_norm
        self.projection = tower.text_projection
        self.n_heads = int(tower.config.num_attention_heads)
        self.end_id = int(encoder.tokenizer.eos_token_id)
        self.register_buffer("positions", tower.text_model.embeddings.position_embedding.weight.detach())
        self.register_buffer("contexts", encoder.contexts.detach())

    def forward(self, token_ids: Tensor) -> Tensor:
        """Embed rows of token ids (K, L); returns (K, D)."""
        words = self.words(token_ids)  # (K, L, H)
        contexts = self.contexts.expand(words.shape[0], -1, -1)  # (K, N̂, H)
        values = torch.cat([words[:, :1], contexts, words[:, 1:]], dim=1)  # (K, N̂ + L, H)
        length = values.shape[1]
        values = values + self.positions[:length]
        hidden = torch.ones(length, length, dtype=torch.bool).triu(diagonal=1)
        for layer in self.layers:
            values = values + self._attend(layer.self_attn, layer.layer_norm1(values), hidden)
            values = values + layer.mlp(layer.layer_norm2(values))
        end = (token_ids == self.end_id).int().argmax(dim=1) + len(self.contexts)  # (K,)
        place = end[:, None, None].expand(-1, 1, values.shape[2])
        return cast(Tensor, self.projection(self.norm(values.gather(1, place)[:, 0])))

    def _attend(self, attention: Any, values: Tensor, hidden: Tensor) -> Tensor:
        n_rows, length, width = values.shape
        split = (n_rows, length, self.n_heads, width // self.n_heads)
        query, key, value = (
            project(values).reshape(split).transpose(1, 2)  # (K, heads, N̂ + L, H / heads)
            for project in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        scores = (query @ key.transpose(2, 3)) * split[3] ** -0.5
        weights = scores.masked_fill(hidden, float("-inf")).softmax(dim=3)
        mixed = (weights @ value).transpose(1, 2).reshape(n_rows, length, width)
        return cast(Tensor, attention.out_proj(mixed))


def text_contract(encoder: TextEncoder) -> TextContract:
    """Describe how class names become the token ids of this encoder."""
    tokenizer = encoder.tokenizer
    return TextContract(
        prompt=encoder.prompt,
        n_contexts=len(encoder.contexts),
        context_length=encoder.max_tokens,
        start_id=int(tokenizer.bos_token_id),
        end_id=int(tokenizer.eos_token_id),
        pad_id=int(tokenizer.pad_token_id),
        tokenizer=TOKENIZER_NAME,
    )
