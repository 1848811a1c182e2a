"""CLIP's text tower: build it with random weights for the reference, and read its sizes from an encoder's folder."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from stale_edge.benchmarking.network_sizes import TextTower
from stale_edge.bundle import ClassBank
from stale_edge.model.text import TextEncoder
from stale_edge.model.text_sizes import text_tower_sizes


def build_text_tower(tower: TextTower, n_classes: int, *, seed: int) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    """Build CLIP's text tower with random weights, and random prompts of the counted lengths.

    Returns:
        module: called as `module(token_ids (K, L), attention_mask (K, L))`, returns embeddings (K, D).
        inputs: token_ids and attention_mask, int64, padded to the longest prompt L.
    """
    end_of_text = tower.vocabulary - 1  # CLIP's last token, also its padding; CLIP pools at the first one

    class Tower(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.clip = CLIPTextModelWithProjection(
                CLIPTextConfig(
                    vocab_size=tower.vocabulary,
                    hidden_size=tower.width,
                    intermediate_size=tower.feedforward,
                    num_hidden_layers=tower.layers,
                    num_attention_heads=tower.heads,
                    max_position_embeddings=tower.positions,
                    projection_dim=tower.embed_dim,
                    eos_token_id=end_of_text,
                    bos_token_id=end_of_text - 1,
                    pad_token_id=end_of_text,
                    attn_implementation="eager",
                )
            )

        def forward(self, token_ids: Tensor, attention_mask: Tensor) -> Tensor:
            return self.clip(input_ids=token_ids, attention_mask=attention_mask).text_embeds  # type: ignore[no-any-return]

    torch.manual_seed(seed)
    lengths = torch.tensor(tower.prompt_lengths(n_classes))
    positions = torch.arange(int(lengths.max()))
    attention_mask = (positions < lengths[:, None]).long()  # (K, L)
    token_ids = torch.randint(end_of_text - 1, attention_mask.shape)
    token_ids[positions >= lengths[:, None] - 1] = end_of_text
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers warns about its own defaults
        module = Tower().eval()
    return module, (token_ids, attention_mask)


def text_tower_of(folder: Path, bank: ClassBank, *, n_contexts: int) -> TextTower:
    """Read the sizes of a text encoder, and count the tokens of a vocabulary with it.

    Args:
        folder: text encoder in transformers' format, with or without saved contexts.
        bank: the vocabulary.
        n_contexts: number of context vectors before each name, if the folder has none of its own.

    Raises:
        CheckpointError: the folder has no text encoder.
    """
    encoder = TextEncoder.load(folder)
    if sum(encoder.around) == 0:
        encoder = TextEncoder.load(folder, n_contexts=n_contexts)
    return TextTower.from_plain(text_tower_sizes(encoder, bank.names))
