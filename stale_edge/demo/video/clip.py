"""Build a tiny CLIP, train it on frames and captions, and save it in the format of transformers."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from stale_edge.demo.video.actions import Actor, captioned_actors, captions
from stale_edge.model.saved_text import quiet_transformers
from stale_edge.progress import Progress, silent
from stale_edge.video.preprocess import CLIP_MEAN, CLIP_STD

IMAGE_SIZE = 48
PATCH_SIZE = 8
IMAGE_WIDTH, IMAGE_LAYERS = 96, 3
TEXT_WIDTH, TEXT_LAYERS = 96, 2
HEADS = 4
DIM = 96
"""Width of the space that images and texts share: C and D of the later stages."""
PREPROCESSING = {
    "image_processor_type": "CLIPImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": IMAGE_SIZE},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": list(CLIP_MEAN),
    "image_std": list(CLIP_STD),
    "do_convert_rgb": True,
}
"""Content of `preprocessor_config.json`, as in the folders of the real CLIP."""
START, END = "<|startoftext|>", "<|endoftext|>"
MAX_TOKENS = 32

BATCH_SIZE = 64
LEARNING_RATE = 1.5e-3
WEIGHT_DECAY = 0.05
WARMUP = 0.06
"""Share of the steps in which the learning rate rises."""
LARGEST_SCALE = 100.0
"""CLIP's own bound on the logit scale."""


@dataclass(frozen=True)
class CaptionedFrames:
    """Training data of the tiny CLIP.

    pixels: (N, 3, IMAGE_SIZE, IMAGE_SIZE) float16, preprocessed as in CLIP. actors: the actor in each frame.
    """

    pixels: NDArray[np.float16]
    actors: tuple[Actor, ...]


@dataclass(frozen=True)
class ClipTraining:
    """Result of training the tiny CLIP; losses: one per step."""

    parameters: int
    frames: int
    captions: int
    epochs: int
    losses: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; the loss is the mean over the last twentieth of the steps."""
        last = self.losses[-max(1, len(self.losses) // 20) :]
        numbers = {name: getattr(self, name) for name in ("parameters", "frames", "captions", "epochs")}
        return {**numbers, "steps": len(self.losses), "loss": float(np.mean(last))}


def train_clip(
    frames: CaptionedFrames, folder: Path, *, epochs: int, seed: int, progress: Progress = silent
) -> ClipTraining:
    """Train a new CLIP on frames and captions, and save it.

    The loss is CLIP's symmetric cross entropy (Radford et al., arXiv:2103.00020, Figure 3). Here several frames
    of a batch may have the same caption: such pairs share the target evenly and are not negatives of each other.

    Args:
        frames: frames and their actors.
        folder: made if missing; the function writes config.json, model.safetensors, preprocessor_config.json and the
            tokenizer, as in a CLIP folder of transformers.
        epochs: number of passes over the frames, >= 1.
        seed: seed of weights, order, flips and wording.
        progress: called after every step.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer = make_tokenizer()
        model = _build(tokenizer)
        losses = _fit(model, tokenizer, frames, epochs=epochs, seed=seed, progress=progress)
    save_clip(model, tokenizer, folder)
    return ClipTraining(
        parameters=sum(weight.numel() for weight in model.parameters()),
        frames=len(frames.actors),
        captions=len({caption for actor in set(frames.actors) for caption in captions(actor)}),
        epochs=epochs,
        losses=tuple(losses),
    )


