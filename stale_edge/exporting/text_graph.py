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

    Rows of token ids have no places for learned vectors; these are inserted here: contexts after the start token, the
    rows of a prompt table before and after the name. No padding mask is needed: attention is causal and the embedding
    is read at the first end token, so padding is never read. SigLIP's attention is not, and its rows always have the
    tower's length.
    """

    positions: Tensor
    learned: Tensor

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        tower = cast(Any, encoder.tower)
        self.layout = encoder.layout
        inner = getattr(tower, "text_model", tower)
        self.words = tower.get_input_embeddings()
        self.layers = inner.encoder.layers
        self.norm = inner.final_layer_norm
        self.projection = tower.text_projection if self.layout.causal else inner.head
        self.n_heads = int(tower.config.num_attention_heads)
        self.end_id = int(encoder.tokenizer.eos_token_id)
        self.register_buffer("positions", inner.embeddings.position_embedding.weight.detach())
        self.before, self.after = encoder.around
        self.register_buffer("learned", encoder.learned_vectors().detach())

    def forward(self, token_ids: Tensor) -> Tensor:
        """Embed rows of token ids (K, L); returns (K, D)."""
        values, end = self._with_learned(self.words(token_ids), (token_ids == self.end_id).int().argmax(dim=1))
        length = values.shape[1]
        values = values + self.positions[:length]
        hidden = torch.ones(length, length, dtype=torch.bool).triu(diagonal=1) if self.layout.causal else None
        for layer in self.layers:
            values = values + self._attend(layer.self_attn, layer.layer_norm1(values), hidden)
            values = values + layer.mlp(layer.layer_norm2(values))
        if not self.layout.causal:
            return cast(Tensor, self.projection(self.norm(values[:, -1])))
        place = end[:, None, None].expand(-1, 1, values.shape[2])
        return cast(Tensor, self.projection(self.norm(values.gather(1, place)[:, 0])))

    def _with_learned(self, words: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
        """Insert the learned vectors into words (K, L, H) that end at `end` (K,); gives (K, N̂ + L, H) and its ends."""
        first = self.layout.n_first
        if self.after == 0:
            vectors = self.learned[first : first + self.before].expand(words.shape[0], -1, -1)
            return torch.cat([words[:, :first], vectors, words[:, first:]], dim=1), end + self.before
        length = words.shape[1] + self.before + self.after
        place = torch.arange(length)
        last = end[:, None] + self.before - 1  # (K, 1), the last place of the name
        source = torch.where(place <= last, (place - self.before).clamp(min=0), end[:, None])  # (K, N̂ + L)
        moved = words.gather(1, source[:, :, None].expand(-1, -1, words.shape[2]))
        fills = ((place >= 1) & (place <= self.before)) | ((place > last) & (place <= last + self.after))
        return torch.where(fills[:, :, None], self.learned[:length], moved), end + self.before + self.after

    def _attend(self, attention: Any, values: Tensor, hidden: Tensor | None) -> Tensor:
        n_rows, length, width = values.shape
        split = (n_rows, length, self.n_heads, width // self.n_heads)
        query, key, value = (
            project(values).reshape(split).transpose(1, 2)  # (K, heads, N̂ + L, H / heads)
            for project in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        scores = (query @ key.transpose(2, 3)) * split[3] ** -0.5
        weights = (scores if hidden is None else scores.masked_fill(hidden, float("-inf"))).softmax(dim=3)
        mixed = (weights @ value).transpose(1, 2).reshape(n_rows, length, width)
        return cast(Tensor, attention.out_proj(mixed))


def text_contract(encoder: TextEncoder) -> TextContract:
    """Describe how class names become the token ids of this encoder."""
    tokenizer, layout = encoder.tokenizer, encoder.layout
    return TextContract(
        prompt=encoder.prompt,
        n_contexts=sum(encoder.around),
        context_length=encoder.max_tokens,
        start_id=int(tokenizer.bos_token_id if layout.has_start else tokenizer.pad_token_id),
        end_id=int(tokenizer.eos_token_id),
        pad_id=int(tokenizer.pad_token_id),
        tokenizer=TOKENIZER_NAME,
        has_start=layout.has_start,
        pads_to_full=layout.pads_to_full,
    )
