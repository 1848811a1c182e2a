"""How large the public network is: every parameter that its class defines, counted from shapes alone."""

from math import prod
from typing import NamedTuple

from stale_edge.model.stale.release_weights import public_shapes

NEVER_USED_SHAPES: dict[str, tuple[int, ...]] = {
    "proj.0.weight": (512, 2048, 3),
    "proj.0.bias": (512,),
    "classifier.0.weight": (202, 512, 1),
    "classifier.0.bias": (202,),
    "bn1.weight": (2048,),
    "bn1.bias": (2048,),
    "reduce_mask.0.weight": (1, 100, 1),
    "reduce_mask.0.bias": (1,),
    "mask_MLP.0.weight": (1, 5, 1),
    "mask_MLP.0.bias": (1,),
    "contexts": (1, 30),
}
"""stale_model.py:45-93 of sauradip/STALE; the forward pass reads none of them."""
NOT_IN_CPU_VARIANT = ("proj.", "bn1.", "reduce_mask.", "mask_MLP.")
"""Those of them that the class quantized in the thesis lacks (STALE_cpu/stale_model_single_input.py:46-94)."""


class PublicSize(NamedTuple):
    """Parameters of the public class, by use.

    detector: used in every forward pass. text: CLIP's text tower. never: CLIP's image tower and dead layers.
    linear: of all, the weights of linear layers outside `nn.MultiheadAttention`, which torch's dynamic quantization
        turns into int8.
    """

    detector: int
    text: int
    never: int
    linear: int

    @property
    def all(self) -> int:
        """Every parameter."""
        return self.detector + self.text + self.never

    def bytes(self, low_width: int) -> int:
        """Size of the weights in bytes: `low_width` bytes per weight of a linear layer, 4 bytes per other number."""
        return 4 * (self.all - self.linear) + low_width * self.linear


def public_size(length: int, *, cpu_variant: bool = False) -> PublicSize:
    """Count the public class at T = `length`; CLIP is built without memory, by its configuration.

    Args:
        length: T.
        cpu_variant: the class that the thesis quantized, which lacks some dead layers.

    Raises:
        ImportError: transformers is not installed.
    """
    import torch
    from torch import nn
    from transformers import CLIPConfig, CLIPModel

    with torch.device("meta"):
        clip = CLIPModel(CLIPConfig())  # its defaults are ViT-B/32's
    text = sum(p.numel() for name, p in clip.named_parameters() if name.startswith(("text_model", "text_projection")))
    linear = sum(layer.weight.numel() for layer in clip.modules() if isinstance(layer, nn.Linear))
    shapes = public_shapes(length=length, dim=512, n_heads=4)
    linear += sum(prod(shape) for name, shape in shapes.items() if _is_linear(name))
    left_out = NOT_IN_CPU_VARIANT if cpu_variant else ()
    never = sum(prod(shape) for name, shape in NEVER_USED_SHAPES.items() if not name.startswith(left_out))
    clip_all = sum(p.numel() for p in clip.parameters())
    return PublicSize(sum(prod(shape) for shape in shapes.values()), text, never + clip_all - text, linear)


def _is_linear(name: str) -> bool:
    """Say whether a public tensor is the weight of a linear layer that dynamic quantization replaces."""
    layers = (".w_qs.", ".w_ks.", ".w_vs.", ".fc.", ".linear1.", ".linear2.", ".mask_embed.")
    return name.endswith(".weight") and any(layer in name for layer in layers)
