"""The network: evidence of snippets, a max-pool pyramid that proposes segments, their scores, and cosines for names."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stale_edge.bundle.manifest import TensorSpec, point_detector_outputs
from stale_edge.model.detector import DetectorNetwork
from stale_edge.model.input_checks import check_inputs
from stale_edge.model.layers import l2_normalize
from stale_edge.model.light.evidence import N_CUES, Evidence, SnippetEvidence
from stale_edge.model.light.pyramid import Block, MaxPyramid, halved_mean
from stale_edge.model.light.segment_score import SegmentScore
from stale_edge.model.light.settings import LightConfig
from stale_edge.model.low_precision import KeptFloat32
from stale_edge.model.normalization import FeatureNormalization
from stale_edge.model.pyramid.layers import channel_norm
from stale_edge.model.pyramid.padding import pad
from stale_edge.model.rescoring import foreground_mean

PRIOR = 0.01
"""Score of every point before training."""
SURE = 1 - 1e-6
"""Largest score, so that its logit is finite."""
IMPOSSIBLE = 1e-26
"""Smallest score."""
NOTHING = 1e-30
"""Least squared length of sums, which are 0 in padding; not added, as the exporter drops the addition of so little."""

LIGHT_FLOAT32 = KeptFloat32(
    {"int8": ("distances", "point_score", "segment_score", "embed_cues", "evidence.actionness")}
)
"""Layers of few weights that decide boundaries and scores directly."""


class LightOutput(NamedTuple):
    """Raw outputs for B videos, T snippets, K classes and P points, fine to coarse; the first three are deployed.

    class_logits: (B, P, K); the sigmoid is the score of a point's segment times the probability of the class.
    offsets: (B, P, 2), distances to start and end in units of the level's stride, > 0.
    valid: (B, P), 1 where a point lies in the video, 0 where it lies in padding.
    point_logits: (B, P), score of a point by the pyramid alone.
    segment_logits: (B, P), score of its segment.
    name_logits: (B, P, K), softmax gives the probability of each class.
    snippet_logits: (B, T, K), the same of single snippets.
    actionness_logits: (B, T).
    """

    class_logits: Tensor
    offsets: Tensor
    valid: Tensor
    point_logits: Tensor
    segment_logits: Tensor
    name_logits: Tensor
    snippet_logits: Tensor
    actionness_logits: Tensor


class Places(NamedTuple):
    """The points of all levels, each (P,) int64: level, place in snippets, and snippets between two of its level."""

    level: Tensor
    place: Tensor
    stride: Tensor


class Light(DetectorNetwork[LightConfig]):
    """Find segments of any action, and name each by its cosine with class embeddings; any T and any classes.

    Level l has a point every 2**l snippets, at snippets 0, 2**l, 2 * 2**l, ... Padding up to whole points of the
    coarsest level changes no output. When something happens is decided without the class's name, so it is learned from
    all classes for all classes.
    """

    text_center: Tensor
    strides: Tensor
    starts_of_longest: Tensor

    def __init__(self, config: LightConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.pyramid_dim
        self.normalize = FeatureNormalization(config.features, config.feature_channels)
        self.evidence = SnippetEvidence(config.feature_channels, config.embed_dim)
        self.embed_features = nn.Linear(config.feature_channels, dim)
        self.embed_cues = nn.Linear(N_CUES, dim)
        self.embed_norm = channel_norm(dim)
        self.pyramid = MaxPyramid(
            dim, n_levels=config.n_levels, n_stem_blocks=config.n_stem_blocks, expansion=config.expansion
        )
        self.head = Block(dim, expansion=config.expansion)
        self.head_norm = channel_norm(dim)
        self.point_score = nn.Linear(dim, 1)
        self.distances = nn.Linear(dim, 2)
        self.distance_scale = nn.Parameter(torch.zeros(config.n_levels))
        self.level_bias = nn.Parameter(torch.zeros(config.n_levels, 1))
        self.segment_evidence = nn.Linear(dim, config.evidence_channels)
        self.segment_score = SegmentScore(
            N_CUES + config.evidence_channels, hidden_dim=config.segment_dim, surroundings=config.surroundings
        )
        self.segment_level_bias = nn.Parameter(torch.zeros(config.n_levels, config.segment_dim))
        for last in (self.point_score, self.segment_score.score):
            nn.init.zeros_(last.weight)
            nn.init.constant_(last.bias, math.log(PRIOR / (1 - PRIOR)))
        start = math.log(1 / config.temperature)
        self.point_scale, self.video_scale = (nn.Parameter(torch.tensor(start)) for _ in range(2))
        self.register_buffer("text_center", torch.zeros(config.embed_dim))
        strides = 2 ** torch.arange(config.n_levels)
        self.register_buffer("strides", strides, persistent=False)
        self.longest_stride = config.unit
        self.register_buffer("starts_of_longest", 2 * config.unit - 2 * config.unit // strides, persistent=False)

    def forward(self, features: Tensor, class_embeddings: Tensor) -> LightOutput:
        """Localize and classify actions.

        Args:
            features: (B, T, C) float.
            class_embeddings: (K, D) float, of any length > 0. In training their mean direction is kept.

        Raises:
            ValueError: a shape does not fit.
        """
        config = self.config
        check_inputs(features, class_embeddings, channels=config.feature_channels, dim=config.embed_dim)
        text = self._text(class_embeddings)  # (K, D)
        snippets = self.normalize(features)  # (B, T, C)
        if self.training and config.feature_noise:
            snippets = snippets + config.feature_noise * torch.randn_like(snippets)
        seen = self.evidence(snippets, text, self.video_scale.exp())
        embedded = torch.relu(self.embed_norm(self.embed_features(snippets) + self.embed_cues(seen.cues)))
        length = (features.shape[1] + config.unit - 1) // config.unit * config.unit
        padded, inside = pad(embedded, None, length)  # (B, T', dim), (B, T', 1)
        levels, masks = self.pyramid(padded, inside)
        valid = torch.cat(masks, dim=1)  # (B, P, 1)
        places = self._places(length, valid.shape[1])
        hidden = self.head_norm(self.head(levels, valid))  # (B, P, dim)
        point_logits = self.point_score(hidden) + self.level_bias[places.level]
        offsets = F.softplus(self.distances(hidden)) * self.distance_scale.exp()[places.level][:, None]
        segment_logits = self._segment_logits(seen, levels[0], places, point_logits, offsets)
        name_logits = self._name_logits(seen, text, length)
        score = torch.sigmoid(segment_logits) * torch.softmax(name_logits, dim=-1)  # (B, P, K)
        if config.rescoring == "video-class":
            summary = foreground_mean(seen.projected, torch.sigmoid(seen.actionness[..., 0]))  # (B, 1, D)
            score = torch.sqrt(score * torch.softmax(summary @ text.T * self.video_scale.exp(), dim=-1))
        score = score.clamp(min=IMPOSSIBLE, max=SURE)
        return LightOutput(
            torch.log(score / (1 - score)),
            offsets,
            valid[..., 0],
            point_logits[..., 0],
            segment_logits[..., 0],
            name_logits,
            l2_normalize(seen.projected) @ text.T / config.temperature,
            seen.actionness[..., 0],
        )

    def output_specs(self) -> tuple[TensorSpec, ...]:
        """Class logits, offsets, and which points are real."""
        return point_detector_outputs()

    def _text(self, class_embeddings: Tensor) -> Tensor:
        text = l2_normalize(class_embeddings)
        if self.training:
            self.text_center.copy_(text.detach().mean(dim=0) if len(text) > 1 else torch.zeros_like(self.text_center))
        return l2_normalize(text - self.text_center)

    def _places(self, length: int, n_points: int) -> Places:
        """Place the points of a video padded to `length` snippets."""
        position = torch.arange(n_points, device=self.strides.device)
        starts = length // self.longest_stride * self.starts_of_longest  # points before each level
        level = (position[:, None] >= starts[1:]).sum(dim=1)
        stride = self.strides[level]
        return Places(level, (position - starts[level]) * stride, stride)

    def _segment_logits(
        self, seen: Evidence, finest: Tensor, places: Places, point_logits: Tensor, offsets: Tensor
    ) -> Tensor:
        """Score segments, (B, P, 1); boundaries get no gradient from this."""
        learned = self.segment_evidence(finest[:, : seen.actionness.shape[1]])
        evidence = torch.cat([torch.sigmoid(seen.actionness), seen.cues[..., 1:], learned], dim=-1)
        to_both_sides = places.stride[:, None] * offsets.new_tensor([-1.0, 1.0])  # (P, 2)
        segments = offsets.detach() * to_both_sides + places.place[:, None].to(offsets.dtype)  # (B, P, 2)
        bias = self.segment_level_bias[places.level]
        return self.segment_score(evidence, segments, point_logits, bias)  # type: ignore[no-any-return]

    def _name_logits(self, seen: Evidence, text: Tensor, length: int) -> Tensor:
        """Name points by the snippets near them and by the whole video, (B, P, K)."""
        sums, _ = pad(seen.weights * seen.projected, None, length)
        levels = [sums]
        for _ in self.pyramid.branch:
            levels.append(halved_mean(levels[-1]))
        near = torch.cat(levels, dim=1)  # (B, P, D)
        scale = torch.rsqrt(near.square().sum(dim=-1, keepdim=True).clamp(min=NOTHING)) * self.point_scale.exp()
        return near @ text.T * scale + seen.video @ text.T * self.video_scale.exp()
