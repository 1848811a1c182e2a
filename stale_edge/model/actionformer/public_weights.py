"""Weights of the public ActionFormer by name, and the name of each in this network."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from stale_edge.errors import CheckpointError
from stale_edge.model.actionformer.network import ActionFormer
from stale_edge.model.actionformer.settings import ActionFormerConfig


class Place(NamedTuple):
    """One public tensor: its name, its name here, its shape there, and how it is converted."""

    public: str
    own: str
    shape: tuple[int, ...]
    convert: Callable[[Tensor], Tensor]


def actionformer_from_public(tensors: Mapping[str, Tensor], config: ActionFormerConfig) -> ActionFormer:
    """Build the network with the weights of the public program, in eval mode.

    Args:
        tensors: by public names, without the prefix `module.`. A file trained without stochastic depth lacks the
            scales of the blocks' halves; they are 1 then.
        config: the network that the weights belong to.

    Raises:
        CheckpointError: a tensor is missing, unknown, of a wrong shape or not finite; the first few are named.
    """
    model = ActionFormer(config)
    places = list(public_places(config))
    without_scales = not any(_is_scale(name) for name in tensors)
    expected = [place for place in places if not (without_scales and _is_scale(place.public))]
    _check(tensors, expected)
    weights = own_weights(tensors, config)
    if without_scales:
        weights |= {place.own: torch.ones(config.pyramid_dim) for place in places if _is_scale(place.public)}
    model.load_state_dict(weights)
    return model.eval()


def own_weights(tensors: Mapping[str, Tensor], config: ActionFormerConfig) -> dict[str, Tensor]:
    """Convert public tensors (weights, gradients, averages) to the names and shapes of this network."""
    weights = {
        place.own: place.convert(tensors[place.public].float())
        for place in public_places(config)
        if place.public in tensors and place.own != _LEVEL_SCALES
    }
    scales = [tensors.get(f"reg_head.scale.{level}.scale") for level in range(config.n_levels)]
    present = [scale.float() for scale in scales if scale is not None]
    if len(present) == config.n_levels:
        weights[_LEVEL_SCALES] = torch.stack(present)
    return weights


_LEVEL_SCALES = "offset_head.scales"
"""One number a level here, one tensor a level in the public program."""


def public_places(config: ActionFormerConfig) -> Iterator[Place]:
    """List every tensor of the public network of a config."""
    dim, neck, head = config.pyramid_dim, config.neck_dim, config.head_dim
    inputs = [config.feature_channels] + [dim] * (config.n_embedding_layers - 1)
    for i, width in enumerate(inputs):
        yield _convolution(f"backbone.embd.{i}.conv.weight", f"embedding.{i}.convolution.linear.weight", dim, width)
        yield from _norm(f"backbone.embd_norm.{i}", f"embedding.{i}.norm", dim)
    blocks = [(f"backbone.stem.{i}", f"stem.{i}") for i in range(config.n_stem_blocks)]
    blocks += [(f"backbone.branch.{i}", f"branch.{i}") for i in range(config.n_levels - 1)]
    windows = [config.windows[0]] * config.n_stem_blocks + list(config.windows[1:])
    for (public, own), window in zip(blocks, windows, strict=True):
        yield from _block(public, own, config, window)
    for level in range(config.n_levels):
        if config.neck == "fpn":
            lateral, smooth = f"neck.lateral_convs.{level}.conv.weight", f"neck.fpn_convs.{level}.conv.weight"
            yield _matrix(lateral, f"neck.lateral.{level}.weight", neck, dim)
            yield _depthwise(smooth, f"neck.smooth.{level}.weight", neck)
        yield from _norm(f"neck.fpn_norms.{level}", f"neck.norms.{level}", neck)
    for public, own in (("cls_head", "class_head"), ("reg_head", "offset_head")):
        for i, width in enumerate([neck] + [head] * (config.n_head_layers - 2)):
            layer = f"{own}.trunk.layers.{i}"
            yield _convolution(f"{public}.head.{i}.conv.weight", f"{layer}.convolution.linear.weight", head, width)
            yield from _norm(f"{public}.norm.{i}", f"{layer}.norm", head)
    yield _convolution("cls_head.cls_head.conv.weight", "class_head.rows.linear.weight", config.n_classes, head)
    yield _vector("cls_head.cls_head.conv.bias", "class_head.rows.linear.bias", config.n_classes)
    yield _convolution("reg_head.offset_head.conv.weight", "offset_head.distances.linear.weight", 2, head)
    yield _vector("reg_head.offset_head.conv.bias", "offset_head.distances.linear.bias", 2)
    for level in range(config.n_levels):
        yield Place(f"reg_head.scale.{level}.scale", _LEVEL_SCALES, (), lambda scale: scale)


def _block(public: str, own: str, config: ActionFormerConfig, window: int) -> Iterator[Place]:
    dim = config.pyramid_dim
    yield from _norm(f"{public}.ln1", f"{own}.attention_norm", dim)
    yield from _norm(f"{public}.ln2", f"{own}.feedforward_norm", dim)
    for part in ("query", "key", "value"):
        there, here = f"{public}.attn.{part}", f"{own}.attention.{part}"
        yield _depthwise(f"{there}_conv.conv.weight", f"{here}.convolution.weight", dim)
        yield from _norm(f"{there}_norm", f"{here}.norm", dim)
        yield from _linear(there, f"{here}.linear", dim, dim)
    yield from _linear(f"{public}.attn.proj", f"{own}.attention.out", dim, dim)
    if config.relative_positions:
        shape = (1, 1, config.n_heads, window)
        yield Place(f"{public}.attn.rel_pe", f"{own}.attention.relative", shape, lambda table: table[0, 0])
    yield from _linear(f"{public}.mlp.0", f"{own}.feedforward.0", 4 * dim, dim)
    yield from _linear(f"{public}.mlp.3", f"{own}.feedforward.3", dim, 4 * dim)
    for half, path in (("attn", "attention_path"), ("mlp", "feedforward_path")):
        yield _channels(f"{public}.drop_path_{half}.scale", f"{own}.{path}.scale", dim)


def _convolution(public: str, own: str, out_dim: int, in_dim: int) -> Place:
    return Place(public, own, (out_dim, in_dim, 3), lambda weight: weight.permute(0, 2, 1).flatten(1))


def _depthwise(public: str, own: str, dim: int) -> Place:
    return Place(public, own, (dim, 1, 3), lambda weight: weight[:, 0].T.contiguous())


def _matrix(public: str, own: str, out_dim: int, in_dim: int) -> Place:
    return Place(public, own, (out_dim, in_dim, 1), lambda weight: weight[:, :, 0])


def _vector(public: str, own: str, dim: int) -> Place:
    return Place(public, own, (dim,), lambda vector: vector)


def _channels(public: str, own: str, dim: int) -> Place:
    return Place(public, own, (1, dim, 1), lambda channels: channels[0, :, 0])


def _linear(public: str, own: str, out_dim: int, in_dim: int) -> Iterator[Place]:
    yield _matrix(f"{public}.weight", f"{own}.weight", out_dim, in_dim)
    yield _vector(f"{public}.bias", f"{own}.bias", out_dim)


def _norm(public: str, own: str, dim: int) -> Iterator[Place]:
    for part in ("weight", "bias"):
        yield _channels(f"{public}.{part}", f"{own}.{part}", dim)


def _is_scale(name: str) -> bool:
    return name.endswith(("drop_path_attn.scale", "drop_path_mlp.scale"))


def _check(tensors: Mapping[str, Tensor], expected: list[Place]) -> None:
    shapes = {place.public: place.shape for place in expected}
    problems = [f"{name}: missing" for name in shapes if name not in tensors]
    problems += [f"{name}: unknown" for name in tensors if name not in shapes]
    for name, shape in shapes.items():
        tensor = tensors.get(name)
        if tensor is None:
            continue
        if tuple(tensor.shape) != shape:
            problems.append(f"{name}: shape {tuple(tensor.shape)}, expected {shape}")
        elif not bool(torch.isfinite(tensor).all()):
            problems.append(f"{name}: not finite")
    if problems:
        raise CheckpointError(
            f"the weights are not those of the ActionFormer that the configuration describes ({len(problems)} of "
            f"{len(shapes)} tensors differ): {'; '.join(problems[:5])}; give the configuration it was trained with"
        )