def make_tokenizer() -> Any:
    """Train a byte-pair tokenizer in CLIP's format on the captions; it splits other words into characters."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    suffix = "</w>"
    learner = Tokenizer(models.BPE(end_of_word_suffix=suffix, fuse_unk=False))
    learner.normalizer = normalizers.Lowercase()
    learner.pre_tokenizer = pre_tokenizers.Whitespace()
    texts = [caption for actor in captioned_actors() for caption in captions(actor)]
    learner.train_from_iterator(texts, trainers.BpeTrainer(end_of_word_suffix=suffix, show_progress=False))
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    characters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*characters, *(character + suffix for character in characters)]
    tokens += [first + second for first, second in merges]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys([*tokens, START, END]))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_TOKENS)


def save_clip(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a CLIP folder in the format of transformers, with the image preprocessing."""
    folder.mkdir(parents=True, exist_ok=True)
    with quiet_transformers():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSING, indent=2) + "\n", encoding="utf-8")


def _build(tokenizer: Any) -> Any:
    from transformers import CLIPConfig, CLIPModel

    ends = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 2 * TEXT_WIDTH,
        "projection_dim": DIM,
        "num_hidden_layers": TEXT_LAYERS,
        "num_attention_heads": HEADS,
        "max_position_embeddings": MAX_TOKENS,
        **ends,
    }
    vision = {
        "image_size": IMAGE_SIZE,
        "patch_size": PATCH_SIZE,
        "hidden_size": IMAGE_WIDTH,
        "intermediate_size": 2 * IMAGE_WIDTH,
        "projection_dim": DIM,
        "num_hidden_layers": IMAGE_LAYERS,
        "num_attention_heads": HEADS,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=DIM))


def _fit(
    model: Any,
    tokenizer: Any,
    frames: CaptionedFrames,
    *,
    epochs: int,
    seed: int,
    progress: Progress,
) -> list[float]:
    rng = np.random.default_rng([seed, 1])
    pixels = torch.from_numpy(frames.pixels)  # (N, 3, H, W)
    batch = min(BATCH_SIZE, len(frames.actors))
    steps = max(1, len(frames.actors) // batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _schedule(epochs * steps))
    model.train()
    losses: list[float] = []
    for epoch in range(1, epochs + 1):
        order = rng.permutation(len(frames.actors))
        for step in range(steps):
            rows = order[step * batch : (step + 1) * batch]
            picked = pixels[rows].float()
            mirrored = torch.from_numpy(rng.random(len(rows)) < 0.5)[:, None, None, None]
            picked = torch.where(mirrored, picked.flip(3), picked)
            loss = _loss(model, tokenizer, picked, [frames.actors[row] for row in rows], rng)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                model.logit_scale.clamp_(max=math.log(LARGEST_SCALE))
            losses.append(loss.item())
            done = (epoch - 1) * steps + step + 1
            progress("train the tiny CLIP", done, epochs * steps, f"epoch {epoch}/{epochs}  loss {losses[-1]:.3f}")
    model.eval()
    return losses


def _loss(model: Any, tokenizer: Any, pixels: Tensor, actors: Sequence[Actor], rng: np.random.Generator) -> Tensor:
    """Compute the loss of a batch of images (B, 3, H, W) and one caption for each actor in it."""
    present = sorted(set(actors))
    texts = [(wordings := captions(actor))[int(rng.integers(len(wordings)))] for actor in present]
    tokens = tokenizer(texts, padding=True, return_tensors="pt")
    image = F.normalize(model.get_image_features(pixel_values=pixels).pooler_output, dim=1)  # (B, D)
    text = F.normalize(model.get_text_features(**tokens).pooler_output, dim=1)  # (captions, D)
    logits = model.logit_scale.exp() * image @ text.T  # (B, captions)
    own = torch.tensor([present.index(actor) for actor in actors])
    belongs = F.one_hot(own, len(present)).float()  # (B, captions)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, (belongs / belongs.sum(dim=0)).T)) / 2


def _schedule(n_steps: int) -> Callable[[int], float]:
    """Make the schedule of the learning rate factor: linear warm-up, then cosine decay."""

    def factor(step: int) -> float:
        warmup = max(1, round(WARMUP * n_steps))
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 + 0.5 * math.cos(math.pi * (step - warmup) / max(1, n_steps - warmup))

    return factor
