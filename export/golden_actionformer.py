"""Write a golden bundle of ActionFormer: a small network with drawn weights, exported behind the parity check.

Drawn scores lie close together, so the last layer's are spread: then candidates differ by far more than rounding.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stale_edge import load_bundle
from stale_edge.config import Config, FeatureSpec, PointsConfig, TrainConfig
from stale_edge.exporting import export_checkpoint
from stale_edge.model import build_model
from stale_edge.model.actionformer import ActionFormer, ActionFormerConfig
from stale_edge.model.actionformer.objective_settings import PointObjectiveConfig
from stale_edge.model.checkpoint import write_checkpoint
from stale_edge.model.rows import row_bank

NAME = "actionformer"
N_LEVELS = 3
DURATION_S = 60.0
SPREAD = 12.0
"""Factor of the last layer's weights."""


def actionformer_case(
    out: Path, names: Sequence[str], features: Path, *, perturbation: float
) -> Iterator[dict[str, Any]]:
    """Write the bundle and say what the Python package finds in a video with it.

    Args:
        out: folder of all cases.
        names: the classes.
        features: file of the video, below `out`.
        perturbation: features that differ by this must give the same detections.
    """
    values = np.load(out / features)
    config = ActionFormerConfig(
        feature_channels=values.shape[1],
        n_classes=len(names),
        pyramid_dim=16,
        neck_dim=16,
        head_dim=16,
        ranges=((0.0, 4.0), (4.0, 8.0), (8.0, 10000.0)),
        windows=(9,) * N_LEVELS,
        max_length=64,
    )
    torch.manual_seed(0)
    network = build_model(config).eval()
    if not isinstance(network, ActionFormer):
        raise TypeError(f"{NAME} is another network: {type(network).__name__}")
    with torch.no_grad():
        network.class_head.rows.linear.weight.mul_(SPREAD)
        network.class_head.rows.linear.bias.add_(2.0)
    decode = PointsConfig(n_levels=N_LEVELS, pre_nms_threshold=0.02, max_detections=20)
    write_checkpoint(
        out / "checkpoints" / NAME,
        model=network,
        config=Config(model=config, train=TrainConfig(), loss=PointObjectiveConfig(), decode=decode),
        feature_spec=FeatureSpec(encoder="toy", channels=values.shape[1], fps=8.0, stride=16, num_frames=20),
        class_bank=row_bank(network, names),
        text_encoder=None,
    )
    bundle = Path("bundles") / NAME
    export_checkpoint(out / "checkpoints" / NAME, out / bundle, precisions=("fp32",))
    localizer = load_bundle(out / bundle)
    found = localizer.detect(values, duration_s=DURATION_S)
    noise = np.random.default_rng(0).standard_normal((4, *values.shape)).astype(np.float32)
    wanted = {(d.label, round(d.start_s, 1), round(d.end_s, 1)) for d in found}
    for one in noise:
        again = localizer.detect(values + perturbation * one, duration_s=DURATION_S)
        if len(found) < 3 or wanted != {(d.label, round(d.start_s, 1), round(d.end_s, 1)) for d in again}:
            raise SystemExit(
                f"{bundle}: {len(found)} detections, which noise of {perturbation} changes: spread them more"
            )
    rows = [{"label": d.label, "score": d.score, "segment": [d.start_s, d.end_s]} for d in found]
    yield {
        "name": NAME,
        "bundle": str(bundle),
        "features": str(features),
        "duration_s": DURATION_S,
        "expected": {"onnxruntime": {"fp32": rows}},
    }
