"""Choose the part of a detector file to run for decoding, and complete its outputs for the policy.

The paper's inference reads the masks of a hundred snippets at most. If a file exposes the values that masks are
computed from, only those masks are computed: at T = 3000 this saves a third of the time and most of the memory.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from stale_edge.bundle.onnx_graph import Graph
from stale_edge.bundle.onnx_outputs import MASK_FEATURES, MASK_NETWORKS
from stale_edge.config import DecodeConfig, DecodeSettings
from stale_edge.decoding import decoder_of, masks_of, missing_outputs, voting_snippets
from stale_edge.errors import BundleError
from stale_edge.segments import FloatArray

FEW_MASKS = ("class_logits", MASK_NETWORKS, MASK_FEATURES)
"""Outputs that the paper's policy reads if masks are computed only for the snippets that it uses."""


def decoded_outputs(file: Path, promised: Collection[str], config: DecodeSettings) -> tuple[str, ...]:
    """Choose the outputs that a detector file is opened for.

    These are the outputs that the policy reads, or `FEW_MASKS` if it reads few masks and the file has these values.

    Args:
        file: a detector in any format; only an ONNX graph can be cut at inner values.
        promised: names of its outputs, from the manifest.
        config: how its outputs are decoded. The release policy reads every mask.

    Raises:
        BundleError: the file is not an ONNX model, is cut short, or lacks an output that the policy reads.
    """
    decoder = decoder_of(config)
    missing = missing_outputs(config, promised)
    if missing:
        raise BundleError(
            f"{file}: the decode policy {config.policy} reads {', '.join(decoder.reads)}; this detector has no "
            f"{', '.join(missing)}, its outputs are {', '.join(sorted(promised))}"
        )
    whole = (*decoder.reads, *(name for name in decoder.may_read if name in promised))
    if file.suffix != ".onnx" or config.policy != "paper":
        return whole
    return FEW_MASKS if Graph(file).computed.issuperset(FEW_MASKS[1:]) else whole


def complete_masks(
    outputs: Mapping[str, FloatArray], config: DecodeSettings, *, snippets: Sequence[int] | None = None
) -> dict[str, FloatArray]:
    """Compute masks (B, T, T) from `FEW_MASKS`; rows that decoding does not read may be 0. Other outputs do not change.

    Args:
        outputs: those that the file was opened for.
        config: how they are decoded.
        snippets: snippets whose masks are computed; None: those that decoding reads.

    Raises:
        ValueError: a logit is not finite.
    """
    if MASK_NETWORKS not in outputs or not isinstance(config, DecodeConfig):
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
