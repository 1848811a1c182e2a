"""What a bundle's detector makes of an encoder's features: the part of the encoder's parity check that decodes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from stale_edge.config import FeatureSpec
from stale_edge.errors import DataError
from stale_edge.evaluation.agreement import Matched, count_matched
from stale_edge.model.vision import VisionTower
from stale_edge.runtime import load_bundle
from stale_edge.runtime.contract import check_feature_spec
from stale_edge.segments import CONFIDENT, Detection, FloatArray
from stale_edge.video import open_video, sample

MIN_MATCHED = 0.98
"""Smallest share of the tower's confident detections that a file must find again, in [0, 1]."""
_PART = 8
MOST_SNIPPETS = 300
"""Longest beginning of the video that is decoded; all its pictures are in memory together."""


@dataclass(frozen=True)
class DecodedVideo:
    """A video's pictures, and the detections in the tower's features of them.

    pixels: (T, 3, height, width) float32, one prepared picture per snippet.
    """

    pixels: FloatArray
    detect: Callable[[FloatArray], list[Detection]]
    wanted: list[Detection]

    def matched(self, embed: Callable[[FloatArray], FloatArray]) -> Matched:
        """Count how many of the wanted detections are found in another encoder's features."""
        return count_matched(self.wanted, self.detect(_in_parts(embed, self.pixels)), confident=CONFIDENT)


def decode_video(bundle: Path, video: Path, tower: VisionTower) -> DecodedVideo:
    """Detect in the tower's features of a video, as sampled by the bundle's feature contract.

    Raises:
        FeatureContractError: the bundle was trained on features of another encoder.
        DataError: the video cannot be read, the contract has no rates, or nothing is detected.
    """
    localizer = load_bundle(bundle)
    contract = localizer.feature_contract
    if contract.fps is None or contract.stride is None:
        raise DataError(f"{bundle}: its feature contract has no fps and stride, so no video can be decoded with it")
    spec = FeatureSpec(tower.fingerprint(), tower.embed_dim, contract.fps, contract.stride)
    check_feature_spec(contract, replace(spec, preprocessing=contract.preprocessing))
    rate = contract.fps / contract.stride
    with open_video(video) as source:
        pictures = (tower.preprocess(snippet.picture.rgb) for snippet in sample(source, rate))
        pixels = np.stack(list(islice(pictures, MOST_SNIPPETS)))
    seconds = len(pixels) / rate

    def detect(features: FloatArray) -> list[Detection]:
        return localizer.detect(features, duration_s=seconds)

    wanted = detect(tower.embed(pixels))
    if not wanted:
        raise DataError(f"{video}: {bundle} detects nothing in it, so it compares nothing; give another video")
    return DecodedVideo(pixels, detect, wanted)


def _in_parts(embed: Callable[[FloatArray], FloatArray], pixels: FloatArray) -> FloatArray:
    return np.concatenate([embed(pixels[i : i + _PART]) for i in range(0, len(pixels), _PART)])
