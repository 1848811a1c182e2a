"""Golden cases of the public ActionFormer: weights and features are made up, each drawn from its own name."""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stale_edge.model.actionformer import ActionFormer, ActionFormerConfig
from stale_edge.model.actionformer.public_settings import read_public_settings
from stale_edge.model.actionformer.public_weights import actionformer_from_public, public_places

Arrays = Mapping[str, NDArray[Any]]


def made_up(seed: int, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Draw the numbers that a name stands for."""
    generator = np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())]))
    return generator.standard_normal(shape, dtype=np.float32)


def made_up_weight(seed: int, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Draw one tensor of the public state dict."""
    z = made_up(seed, name, shape)
    fan_in = np.float32(np.sqrt(np.prod(shape[1:], dtype=np.float64)))
    if name.endswith(".scale"):
        return np.asarray(1 + np.float32(0.1) * z)
    if name == "cls_head.cls_head.conv.bias":
        return np.float32(-3) + np.float32(0.1) * z
    if name == "reg_head.offset_head.conv.bias":
        return np.float32(2) + np.float32(0.1) * z
    if name in ("cls_head.cls_head.conv.weight", "reg_head.offset_head.conv.weight"):
        return 2 * z / fan_in
    if len(shape) == 3 and shape[0] == shape[2] == 1 and name.endswith("weight"):
        return 1 + np.float32(0.1) * z
    if name.endswith(("bias", "rel_pe")):
        return np.float32(0.1) * z
    return z / fan_in


def made_up_weights(config: ActionFormerConfig, seed: int) -> dict[str, torch.Tensor]:
    """Draw a whole public state dict."""
    return {
        place.public: torch.from_numpy(np.array(made_up_weight(seed, place.public, place.shape)))
        for place in public_places(config)
    }


def public_config(golden: Path, case: str) -> dict[str, Any]:
    """Read the public configuration of a case."""
    values: dict[str, Any] = json.loads((golden / f"actionformer_{case}.json").read_text())
    return values.get("model", values)


def read_case(golden: Path, case: str) -> tuple[ActionFormer, Arrays]:
    """Build the network of a golden case with its made-up weights, and read the case's numbers."""
    arrays = np.load(golden / f"actionformer_{case}.npz")
    config = read_public_settings({"model": public_config(golden, case)}).network
    return actionformer_from_public(made_up_weights(config, int(arrays["seed"])), config), arrays
