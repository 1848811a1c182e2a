"""What the thesis timed: PyTorch eager in fp32, with CLIP's text tower inside every forward pass.

The public code (stale_model.py of sauradip/STALE, `text_features`) embeds all class prompts again for each video. Here
that is repeated with the same sizes: prompts padded to the longest of them, attention written out as products and a
softmax. Left out, so that the reference is rather too fast than too slow: tokenising the prompts, and a log-softmax of
attention that nothing reads. Unlike its benchmark, one cold call with gradients on, this runs warm, in inference mode.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from stale_edge.benchmarking.network import Network, TextTower
from stale_edge.config import Precision
from stale_edge.errors import MissingExtraError

if TYPE_CHECKING:
    from torch import Tensor, nn


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


def build_detector(network: Network, *, seed: int) -> "nn.Module":
    """Build the detector with random weights, in eval mode.

    Raises:
        MissingExtraError: torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("measuring PyTorch rows needs torch: pip install stale-edge[train]") from error
    from stale_edge.model import build_model

    torch.manual_seed(seed)
    return build_model(network.model).eval()


def build_text_tower(tower: TextTower, n_classes: int, *, seed: int) -> tuple["nn.Module", tuple["Tensor", "Tensor"]]:
    """Build CLIP's text tower with random weights, and random prompts of the counted lengths.

    Returns:
        module: called as `module(token_ids (K, L), attention_mask (K, L))`, gives embeddings (K, D).
        inputs: token_ids and attention_mask, int64, padded to the longest prompt L.

    Raises:
        MissingExtraError: torch or transformers is not installed.
    """
    try:
        import torch
        from torch import nn
        from transformers import CLIPTextConfig, CLIPTextModelWithProjection
    except ImportError as error:
        raise MissingExtraError("the text tower needs torch and transformers: pip install stale-edge[train]") from error

    end_of_text = tower.vocabulary - 1  # CLIP's last token; it pads with it too, and pools at the first one

    class Tower(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.clip = CLIPTextModelWithProjection(
                CLIPTextConfig(
                    vocab_size=tower.vocabulary,
                    hidden_size=tower.width,
                    intermediate_size=tower.feedforward,
                    num_hidden_layers=tower.layers,
                    num_attention_heads=tower.heads,
                    max_position_embeddings=tower.positions,
                    projection_dim=tower.embed_dim,
                    eos_token_id=end_of_text,
                    bos_token_id=end_of_text - 1,
                    pad_token_id=end_of_text,
                    attn_implementation="eager",
                )
            )

        def forward(self, token_ids: "Tensor", attention_mask: "Tensor") -> "Tensor":
            return self.clip(input_ids=token_ids, attention_mask=attention_mask).text_embeds  # type: ignore[no-any-return]

    torch.manual_seed(seed)
    lengths = torch.tensor(tower.prompt_lengths(n_classes))
    positions = torch.arange(int(lengths.max()))
    attention_mask = (positions < lengths[:, None]).long()  # (K, L)
    token_ids = torch.randint(end_of_text - 1, attention_mask.shape)
    token_ids[positions >= lengths[:, None] - 1] = end_of_text
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers' remarks on its own defaults
        module = Tower().eval()
    return module, (token_ids, attention_mask)


def build_reference(
    network: Network, *, seed: int, device: str = "cpu", precision: Precision = "fp32"
) -> tuple[Callable[["Tensor"], object], int]:
    """Put text tower and detector together as the public code does.

    Args:
        network: whose sizes are built.
        seed: of the weights.
        device: `cpu` or `cuda`.
        precision: fp16 and int8 as the thesis makes them, by `quantize_as_thesis`, on the CPU alone.

    Returns:
        forward: features (B, T, C) on `device` to the detector's output, every class prompt encoded on the way.
        model_bytes: of the weights of both.

    Raises:
        ValueError: the network's text tower is not known.
        MissingExtraError: torch or transformers is not installed.
    """
    if network.text is None:
        raise ValueError("a reference needs the sizes of the text tower; this network has none")
    detector = build_detector(network, seed=seed).to(device)
    tower, prompts = build_text_tower(network.text, network.n_classes, seed=seed)
    tower = tower.to(device)
    token_ids, attention_mask = (tensor.to(device) for tensor in prompts)
    n_bytes = sum(quantize_as_thesis(module, precision) for module in (detector, tower))

    def forward(features: "Tensor") -> object:
        with written_out_attention():
            return detector(features, tower(token_ids, attention_mask))

    return forward, n_bytes


def quantize_as_thesis(module: "nn.Module", precision: Precision) -> int:
    """Replace, in place, the linear layers that torch's dynamic quantization replaces in the public network.

    The thesis asks it for linear layers and convolutions (STALE_cpu/stale_quantized_inference.py:62-64); it leaves
    convolutions and the layers of `nn.MultiheadAttention` as they are. What stands for those here stays fp32 too.

    Returns:
        Bytes of the module's weights afterwards: 1 a number in int8, 2 in fp16, biases and all else 4.
    """
    if precision == "fp32":
        return weight_bytes(module)
    import torch
    from torch import nn

    layers = {
        name: layer.weight.numel()
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear) and not name.startswith(_NOT_LINEAR_IN_PUBLIC)
    }
    width = {"int8": 1, "fp16": 2}[precision]
    n_bytes = weight_bytes(module) - (4 - width) * sum(layers.values())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces that its own way of quantizing will go
        torch.ao.quantization.quantize_dynamic(  # type: ignore[no-untyped-call]
            module, set(layers), dtype=torch.qint8 if precision == "int8" else torch.float16, inplace=True
        )
    return n_bytes


@contextlib.contextmanager
def written_out_attention() -> Iterator[None]:
    """Make every attention of torch a product, a softmax and a product, each stored: no fused kernel, no fast path."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


def weight_bytes(module: "nn.Module") -> int:
    """Return the bytes of all parameters and buffers."""
    tensors = [*module.parameters(), *module.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
