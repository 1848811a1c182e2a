"""The parity check of visual encoders: a file's features must have the direction of the tower's."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stale_edge.bundle import ClassBank
from stale_edge.exporting.parity.encoder_decoding import MIN_MATCHED, DecodedVideo
from stale_edge.exporting.parity.result import Budget, Parity
from stale_edge.segments import FloatArray
from stale_edge.video import ClipPreprocess, open_video, sample

MIN_COSINE: Mapping[str, float] = {
    "fp32": 0.9999,
    "fp16": 0.9999,
    "bf16": 0.999,
    "int8": 0.995,
    "int8-static": 0.995,
    "int8-bf16": 0.995,
}
"""Smallest cosine allowed between a feature of the tower and the file's, on any picture; nothing else is limited."""

FEATURES = "image_embeds"
"""Name of the compared output."""

LOGIT_SCALE = 100.0
"""CLIP's factor of cosines before the softmax."""

N_PICTURES = 32
N_DIRECTIONS = 100
_SIZES = ((240, 320), (320, 240), (224, 224), (360, 480))


@dataclass(frozen=True)
class EncoderData:
    """Pictures and class directions that encoders are compared on.

    pixels: (N, 3, height, width) float32, prepared pictures.
    directions: (K, C) float32, one unit row per class.
    """

    pixels: FloatArray
    pictures: str
    directions: FloatArray
    classes: str
    decoded: DecodedVideo | None = None
    """A video in which files must find the tower's detections again; None: features are not decoded."""


def encoder_data(
    preprocess: ClipPreprocess, *, embed_dim: int, video: Path | None = None, bank: ClassBank | None = None
) -> EncoderData:
    """Gather pictures and class directions to compare encoders on.

    Args:
        preprocess: the encoder's preprocessing of pictures.
        embed_dim: C.
        video: pictures are taken evenly from it; None: simulated pictures.
        bank: pictures are classified by its classes; None: by random directions.

    Raises:
        ValueError: the bank is not C wide.
        DataError: the video cannot be read.
    """
    if bank is not None and bank.width != embed_dim:
        raise ValueError(
            f"the class bank is {bank.width} wide, the encoder's features {embed_dim}: they share no space"
        )
    if video is None:
        pictures = [simulated_picture(seed) for seed in range(N_PICTURES)]
        said = f"{N_PICTURES} simulated pictures (coloured noise with the spectrum of photographs, and shapes)"
    else:
        with open_video(video) as source:
            rate = N_PICTURES / max(source.announced_s or N_PICTURES, 1.0)
            pictures = [
                snippet.picture.rgb for _, snippet in zip(range(N_PICTURES), sample(source, rate), strict=False)
            ]
        said = f"{len(pictures)} pictures of {video.name}"
    if bank is None:
        directions = np.random.default_rng(0).standard_normal((N_DIRECTIONS, embed_dim)).astype(np.float32)
        classes = f"{N_DIRECTIONS} random directions"
    else:
        directions, classes = bank.embeddings, f"{len(bank)} classes of a class bank"
    unit = directions / np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-12)
    return EncoderData(np.stack([preprocess(picture) for picture in pictures]), said, unit, classes)


