"""Tensors of the public STALE code, by its names, into `ReleaseStale`."""

from collections.abc import Mapping

import torch
from torch import Tensor

from stale_edge.config import ModelConfig
from stale_edge.errors import CheckpointError
from stale_edge.model.stale.release import MASK_FEEDFORWARD, MASK_LAYERS, ReleaseStale

_KINDS = ("weight", "bias")
NEVER_USED = frozenset(
    {
        *(f"{layer}.0.{kind}" for layer in ("proj", "reduce_mask", "mask_MLP", "classifier") for kind in _KINDS),
        *(f"bn1.{kind}" for kind in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")),
        "contexts",
    }
)
"""Tensors of the public class that its forward pass never reads."""
TEXT_MODEL = "txt_model."
"""Beginning of the names of CLIP's own tensors, which are no part of the detector."""


def release_from_public(state_dict: Mapping[str, Tensor]) -> ReleaseStale:
    """Build the network that a public checkpoint was saved from, T and D read off its tensors, and load them.

    Args:
        state_dict: tensors by the public names, with or without the prefix `module.`.

    Returns:
        The network in eval mode.

    Raises:
        CheckpointError: a tensor is missing, unknown, of a wrong shape, or not finite.
    """
    tensors = public_tensors(state_dict)
    try:
        length, dim = tensors["localizer_mask.2.weight"].shape[0], tensors["bg_embeddings"].shape[1]
        n_heads = tensors["embedding.w_qs.weight"].shape[0] // dim
    except (KeyError, IndexError, ZeroDivisionError) as error:
        raise CheckpointError(f"not a checkpoint of the public STALE code: {error} is missing or misshapen") from error
    if length < 1 or n_heads < 1 or dim < 4 or dim % 4:
        raise CheckpointError(
            "not a checkpoint of the public STALE code: its tensors say "
            f"T = {length}, D = {dim} (a multiple of 4), {n_heads} heads"
        )
    config = ModelConfig(
        architecture="release", feature_channels=dim, embed_dim=dim, n_heads=n_heads, temporal_scale=length
    )
    model = ReleaseStale(config)
    problems = [
        f"{name}: shape {tuple(tensors[name].shape)}, expected {shape}"
        for name, shape in public_shapes(length=length, dim=dim, n_heads=n_heads).items()
        if name in tensors and tuple(tensors[name].shape) != shape
    ]
    problems += [f"{name}: not finite" for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if problems:
        raise CheckpointError(f"tensors of the public checkpoint do not fit: {'; '.join(problems[:5])}")
    model.load_state_dict(translate_public(tensors))
    return model.eval()


def public_tensors(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Strip the prefix `module.`, leave out CLIP and what the public forward pass never reads, give float32."""
    plain = {name.removeprefix("module."): tensor for name, tensor in state_dict.items()}
    return {
        name: tensor.float()
        for name, tensor in plain.items()
        if name not in NEVER_USED and not name.startswith(TEXT_MODEL)
    }


def public_shapes(*, length: int, dim: int, n_heads: int) -> dict[str, tuple[int, ...]]:
    """List the tensors that the public forward pass reads, by public name, with their shapes for T, D and heads."""
    shapes: dict[str, tuple[int, ...]] = {
        "bg_embeddings": (1, dim),
        "localizer_mask.0.weight": (dim // 2, dim, 3),
        "localizer_mask.0.bias": (dim // 2,),
        "localizer_mask.2.weight": (length, dim // 2, 1),
        "masktrans.query_embed.weight": (1, dim),
        "masktrans.input_proj.weight": (dim, dim, 1, 1),
        "masktrans.input_proj.bias": (dim,),
    }
    for block in ("embedding", "cross_att"):
        shapes |= {f"{block}.w_{letter}s.weight": (n_heads * dim, dim) for letter in "qkv"}
        shapes |= {f"{block}.fc.weight": (dim, n_heads * dim), f"{block}.fc.bias": (dim,)}
        shapes |= _pair(f"{block}.layer_norm", (dim,), dim)
    for index in range(3):
        shapes |= _pair(f"masktrans.mask_embed.layers.{index}", (dim, dim), dim)
    for part, attentions in (("encoder", ("self_attn",)), ("decoder", ("self_attn", "multihead_attn"))):
        shapes |= _pair(f"masktrans.transformer.{part}.norm", (dim,), dim)
        for index in range(MASK_LAYERS):
            layer = f"masktrans.transformer.{part}.layers.{index}"
            shapes |= _pair(f"{layer}.linear1", (MASK_FEEDFORWARD, dim), MASK_FEEDFORWARD)
            shapes |= _pair(f"{layer}.linear2", (dim, MASK_FEEDFORWARD), dim)
            for i in range(1, len(attentions) + 2):
                shapes |= _pair(f"{layer}.norm{i}", (dim,), dim)
            for attention in attentions:
                shapes |= {f"{layer}.{attention}.in_proj_weight": (3 * dim, dim)}
                shapes |= {f"{layer}.{attention}.in_proj_bias": (3 * dim,)}
                shapes |= _pair(f"{layer}.{attention}.out_proj", (dim, dim), dim)
    return shapes


def _pair(name: str, weight: tuple[int, ...], bias: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": weight, f"{name}.bias": (bias,)}


def translate_public(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and repack public tensors for `ReleaseStale`, whose convolutions and packed projections are linear layers.

    Raises:
        CheckpointError: a tensor is missing or unknown.
    """
    left = dict(tensors)
    try:
        model = _translate(left)
    except KeyError as error:
        raise CheckpointError(f"the public checkpoint lacks the tensor {error}") from error
    if left:
        raise CheckpointError(f"the public checkpoint holds unknown tensors: {', '.join(sorted(left)[:5])}")
    return model


def _translate(left: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take every tensor out of `left`."""
    model = {"background": left.pop("bg_embeddings")}
    for public, own in (("embedding", "temporal"), ("cross_att", "adaption")):
        q, k, v = (left.pop(f"{public}.w_{letter}s.weight") for letter in "qkv")
        if own == "temporal":
            model[f"{own}.attention.query_key_value.weight"] = torch.cat([q, k, v])
        else:
            model[f"{own}.attention.query.weight"] = q
            model[f"{own}.attention.key_value.weight"] = torch.cat([k, v])
        for kind in ("weight", "bias"):
            model[f"{own}.attention.out.{kind}"] = left.pop(f"{public}.fc.{kind}")
            model[f"{own}.norm.{kind}"] = left.pop(f"{public}.layer_norm.{kind}")
    # (out, in, 3) of a convolution to (out, 3 * in) of the linear layer over shifted copies
    model["localizer.0.linear.weight"] = left.pop("localizer_mask.0.weight").transpose(1, 2).flatten(1)
    model["localizer.0.linear.bias"] = left.pop("localizer_mask.0.bias")
    model["localizer.2.weight"] = left.pop("localizer_mask.2.weight").squeeze(-1)
    model["masking.query"] = left.pop("masktrans.query_embed.weight").unsqueeze(0)
    model["masking.project.weight"] = left.pop("masktrans.input_proj.weight").flatten(1)
    model["masking.project.bias"] = left.pop("masktrans.input_proj.bias")
    for kind in ("weight", "bias"):
        for index in range(3):
            model[f"masking.mask_projection.{2 * index}.{kind}"] = left.pop(
                f"masktrans.mask_embed.layers.{index}.{kind}"
            )
        for part, n_norms in (("encoder", 2), ("decoder", 3)):
            model[f"masking.{part}_norm.{kind}"] = left.pop(f"masktrans.transformer.{part}.norm.{kind}")
            for index in range(MASK_LAYERS):
                public, own = f"masktrans.transformer.{part}.layers.{index}", f"masking.{part}.{index}"
                for i in range(1, n_norms + 1):
                    model[f"{own}.norm{i}.{kind}"] = left.pop(f"{public}.norm{i}.{kind}")
                model[f"{own}.feedforward.0.{kind}"] = left.pop(f"{public}.linear1.{kind}")
                model[f"{own}.feedforward.3.{kind}"] = left.pop(f"{public}.linear2.{kind}")
                attentions = {"self_attn": "self_attention"} | (
                    {"multihead_attn": "cross_attention"} if n_norms == 3 else {}
                )
                for theirs, ours in attentions.items():
                    packed = left.pop(f"{public}.{theirs}.in_proj_{kind}").chunk(3)
                    for role, tensor in zip(("query", "key", "value"), packed, strict=True):
                        model[f"{own}.{ours}.{role}.{kind}"] = tensor
                    model[f"{own}.{ours}.out.{kind}"] = left.pop(f"{public}.{theirs}.out_proj.{kind}")
    return model
