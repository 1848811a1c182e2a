"""The network: embedding, pyramid of transformer blocks, neck, and two heads that every level shares."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from stale_edge.bundle.manifest import TensorSpec, point_detector_outputs
from stale_edge.model.actionformer.heads import ClassHead, IdentityNeck, OffsetHead, PyramidNeck
from stale_edge.model.actionformer.layers import Block, ConvolutionLayer, LocalAttention
from stale_edge.model.actionformer.padding import padded_length
from stale_edge.model.actionformer.positions import AbsolutePositions
from stale_edge.model.actionformer.settings import ActionFormerConfig
from stale_edge.model.detector import DetectorNetwork
from stale_edge.model.input_checks import check_inputs, is_recording
from stale_edge.model.pyramid.output import PointOutput
from stale_edge.model.pyramid.padding import pad

PRIOR = 0.01
"""Class score of every point before training: few points lie in an action, so the first losses stay small."""


class Pyramid(nn.Module):
    """Turn snippets into a pyramid of time scales: embedding, transformer blocks, neck.

    Level l has a point every 2**l snippets, at snippets 0, 2**l, 2 * 2**l, ... Any number of snippets goes in; the
    network pads them itself, see `padding`.

    Args:
        config: sizes of the pyramid.
    """

    def __init__(self, config: ActionFormerConfig) -> None:
        super().__init__()
        self.pyramid = config
        dim = config.pyramid_dim
        widths = [config.feature_channels] + [dim] * config.n_embedding_layers
        self.embedding = nn.ModuleList(ConvolutionLayer(a, b) for a, b in pairwise(widths))
        self.positions = AbsolutePositions(config) if config.absolute_positions else None
        self.stem = nn.ModuleList(_block(config, level=0, stride=1) for _ in range(config.n_stem_blocks))
        self.branch = nn.ModuleList(_block(config, level=level, stride=2) for level in range(1, config.n_levels))
        self.neck = PyramidNeck(config) if config.neck == "fpn" else IdentityNeck(config)

    def levels(self, features: Tensor, valid: Tensor | None) -> tuple[list[Tensor], list[Tensor]]:
        """Give the neck's outputs (B, T_l, D), and which of their points lie in the video, (B, T_l, 1), level by level.

        Raises:
            ValueError: shapes do not fit, or the video is longer than the table of positions and may not stretch it.
        """
        self._check_length(features, valid)
        x, inside = pad(features, valid, padded_length(self.pyramid, features.shape[1]))
        levels, masks = self._blocks(x, inside, n_snippets=features.shape[1])
        return self.neck(levels, masks), masks

    def _blocks(self, x: Tensor, inside: Tensor, *, n_snippets: int) -> tuple[list[Tensor], list[Tensor]]:
        for layer in self.embedding:
            x = layer(x, inside)
        if self.positions is not None:
            x = x + self.positions(x.shape[1], n_snippets) * inside
        for block in self.stem:
            x = block(x, inside)
        levels, masks = [x], [inside]
        for block in self.branch:
            inside = torch.unflatten(inside, 1, (-1, 2))[:, :, 0]
            x = block(x, inside)
            levels.append(x)
            masks.append(inside)
        return levels, masks

    def _check_length(self, features: Tensor, valid: Tensor | None) -> None:
        if is_recording():
            return
        if valid is not None and valid.shape != features.shape[:2]:
            raise ValueError(f"valid must be of shape (B, T) = {tuple(features.shape[:2])}; got {tuple(valid.shape)}")
        length, table = features.shape[1], self.pyramid.max_length
        if self.positions is None or length <= table:
            return
        if self.training or not self.pyramid.interpolate_positions:
            raise ValueError(
                f"videos must have at most {table} snippets, the length of the table of positions, in training and "
                f"where model.interpolate_positions is off; got {length}; crop or resample the features"
            )


class ActionFormer(DetectorNetwork[ActionFormerConfig], Pyramid):
    """Propose one segment per class at every point of a pyramid of time scales."""

    def __init__(self, config: ActionFormerConfig) -> None:
        if config.n_classes < 1:
            raise ValueError(f"model.n_classes must be an integer >= 1 to build a network; got {config.n_classes}")
        super().__init__(config)
        self.config = config
        self.class_head = ClassHead(config)
        self.offset_head = OffsetHead(config)
        for module in self.modules():
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        self.class_head.start_at(PRIOR)

    def forward(self, features: Tensor, class_embeddings: Tensor, valid: Tensor | None = None) -> PointOutput:
        """Compute logits and offsets for B videos of T snippets and K classes.

        Args:
            features: (B, T, C).
            class_embeddings: (K, 3 D + 1), rows of the last layer; `class_bank()` gives the network's own.
            valid: (B, T), 1 for snippets, 0 for the filling of shorter videos; None: all are snippets.

        Raises:
            ValueError: shapes do not fit, or the video is longer than the table of positions and may not stretch it.
        """
        check_inputs(features, class_embeddings, channels=self.config.feature_channels, dim=self.config.embed_dim)
        return self.propose(features, class_embeddings, valid)[0]

    def propose(
        self, features: Tensor, class_embeddings: Tensor, valid: Tensor | None = None
    ) -> tuple[PointOutput, Tensor]:
        """Compute what `forward` gives, and the segment of each point, (B, P, 2) start and end in snippets."""
        levels, masks = self.levels(features, valid)
        class_logits = [
            self.class_head(level, mask, class_embeddings) for level, mask in zip(levels, masks, strict=True)
        ]
        offsets = [
            self.offset_head(level, mask, number=number)
            for number, (level, mask) in enumerate(zip(levels, masks, strict=True))
        ]
        segments = []
        for number, (own, mask) in enumerate(zip(offsets, masks, strict=True)):
            place = torch.cumsum(torch.ones_like(mask), dim=1) - 1  # (B, T_l, 1)
            ends = torch.cat([place - own[:, :, :1], place + own[:, :, 1:]], dim=2)
            segments.append((1 << number) * ends)
        joined = [torch.cat(parts, dim=1) for parts in (class_logits, offsets, masks, segments)]
        return PointOutput(joined[0], joined[1], joined[2][:, :, 0]), joined[3]

    def output_specs(self) -> tuple[TensorSpec, ...]:
        """Class logits, offsets, and which points are real."""
        return point_detector_outputs()

    def class_bank(self) -> Tensor:
        """Give the class embeddings (K, 3 D + 1) of the network's own classes: its last layer, row by row."""
        return self.class_head.bank()


def _block(config: ActionFormerConfig, *, level: int, stride: int) -> Block:
    attention = LocalAttention(
        config.pyramid_dim,
        n_heads=config.n_heads,
        window=config.windows[level],
        stride=stride,
        relative_positions=config.relative_positions,
    )
    return Block(
        config.pyramid_dim, attention=attention, stride=stride, dropout=config.dropout, drop_path=config.drop_path
    )
