"""A tiny detector with the contract's inputs and outputs, built by hand: tests of bundle and runtime need no training.

`outputs` is the same arithmetic in NumPy. Weights are functions of the seed; nothing here is trained.
"""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from stale_edge.bundle import (
    ClassBank,
    FeatureContract,
    detector_inputs,
    graph_metadata,
    mask_detector_outputs,
    write_bundle,
)
from stale_edge.bundle.encoder_copy import copy_encoder
from stale_edge.bundle.manifest import sealed_text
from stale_edge.config import DecodeConfig

CHANNELS = 8
EMBED_DIM = 6
NAMES = ("jump", "pole vault", "Ćwiczenia")
FINGERPRINT = "tiny-text-encoder"
DECODE = DecodeConfig(top_snippets=20, mask_thresholds=(0.3, 0.5, 0.7))


def weights(seed: int = 0) -> dict[str, np.ndarray]:
    """Draw the projection (C, D), the background logit and the foreground direction (D, 1)."""
    rng = np.random.default_rng(seed)
    return {
        "projection": rng.standard_normal((CHANNELS, EMBED_DIM)).astype(np.float32)
        / np.sqrt(CHANNELS).astype(np.float32),
        "background": np.array([0.3], dtype=np.float32),
        "direction": rng.standard_normal((EMBED_DIM, 1)).astype(np.float32),
    }