def compare_encoder(
    data: EncoderData, wanted: FloatArray, embed: Callable[[FloatArray], FloatArray], *, file: str, precision: str
) -> Parity:
    """Run a file on every picture, in batches of several sizes, and compare with the tower.

    Args:
        wanted: (N, C), the tower's features.
        embed: runs the file.
    """
    bounds = [0, 1, min(4, len(wanted)), len(wanted)]
    got = np.concatenate([embed(data.pixels[a:b]) for a, b in itertools.pairwise(bounds) if b > a])
    cosine = (_unit(got) * _unit(wanted)).sum(axis=1)
    matched = None if data.decoded is None else data.decoded.matched(embed)
    ours, theirs = (_probabilities(features, data.directions) for features in (wanted, got))
    return Parity(
        file=file,
        precision=precision,
        budget=Budget(
            None,
            None,
            max_flipped=1.0,
            min_matched=0.0 if matched is None else MIN_MATCHED,
            max_map_loss=np.inf,
            min_cosine=MIN_COSINE[precision],
        ),
        n_detections=0 if matched is None else matched.total,
        matched_detections=1.0 if matched is None else matched.matched / matched.total,
        max_difference={FEATURES: float(np.abs(got - wanted).max() / max(np.abs(wanted).max(), 1e-12))},
        n_snippets=len(wanted),
        flipped_snippets=int((ours.argmax(axis=1) != theirs.argmax(axis=1)).sum()),
        max_score_difference=float(np.abs(ours - theirs).max()),
        min_cosine=float(cosine.min()),
        mean_cosine=float(cosine.mean()),
    ).checked()


def encoder_parity_json(parity: Parity) -> dict[str, Any]:
    """Return the measurements under the names that encoder folders use, in plain JSON values."""
    return {
        "file": parity.file,
        "precision": parity.precision,
        "n_pictures": parity.n_snippets,
        "min_cosine": parity.min_cosine,
        "mean_cosine": parity.mean_cosine,
        "allowed_cosine": parity.budget.min_cosine,
        "max_difference": parity.max_difference[FEATURES],
        "changed_decisions": parity.flipped_snippets,
        "max_probability_change": parity.max_score_difference,
        "n_detections": parity.n_detections,
        "matched_detections": parity.matched_detections if parity.n_detections else None,
        "failures": list(parity.failures),
        "passed": parity.passed,
    }


def encoder_parity_text(parity: Parity) -> str:
    """Describe the measurements in one line."""
    found = f", {parity.matched_detections:.1%} of {parity.n_detections} detections found again"
    return (
        f"{parity.file}: cosine at least {parity.min_cosine:.6f} (allowed {parity.budget.min_cosine:g}), "
        f"{parity.flipped_snippets} of {parity.n_snippets} pictures get another class, "
        f"a class's probability changes by {parity.max_score_difference:.4f} at most"
        f"{found if parity.n_detections else ''}"
    )


def simulated_picture(seed: int) -> NDArray[np.uint8]:
    """Draw a picture (H, W, 3) uint8: noise whose amplitude falls with frequency, as in photographs, under shapes."""
    rng = np.random.default_rng(seed)
    height, width = _SIZES[seed % len(_SIZES)]
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])  # (H, W / 2 + 1)
    falloff = 1 / np.maximum(frequency, 1 / max(height, width))
    noise = rng.standard_normal((3, *frequency.shape)) + 1j * rng.standard_normal((3, *frequency.shape))
    field = np.fft.irfft2(noise * falloff, s=(height, width))
    mixed = np.tensordot(np.eye(3) * 0.4 + 0.6, field, axes=1)  # the three colours of a pixel correlate
    picture = 128 + rng.uniform(25, 70) * mixed / mixed.std()  # (3, H, W)
    rows, columns = np.mgrid[:height, :width]
    for _ in range(int(rng.integers(0, 5))):
        colour, size = rng.uniform(0, 255, 3), rng.uniform(0.05, 0.3) * height
        y, x = rng.uniform(0, height), rng.uniform(0, width)
        reach = np.maximum if rng.integers(2) else np.hypot
        picture[:, reach(np.abs(rows - y), np.abs(columns - x)) < size] = colour[:, None]
    return np.asarray(np.clip(np.rint(picture), 0, 255), np.uint8).transpose(1, 2, 0)


def _probabilities(features: FloatArray, directions: FloatArray) -> FloatArray:
    logits = LOGIT_SCALE * _unit(features) @ directions.T
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: FloatArray = shares / shares.sum(axis=1, keepdims=True)
    return probabilities


def _unit(features: FloatArray) -> FloatArray:
    values = features.astype(np.float64)
    return np.asarray(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12))
