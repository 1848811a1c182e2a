"""The reference, as timed in the thesis: eager PyTorch in fp32, with CLIP's text tower inside every forward pass.

The public code (stale_model.py of sauradip/STALE, `text_features`) embeds all class prompts again for each video. The
reference does the same with the same sizes: prompts padded to the longest of them, attention written out as products
and a softmax. It leaves out the tokenising of prompts and a log-softmax of attention that nothing reads, so it is
rather too fast than too slow. The public benchmark is one cold call with gradients; this runs warm, in inference mode.
"""

import warnings
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from stale_edge.benchmarking.jobs import Job, Workload
from stale_edge.benchmarking.network_sizes import Network
from stale_edge.benchmarking.synthetic import random_features
from stale_edge.benchmarking.torch_rows.detectors import (
    build_detector,
    call_of,
    network_of,
    random_inputs,
    set_threads,
    weight_bytes,
    written_out_attention,
)
from stale_edge.benchmarking.torch_rows.text_tower import build_text_tower
from stale_edge.config import Precision
from stale_edge.model.architectures import architecture_of

_NOT_LINEAR_IN_PUBLIC = (
    "localizer.",
    "masking.project",
    "masking.encoder.0.self_attention.",
    "masking.encoder.1.self_attention.",
    "masking.decoder.0.self_attention.",
    "masking.decoder.0.cross_attention.",
    "masking.decoder.1.self_attention.",
    "masking.decoder.1.cross_attention.",
)
"""Linear layers of `ReleaseStale` whose counterparts are convolutions or inside `nn.MultiheadAttention`."""


def reference_workload(job: Job) -> Workload:
    """Run what the public program runs for each video."""
    set_threads(job.threads)
    network = network_of(job)
    forward, n_bytes = build_reference(network, seed=job.seed, device=job.device, precision=job.precision)
    features, _ = random_inputs(job, network)
    return Workload(call_of(forward, features.to(job.device)), n_bytes)


def text_workload(job: Job) -> Workload:
    """Run the text tower alone, once for all classes."""
    set_threads(job.threads)
    network = network_of(job)
    if network.text is None:
        raise ValueError("the sizes of the text tower are not known")
    tower, prompts = build_text_tower(network.text, network.n_classes, seed=job.seed)
    tower = tower.to(job.device)
    return Workload(call_of(tower, *(tensor.to(job.device) for tensor in prompts)), weight_bytes(tower))


def build_reference(
    network: Network, *, seed: int, device: str = "cpu", precision: Precision = "fp32"
) -> tuple[Callable[[Tensor], object], int]:
    """Combine text tower and detector as the public program does.

    Args:
        network: sizes of both.
        seed: seed of the weights.
        device: `cpu` or `cuda`.
        precision: fp16 and int8 are made as in the thesis, by `quantize_as_thesis`, on the CPU only.

    Returns:
        forward: maps features (B, T, C) on `device` to the detector's output. Where the public program does, it encodes
            every class prompt in each call; else it reads random class embeddings.
        model_bytes: bytes of the weights of both.

    Raises:
        ValueError: the network's text tower is not known.
    """
    if not network.has_reference:
        raise ValueError("a reference needs the sizes of the text tower; this network has none")
    trained = build_detector(network, seed=seed).to(device)
    detector = architecture_of(network.model.architecture).public_form(trained)
    n_bytes = quantize_as_thesis(trained, precision)
    if network.text is None or not network.text_per_video:
        classes = torch.from_numpy(random_features(network.n_classes, network.model.embed_dim, seed=seed + 1))
        return partial(detector, class_embeddings=classes.to(device)), n_bytes
    tower, prompts = build_text_tower(network.text, network.n_classes, seed=seed)
    tower = tower.to(device)
    token_ids, attention_mask = (tensor.to(device) for tensor in prompts)

    def forward(features: Tensor) -> object:
        with written_out_attention():
            return detector(features, tower(token_ids, attention_mask))

    return forward, n_bytes + quantize_as_thesis(tower, precision)


def quantize_as_thesis(module: nn.Module, precision: Precision) -> int:
    """Quantize, in place, the linear layers that torch's dynamic quantization replaces in the public network.

    The thesis requests linear layers and convolutions (STALE_cpu/stale_quantized_inference.py:62-64), but torch leaves
    convolutions and the layers of `nn.MultiheadAttention` unchanged. Their counterparts here stay fp32 too.

    Returns:
        Bytes of the module's weights afterwards: 1 per number in int8, 2 in fp16, 4 for biases and all others.
    """
    if precision == "fp32":
        return weight_bytes(module)
    layers = {
        name: layer.weight.numel()
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear) and not name.startswith(_NOT_LINEAR_IN_PUBLIC)
    }
    width = {"int8": 1, "fp16": 2}[precision]
    n_bytes = weight_bytes(module) - (4 - width) * sum(layers.values())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's eager quantization is deprecated
        torch.ao.quantization.quantize_dynamic(  # type: ignore[no-untyped-call]
            module, set(layers), dtype=torch.qint8 if precision == "int8" else torch.float16, inplace=True
        )
    return n_bytes
