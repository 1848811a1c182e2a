"""What of a detector file is run for decoding, and how it becomes the class logits and masks that decoding takes.

The paper's inference reads the masks of a hundred snippets at most. Where a file says what its masks are made of, only
those are made: at T = 3000 that leaves out a third of the time and most of the memory.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from stale_edge.bundle.onnx_graph import Graph
from stale_edge.bundle.onnx_outputs import MASK_FEATURES, MASK_NETWORKS
from stale_edge.config import DecodeConfig
from stale_edge.decoding import masks_of, voting_snippets
from stale_edge.segments import FloatArray

DECODED = ("class_logits", "masks")
"""The outputs that decoding reads."""
FEW_MASKS = ("class_logits", MASK_NETWORKS, MASK_FEATURES)
"""What it reads where masks are made of the snippets that speak for a class alone."""


def decoded_outputs(file: Path, config: DecodeConfig) -> tuple[str, ...]:
    """Choose what a detector file is opened for: `FEW_MASKS` where it has these values and the policy reads few masks.

    Args:
        file: a detector in any format; only ONNX has values that can be cut at.
        config: how its outputs are decoded. The release policy reads every mask.

    Raises:
        BundleError: the file is not an ONNX model, or is cut short.
    """
    if file.suffix != ".onnx" or config.policy != "paper":
        return DECODED
    return FEW_MASKS if Graph(file).computed.issuperset(FEW_MASKS[1:]) else DECODED


def complete_masks(
    outputs: Mapping[str, FloatArray], config: DecodeConfig, *, snippets: Sequence[int] | None = None
) -> dict[str, FloatArray]:
    """Give class_logits (B, K+1, T) and masks (B, T, T); rows that decoding does not read may be 0.

    Args:
        outputs: `DECODED` or `FEW_MASKS`.
        config: how they are decoded.
        snippets: whose masks are made, in place of those that decoding will read.

    Raises:
        ValueError: a logit is not finite.
    """
    if MASK_NETWORKS not in outputs:
        return dict(outputs)
    videos = zip(*(outputs[name] for name in FEW_MASKS), strict=True)
    masks = [
        masks_of(
            voting_snippets(logits, config=config) if snippets is None else snippets,
            networks=networks,
            features=features,
        )
        for logits, networks, features in videos
    ]
    return {"class_logits": outputs["class_logits"], "masks": np.stack(masks)}
