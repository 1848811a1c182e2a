"""Networks of hostile bundles: they take the right inputs and give outputs of wrong shapes, types and values."""

import io
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

Outputs = dict[str, np.ndarray | None]
"""Arrays by the names of outputs; None: a sequence, which is no tensor."""


@dataclass(frozen=True)
class Sizes:
    """Axes of the good bundle that is attacked."""

    n_classes: int
    width: int
    channels: int
    length: int


class _Fixed(torch.nn.Module):
    """Gives the same tensors whatever it is given."""

    def __init__(self, class_logits: torch.Tensor, masks: torch.Tensor, foreground: torch.Tensor) -> None:
        super().__init__()
        self.class_logits, self.masks, self.foreground = class_logits, masks, foreground

    def forward(
        self,
        features: torch.Tensor,  # noqa: ARG002
        class_embeddings: torch.Tensor,  # noqa: ARG002
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return self.class_logits, self.masks, self.foreground


def outputs_of(graph: str, sizes: Sizes) -> dict[str, Outputs]:
    """Give the outputs of hostile networks for one graph, `detector` or `pipeline`, by what is wrong with them."""
    return _detector_outputs(sizes) if graph == "detector" else _pipeline_outputs(sizes)


def network(runtime: str, outputs: Outputs, sizes: Sizes, graph: str) -> bytes:
    """Write a network with constant outputs as the bytes of a file for ONNX Runtime or TorchScript."""
    return _torchscript(outputs) if runtime == "torchscript" else _onnx(outputs, sizes, graph)


def _detector_outputs(sizes: Sizes) -> dict[str, Outputs]:
    K, T = sizes.n_classes, sizes.length
    rng = np.random.default_rng(0)
    good: Outputs = {
        "class_logits": rng.standard_normal((1, K + 1, T)).astype(np.float32),
        "masks": rng.uniform(0, 1, (1, T, T)).astype(np.float32),
        "foreground": rng.uniform(0, 1, (1, T)).astype(np.float32),
    }
    logits, masks = good["class_logits"], good["masks"]
    assert logits is not None
    assert masks is not None
    return {
        "a row of class logits too few": {**good, "class_logits": logits[:, :-1]},
        "a row of class logits too many": {**good, "class_logits": np.pad(logits, ((0, 0), (0, 1), (0, 0)))},
        "class logits of fewer snippets": {**good, "class_logits": logits[:, :, :-1]},
        "class logits without an axis for videos": {**good, "class_logits": logits[0]},
        "two videos": {**good, "class_logits": np.concatenate([logits, logits])},
        "no class logits": {**good, "class_logits": logits[:0]},
        "one mask": {**good, "masks": masks[:, :1]},
        "masks of one number": {**good, "masks": masks[:, :1, :1]},
        "masks in one axis": {**good, "masks": masks.ravel()},
        "class logits as float64": {**good, "class_logits": logits.astype(np.float64)},
        "class logits as float16": {**good, "class_logits": logits.astype(np.float16)},
        "masks as int64": {**good, "masks": np.zeros_like(masks, dtype=np.int64)},
        "masks as a sequence": {**good, "masks": None},
        "class logits that are NaN": {**good, "class_logits": logits * np.float32(np.nan)},
        "masks above 1": {**good, "masks": masks + 1},
    }


def _pipeline_outputs(sizes: Sizes) -> dict[str, Outputs]:
    K = sizes.n_classes
    segments = np.array([[1, 4], [2, 6]], np.float32)
    scores = np.array([0.9, 0.5], np.float32)
    good: Outputs = {"segments": segments, "scores": scores, "labels": np.array([0, K - 1])}
    return {
        "a label below 0": {**good, "labels": np.array([0, -1])},
        "a label of no class": {**good, "labels": np.array([0, K])},
        "a label of 2^40": {**good, "labels": np.array([0, 2**40])},
        "labels as float32": {**good, "labels": np.array([0, 1], np.float32)},
        "a label too few": {**good, "labels": np.array([0])},
        "a score too many": {**good, "scores": np.array([0.9, 0.5, 0.4], np.float32)},
        "scores that are NaN": {**good, "scores": scores * np.float32(np.nan)},
        "an infinite score": {**good, "scores": np.array([np.inf, 0.5], np.float32)},
        "scores as float64": {**good, "scores": scores.astype(np.float64)},
        "scores in two axes": {**good, "scores": scores[None]},
        "scores as a sequence": {**good, "scores": None},
        "a segment that is NaN": {**good, "segments": segments * np.float32(np.nan)},
        "segments of three numbers": {**good, "segments": np.pad(segments, ((0, 0), (0, 1)))},
        "a segment too few": {**good, "segments": segments[:1]},
        "no segments": {**good, "segments": segments[:0]},
    }


def _onnx(outputs: Outputs, sizes: Sizes, graph: str) -> bytes:
    """Write constants behind the inputs that the graph takes; the sizes of outputs are left open."""
    shapes = {"features": (1, None, sizes.channels), "class_embeddings": (None, sizes.width)}
    if graph == "pipeline":
        shapes["duration_s"] = (1,)
    nodes, values = [], []
    for name, array in outputs.items():
        if array is None:
            kind = helper.make_tensor_sequence_value_info(name, TensorProto.FLOAT, (None,))
            nodes.append(helper.make_node("SequenceEmpty", [], [name]))
        else:
            dtype = helper.np_dtype_to_tensor_dtype(array.dtype)
            kind = helper.make_tensor_value_info(name, dtype, [None] * array.ndim)
            nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array)))
        values.append(kind)
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "hostile", inputs, values), opset_imports=[helper.make_opsetid("", 18)], ir_version=8
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _torchscript(outputs: Outputs) -> bytes:
    """Write the same as TorchScript, where an output is always a tensor: a sequence becomes one of no number."""
    tensors = {
        name: torch.from_numpy(np.zeros(0, np.float32) if array is None else np.ascontiguousarray(array))
        for name, array in outputs.items()
    }
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(_Fixed(**tensors)), file)
    return file.getvalue()
