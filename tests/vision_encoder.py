"""A tiny visual encoder built by hand in ONNX: tests of features and detection need no transformers and no export."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from stale_edge.bundle import MANIFEST_NAME, FileEntry
from stale_edge.bundle.encoder_folder import (
    EncoderManifest,
    encoder_inputs,
    encoder_metadata,
    encoder_outputs,
    write_encoder,
)
from stale_edge.bundle.files import sha256_of
from stale_edge.video import ClipPreprocess

EMBED_DIM = 8
"""As wide as the features of the tiny detector in tiny.py."""
SIZE = 12
FINGERPRINT = "sha256:tiny-vision"
PREPROCESS = ClipPreprocess(shortest_edge=SIZE, crop_height=SIZE, crop_width=SIZE)


def write(path: Path, *, fingerprint: str = FINGERPRINT, dim: int = EMBED_DIM) -> Path:
    """Write an encoder folder whose features are one random product with the preprocessed picture."""
    weight = np.random.default_rng(0).standard_normal((3 * SIZE * SIZE, dim)).astype(np.float32) / SIZE
    (pixels,), (features,) = encoder_inputs((SIZE, SIZE)), encoder_outputs(dim)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["pixel_values"], ["flat"], axis=1),
            helper.make_node("MatMul", ["flat", "weight"], ["image_embeds"]),
        ],
        "visual_encoder",
        [helper.make_tensor_value_info(pixels.name, TensorProto.FLOAT, pixels.shape)],
        [helper.make_tensor_value_info(features.name, TensorProto.FLOAT, features.shape)],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, encoder_metadata(fingerprint, PREPROCESS.to_json()))
    with write_encoder(path) as folder:
        file = folder / "encoder-fp32.onnx"
        onnx.save(model, file)
        entry = FileEntry(
            file.name,
            sha256_of(file),
            file.stat().st_size,
            "visual_encoder",
            "onnxruntime",
            "fp32",
            (pixels,),
            (features,),
        )
        manifest = EncoderManifest("tiny-vision", dim, (SIZE, SIZE), fingerprint, PREPROCESS.to_json(), (entry,))
        (folder / MANIFEST_NAME).write_text(manifest.to_text(), encoding="utf-8")
    return path
