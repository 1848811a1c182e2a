"""STALE in PyTorch: the architecture of the paper and the network of the public code, text encoder, checkpoints."""

from stale_edge.model.architectures import build_model
from stale_edge.model.checkpoint import Checkpoint, load_checkpoint, read_checkpoint, write_checkpoint
from stale_edge.model.class_embeddings import FreeClassEmbeddings, class_bank
from stale_edge.model.small_text import small_text_encoder
from stale_edge.model.stale.output import StaleOutput
from stale_edge.model.stale.paper import PaperStale
from stale_edge.model.stale.release import ReleaseStale, random_release
from stale_edge.model.stale.release_weights import release_from_public
from stale_edge.model.text import TextEncoder

__all__ = [
    "Checkpoint",
    "FreeClassEmbeddings",
    "PaperStale",
    "ReleaseStale",
    "StaleOutput",
    "TextEncoder",
    "build_model",
    "class_bank",
    "load_checkpoint",
    "random_release",
    "read_checkpoint",
    "release_from_public",
    "small_text_encoder",
    "write_checkpoint",
]