def outputs(features: np.ndarray, class_embeddings: np.ndarray, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Compute what the graph gives for (B, T, C) features and (K, D) embeddings."""
    w = weights(seed)
    embedding = features.astype(np.float32) @ w["projection"]  # (B, T, D)
    classes = embedding @ class_embeddings.T  # (B, T, K)
    background = np.full((*classes.shape[:2], 1), w["background"][0], dtype=np.float32)
    logits = np.concatenate([classes, background], axis=2).transpose(0, 2, 1)  # (B, K+1, T)
    return {
        "class_logits": logits,
        "masks": _sigmoid(embedding @ embedding.transpose(0, 2, 1)),
        "foreground": _sigmoid(embedding @ w["direction"])[..., 0],
    }


def features(n_snippets: int = 12, *, batch: int | None = None, seed: int = 1) -> np.ndarray:
    """Draw features (T, C), or (B, T, C)."""
    shape = (n_snippets, CHANNELS) if batch is None else (batch, n_snippets, CHANNELS)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def bank(names: tuple[str, ...] = NAMES, *, fingerprint: str = FINGERPRINT, seed: int = 2) -> ClassBank:
    """Draw a class bank; a name's embedding does not depend on the names beside it."""
    rows = [np.random.default_rng([seed, *name.encode()]).standard_normal(EMBED_DIM) for name in names]
    return ClassBank(names, np.array(rows, dtype=np.float32), fingerprint)


def contract(*, length: int | None = None, resample_to: int | None = 16, stride: int = 5) -> FeatureContract:
    """Feature contract of the tiny detector; `length` fixes T, `resample_to=None` leaves features as they come."""
    resampling = "none" if resample_to is None else "linear"
    return FeatureContract("tiny-encoder", CHANNELS, 25.0, stride, length, resampling, length or resample_to)


def model(*, length: int | None = None, metadata: dict[str, str] | None = None, seed: int = 0) -> onnx.ModelProto:
    """Build the detector graph out of standard operators."""
    nodes = [
        helper.make_node("MatMul", ["features", "projection"], ["embedding"]),
        helper.make_node("Transpose", ["class_embeddings"], ["class_columns"], perm=[1, 0]),
        helper.make_node("MatMul", ["embedding", "class_columns"], ["class_rows"]),
        helper.make_node("MatMul", ["embedding", "direction"], ["foreground_logits"]),  # (B, T, 1)
        helper.make_node("Sub", ["foreground_logits", "foreground_logits"], ["zeros"]),
        helper.make_node("Add", ["zeros", "background"], ["background_rows"]),
        helper.make_node("Concat", ["class_rows", "background_rows"], ["logit_rows"], axis=2),
        helper.make_node("Transpose", ["logit_rows"], ["class_logits"], perm=[0, 2, 1]),
        helper.make_node("Transpose", ["embedding"], ["columns"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["embedding", "columns"], ["affinity"]),
        helper.make_node("Sigmoid", ["affinity"], ["masks"]),
        helper.make_node("Sigmoid", ["foreground_logits"], ["foreground_column"]),
        helper.make_node("Squeeze", ["foreground_column", "last_axis"], ["foreground"]),
    ]
    constants = [numpy_helper.from_array(value, name) for name, value in weights(seed).items()]
    constants.append(numpy_helper.from_array(np.array([2], dtype=np.int64), "last_axis"))
    inputs = detector_inputs(channels=CHANNELS, embed_dim=EMBED_DIM, length=length)
    graph = helper.make_graph(
        nodes,
        "tiny-detector",
        [helper.make_tensor_value_info(spec.name, TensorProto.FLOAT, spec.shape) for spec in inputs],
        [
            helper.make_tensor_value_info(spec.name, TensorProto.FLOAT, spec.shape)
            for spec in mask_detector_outputs(length=length)
        ],
        constants,
    )
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    for key, value in (metadata or {}).items():
        built.metadata_props.append(onnx.StringStringEntryProto(key=key, value=value))
    onnx.checker.check_model(built, full_check=True)
    return built


def write(
    path: Path,
    *,
    names: tuple[str, ...] = NAMES,
    length: int | None = None,
    resample_to: int | None = 16,
    stride: int = 5,
    precisions: tuple[str, ...] = ("fp32",),
    torchscript: bool = False,
    overwrite: bool = False,
    seed: int = 0,
    encoder: Path | None = None,
) -> Path:
    """Write a bundle of the tiny detector; every precision is the same fp32 arithmetic under another name."""
    feature_contract = contract(length=length, resample_to=resample_to, stride=stride)
    metadata = graph_metadata(
        architecture="release" if length else "paper",
        feature_contract=feature_contract,
        decode=DECODE,
        class_names=names,
    )
    signature = {
        "inputs": detector_inputs(channels=CHANNELS, embed_dim=EMBED_DIM, length=length),
        "outputs": mask_detector_outputs(length=length),
    }
    with write_bundle(path, overwrite=overwrite) as writer:
        for precision in precisions:
            name = f"detector-{precision}.onnx"
            onnx.save(model(length=length, metadata=metadata, seed=seed), writer.folder / name)
            quantized = {"weights_quantized": 48, "weights_total": 55} if precision == "int8" else {}
            writer.add_file(name, role="detector", runtime="onnxruntime", precision=precision, **signature, **quantized)
        if torchscript:
            _save_torchscript(writer.folder / "detector-fp32.torchscript.pt", seed=seed)
            writer.add_file(
                "detector-fp32.torchscript.pt", role="detector", runtime="torchscript", precision="fp32", **signature
            )
        if encoder is not None:
            copy_encoder(encoder, writer, contract=feature_contract)
        writer.set_class_bank(bank(names))
        writer.commit(
            architecture="release" if length else "paper",
            feature_contract=feature_contract,
            decode=DECODE,
            parity={"fp32": {"flipped_snippets": 0}},
            provenance={"checkpoint_sha256": "0" * 64},
        )
    return path


def edit_manifest(path: Path, change) -> None:
    """Let `change` edit the manifest's JSON values in place, and seal it again correctly."""
    file = path / "manifest.json"
    values = json.loads(file.read_text(encoding="utf-8"))
    change(values)
    values.pop("manifest_sha256", None)
    file.write_text(sealed_text(values), encoding="utf-8")


def _save_torchscript(path: Path, *, seed: int) -> None:
    import torch

    w = {name: torch.from_numpy(value) for name, value in weights(seed).items()}

    class Tiny(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, value in w.items():
                self.register_buffer(name, value)

        def forward(self, features, class_embeddings):
            embedding = features @ self.projection
            rows = embedding @ class_embeddings.T
            background = torch.zeros_like(rows[..., :1]) + self.background
            logits = torch.cat([rows, background], dim=2).transpose(1, 2)
            masks = torch.sigmoid(embedding @ embedding.transpose(1, 2))
            return logits, masks, torch.sigmoid(embedding @ self.direction)[..., 0]

    example = (torch.zeros(2, 5, CHANNELS), torch.zeros(3, EMBED_DIM))
    torch.jit.trace(Tiny(), example).save(str(path))


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))
