"""A small CLIP vision tower with random weights, in transformers' own format."""

import warnings
from pathlib import Path

EMBED_DIM = 16
IMAGE_SIZE = 32


def write(folder: Path, *, seed: int = 0, dim: int = EMBED_DIM, preprocess: dict | None = None) -> Path:
    """Write `config.json`, random weights, which respond only to colours and edges, and `preprocessor_config.json`."""
    import torch
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=IMAGE_SIZE,
        patch_size=8,
        projection_dim=dim,
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        CLIPVisionModelWithProjection(config).save_pretrained(folder)
        size = {"size": {"shortest_edge": IMAGE_SIZE}, "crop_size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE}}
        CLIPImageProcessorPil(**{**size, **(preprocess or {})}).save_pretrained(folder)
    return folder
