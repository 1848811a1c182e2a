"""The parity gate of visual encoders: features must point where the tower's do, and classes be told apart as before."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stale_edge.bundle import ClassBank
from stale_edge.segments import FloatArray
from stale_edge.video import ClipPreprocess, open_video, sample

MIN_COSINE: Mapping[str, float] = {"fp32": 0.9999, "fp16": 0.9999, "int8": 0.995}
"""The least cosine allowed between a feature of the tower and the artifact's, on any picture."""

LOGIT_SCALE = 100.0
"""What CLIP multiplies cosines by before the softmax."""

N_PICTURES = 32
N_DIRECTIONS = 100
_SIZES = ((240, 320), (320, 240), (224, 224), (360, 480))


@dataclass(frozen=True)
class EncoderData:
    """What encoders are judged on.

    pixels: (N, 3, height, width) float32, prepared pictures.
    directions: (K, C) float32, unit rows that classes lie in.
    """

    pixels: FloatArray
    pictures: str
    directions: FloatArray
    classes: str


@dataclass(frozen=True)
class EncoderParity:
    """How one artifact compares with its tower, over `n_pictures`.

    min_cosine, mean_cosine: between the features.
    max_difference: largest absolute difference of a feature's number, as a part of the largest of the tower's.
    changed_decisions: pictures whose likeliest class is another one.
    max_probability_change: largest change of any class's probability on any picture, in [0, 1].
    """

    file: str
    precision: str
    n_pictures: int
    min_cosine: float
    mean_cosine: float
    allowed_cosine: float
    max_difference: float
    changed_decisions: int
    max_probability_change: float
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the artifact may be kept."""
        return not self.failures

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "failures": list(self.failures), "passed": self.passed}

    def text(self) -> str:
        """Say it in a line, for people."""
        return (
            f"{self.file}: cosine at least {self.min_cosine:.6f} (allowed {self.allowed_cosine:g}), "
            f"{self.changed_decisions} of {self.n_pictures} pictures get another class, "
            f"a class's probability changes by {self.max_probability_change:.4f} at most"
        )


def encoder_data(
    preprocess: ClipPreprocess, *, embed_dim: int, video: Path | None = None, bank: ClassBank | None = None
) -> EncoderData:
    """Gather what encoders are judged on.

    Args:
        preprocess: of the encoder.
        embed_dim: C.
        video: pictures are spread over it; None: simulated pictures.
        bank: its classes are told apart; None: random directions.

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


def judge_encoder(
    data: EncoderData, wanted: FloatArray, embed: Callable[[FloatArray], FloatArray], *, file: str, precision: str
) -> EncoderParity:
    """Run an artifact on everything the tower was run on, in batches of several sizes, and compare.

    Args:
        wanted: (N, C), what the tower gives.
        embed: runs the artifact from its file.
    """
    bounds = [0, 1, min(4, len(wanted)), len(wanted)]
    got = np.concatenate([embed(data.pixels[a:b]) for a, b in itertools.pairwise(bounds) if b > a])
    cosine = (_unit(got) * _unit(wanted)).sum(axis=1)
    ours, theirs = (_probabilities(features, data.directions) for features in (wanted, got))
    allowed, least = MIN_COSINE[precision], float(cosine.min())
    failures = () if least >= allowed else (f"the least cosine is {least:.6f}, allowed {allowed:g}",)
    return EncoderParity(
        file=file,
        precision=precision,
        n_pictures=len(wanted),
        min_cosine=least,
        mean_cosine=float(cosine.mean()),
        allowed_cosine=allowed,
        max_difference=float(np.abs(got - wanted).max() / max(np.abs(wanted).max(), 1e-12)),
        changed_decisions=int((ours.argmax(axis=1) != theirs.argmax(axis=1)).sum()),
        max_probability_change=float(np.abs(ours - theirs).max()),
        failures=failures,
    )


def simulated_picture(seed: int) -> NDArray[np.uint8]:
    """Draw a picture (H, W, 3) uint8: noise whose amplitude falls with frequency, as in photographs, under shapes."""
    rng = np.random.default_rng(seed)
    height, width = _SIZES[seed % len(_SIZES)]
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])  # (H, W / 2 + 1)
    falloff = 1 / np.maximum(frequency, 1 / max(height, width))
    noise = rng.standard_normal((3, *frequency.shape)) + 1j * rng.standard_normal((3, *frequency.shape))
    field = np.fft.irfft2(noise * falloff, s=(height, width))
    mixed = np.tensordot(np.eye(3) * 0.4 + 0.6, field, axes=1)  # colours of one place go together
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
