"""A visual encoder of a public one's size with random weights, to be measured: time does not depend on weights."""

from pathlib import Path

import torch

from stale_edge.bundle.encoder_folder import is_encoder
from stale_edge.exporting.encoder import PRECISIONS, export_encoder
from stale_edge.model.vision import VisionTower
from stale_edge.progress import Progress
from stale_edge.video import ClipPreprocess

SIZES = {"random-vit-b-16": 16, "random-vit-b-32": 32}
"""Name -> edge of a patch in pixels; both have 12 layers of width 768 and read 224 x 224 pixels."""


def make_encoder(name: str, path: Path, *, progress: Progress) -> None:
    """Export an encoder of `SIZES` in every precision that a CPU runs, through the usual parity check.

    Args:
        path: the encoder's folder; one that is there already is kept.
    """
    if is_encoder(path):
        return
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        image_size=224,
        patch_size=SIZES[name],
        projection_dim=512,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tower = VisionTower(name, CLIPVisionModelWithProjection(config).eval(), ClipPreprocess())
    precisions = [precision for precision in PRECISIONS if precision not in ("fp16", "bf16", "int8-bf16")]
    export_encoder(tower, path, precisions=precisions, progress=progress)
