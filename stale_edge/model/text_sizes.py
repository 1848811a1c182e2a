"""The sizes of a text encoder, which decide how long it takes to embed class names."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

from stale_edge.model.text import TextEncoder


def text_tower_sizes(encoder: TextEncoder, names: Sequence[str]) -> dict[str, Any]:
    """Describe a text encoder, as plain values under the field names of `benchmarking.network_sizes.TextTower`.

    Args:
        encoder: CLIP's or SigLIP's layout.
        names: class names; their prompts are counted by length.
    """
    config = cast(Any, encoder.tower).config
    _, attention_mask = encoder.tokenize(names)
    counted = Counter(int(n) for n in attention_mask.sum(dim=1))
    return {
        "vocabulary": config.vocab_size,
        "width": config.hidden_size,
        "feedforward": config.intermediate_size,
        "layers": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "positions": config.max_position_embeddings,
        "embed_dim": encoder.dim,
        "prompt_tokens": sorted([tokens, n_prompts] for tokens, n_prompts in counted.items()),
    }
