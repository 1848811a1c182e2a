"""Every setting of the kit, as frozen dataclasses: each default is written here once, with its unit and range.

Only the command line reads files into configs (`load_config`); functions take plain values or one dataclass.
"""

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from stale_edge.errors import ConfigError

ConfigT = TypeVar("ConfigT")

Architecture = Literal["paper", "release"]
Policy = Literal["paper", "release"]
SoftNMSMethod = Literal["gaussian", "linear", "hard"]
Regions = Literal["runs", "hull"]
Resampling = Literal["linear", "none"]
BenchDevice = Literal["cpu", "cuda", "all"]
BenchVariant = Literal["reference", "detector", "text", "localizer", "postprocess"]
BenchRuntime = Literal["pytorch", "onnxruntime", "openvino", "torchscript"]
Precision = Literal["fp32", "fp16", "bf16", "int8", "int8-static", "int8-bf16"]


@dataclass(frozen=True)
class FeatureSpec:
    """What the features are: the contract between whoever extracts them and whoever reads them.

    Stored as `feature_spec.json` in a data set, in every checkpoint and bundle, and in the exported graphs.
    """

    encoder: str = "unspecified"
    """Name or fingerprint of the visual encoder."""
    channels: int = 512
    """C, the width of one snippet's feature vector, >= 1."""
    fps: float | None = None
    """Frames per second that were sampled from the video, > 0; None: unspecified."""
    stride: int | None = None
    """Frames per snippet, >= 1; None: unspecified."""

    def __post_init__(self) -> None:
        _require(self.channels >= 1, "feature_spec.channels", self.channels, "an integer >= 1")
        _require(self.fps is None or self.fps > 0, "feature_spec.fps", self.fps, "a number > 0, or nothing")
        _require(self.stride is None or self.stride >= 1, "feature_spec.stride", self.stride, "an integer >= 1")


@dataclass(frozen=True)
class ExtractConfig:
    """How features are made of videos, where nobody says otherwise."""

    fps: float = 16.0
    """Frames a second that snippets are counted in, > 0; with the stride one snippet a second, as in simulations."""
    stride: int = 16
    """Frames a snippet, >= 1; the picture in its middle is encoded."""
    batch: int = 8
    """Pictures encoded together, >= 1; on a CPU more are hardly faster and hold more memory."""

    def __post_init__(self) -> None:
        _require(0 < self.fps < float("inf"), "extract.fps", self.fps, "a number > 0")
        for name in ("stride", "batch"):
            _require(getattr(self, name) >= 1, f"extract.{name}", getattr(self, name), "an integer >= 1")


@dataclass(frozen=True)
class TextConfig:
    """CLIP's text tower with learnable contexts, eq. 2 of the STALE paper."""

    source: str = ""
    """Hub name or local folder of a `CLIPTextModelWithProjection`; empty: the data set's own `text_encoder/` folder."""
    encoder: Literal["frozen", "tuned", "none"] = "frozen"
    """Whether the tower's weights are trained; `none` learns one free embedding per class (Table 5)."""
    n_contexts: int = 8
    """N̂, learnable context vectors put before the class name, >= 0; 0 uses the bare class name."""

    def __post_init__(self) -> None:
        _require(self.n_contexts >= 0, "model.text.n_contexts", self.n_contexts, "an integer >= 0")


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and choices of the detector. The defaults are the full size of the STALE paper."""

    architecture: Architecture = "paper"
    """`paper`: section 3 of the paper, any T. `release`: the network of the public code, fixed T."""
    feature_channels: int = 512
    """C, >= 1."""
    embed_dim: int = 512
    """D, width of the snippet and class embeddings, >= 1, a multiple of `n_heads`."""
    n_heads: int = 4
    """Heads of every attention."""
    feedforward_dim: int = 1024
    """Hidden width of the feed-forward networks."""
    dropout: float = 0.1
    """In [0, 1), in training alone."""
    temporal: Literal["transformer", "cnn", "ms-tcn", "none"] = "transformer"
    """Temporal embedding: eq. 1, or an alternative of Table 6; `none`: snippets do not see each other (B-II)."""
    n_temporal_layers: int = 2
    """Layers of the transformer of eq. 1, >= 1."""
    masking: Literal["maskformer", "cnn", "none", "ground-truth"] = "maskformer"
    """Representation masking: eq. 3 and 4, or an alternative of Table 4."""
    n_mask_queries: int = 20
    """N_z, >= 1 (Table 4 tries 5, 20 and 100)."""
    n_mask_layers: int = 1
    """Layers of the decoder that turns mask queries into mask embeddings, >= 1."""
    foreground_threshold: float = 0.5
    """θ_bin of section 3.2, in (0, 1)."""
    residual_scale_init: float = 1e-3
    """Initial value of α in eq. 6."""
    temperature_init: float = 0.07
    """Initial temperature of the classifier, eq. 7, > 0."""
    localizer_dim: int = 128
    """Width of the features that the controller of eq. 8 reads."""
    dynamic_channels: int = 8
    """Channels of the tiny network that each snippet applies along the video, eq. 8."""
    temporal_scale: int = 100
    """T that the `release` architecture is built for; the `paper` architecture takes any T."""
    text: TextConfig = field(default_factory=TextConfig)

    def __post_init__(self) -> None:
        for name in (
            "feature_channels",
            "embed_dim",
            "n_heads",
            "feedforward_dim",
            "n_temporal_layers",
            "n_mask_queries",
            "n_mask_layers",
            "localizer_dim",
            "dynamic_channels",
            "temporal_scale",
        ):
            _require(getattr(self, name) >= 1, f"model.{name}", getattr(self, name), "an integer >= 1")
        _require(
            self.embed_dim % self.n_heads == 0,
            "model.embed_dim",
            self.embed_dim,
            f"a multiple of model.n_heads = {self.n_heads}",
        )
        _require(0 <= self.dropout < 1, "model.dropout", self.dropout, "a number in [0, 1)")
        _require(
            0 < self.foreground_threshold < 1,
            "model.foreground_threshold",
            self.foreground_threshold,
            "a number in (0, 1)",
        )
        _require(self.temperature_init > 0, "model.temperature_init", self.temperature_init, "a number > 0")


@dataclass(frozen=True)
class DecodeConfig:
    """From class logits and masks to detections, section 3.3 of the paper."""

    policy: Policy = "paper"
    """`paper`: section 3.3. `release`: the public inference script, quirks included."""
    class_threshold: float = 0.05
    """θ_c: a snippet speaks for a class only above this probability, in [0, 1)."""
    top_snippets: int = 100
    """How many (snippet, class) pairs, best first, propose segments, >= 1."""
    mask_thresholds: tuple[float, ...] = (0.05, 0.1, 0.2)
    """Θ: each cuts the snippet's mask once, each in [0, 1).

    Low, since a proposal scores by the highest value of its mask: the fragments that a high threshold cuts out of an
    action tie with the whole of it. On the demo's task 0.1 to 0.9 gave 16.5 % average mAP, these 32.0 %.
    """
    regions: Regions = "runs"
    """`runs`: every connected run above the threshold is a segment. `hull`: first to last, holes filled."""
    min_snippets: int = 1
    """Segments shorter than this many snippets are dropped, >= 1."""
    soft_nms: SoftNMSMethod = "gaussian"
    """Rule of Bodla et al., arXiv:1704.04503; `linear` and `hard` besides."""
    sigma: float = 0.5
    """Width of the Gaussian rule, in tIoU, > 0."""
    tiou_threshold: float = 0.5
    """Overlap at which `linear` and `hard` act, in [0, 1]."""
    min_score: float = 0.001
    """Detections whose decayed score is below are dropped, in [0, 1)."""
    max_detections: int = 100
    """At most this many a video, >= 1."""

    def __post_init__(self) -> None:
        _require(0 <= self.class_threshold < 1, "decode.class_threshold", self.class_threshold, "a number in [0, 1)")
        for name in ("top_snippets", "min_snippets", "max_detections"):
            _require(getattr(self, name) >= 1, f"decode.{name}", getattr(self, name), "an integer >= 1")
        _require(
            len(self.mask_thresholds) > 0 and all(0 <= t < 1 for t in self.mask_thresholds),
            "decode.mask_thresholds",
            self.mask_thresholds,
            "at least one number, each in [0, 1)",
        )
        _require(self.sigma > 0, "decode.sigma", self.sigma, "a number > 0")
        _require(0 <= self.tiou_threshold <= 1, "decode.tiou_threshold", self.tiou_threshold, "a number in [0, 1]")
        _require(0 <= self.min_score < 1, "decode.min_score", self.min_score, "a number in [0, 1)")


@dataclass(frozen=True)
class LossConfig:
    """Weights of the terms of the overall objective, and the thresholds inside them (eq. 9-12)."""

    classification: float = 1.0
    """Weight of L_c, eq. 9."""
    mask: float = 1.0
    """Weight of L_m, eq. 10."""
    dice: float = 0.4
    """λ2 inside eq. 10."""
    completeness: float = 1.0
    """Weight of L_comp, eq. 11."""
    consistency: float = 1.0
    """Weight of L_const, eq. 12."""
    class_threshold: float = 0.3
    """θ_c of eq. 12, in [0, 1)."""
    mask_threshold: float = 0.5
    """θ_m of eq. 12, in [0, 1)."""
    top_snippets: int = 10
    """k of the top scoring features of eq. 12, >= 1."""

    def __post_init__(self) -> None:
        for name in ("classification", "mask", "dice", "completeness", "consistency"):
            _require(getattr(self, name) >= 0, f"loss.{name}", getattr(self, name), "a number >= 0")
        _require(self.top_snippets >= 1, "loss.top_snippets", self.top_snippets, "an integer >= 1")


@dataclass(frozen=True)
class TrainConfig:
    """The training loop. Defaults are section 4 of the paper for ActivityNet."""

    epochs: int = 15
    """Passes over the training videos, >= 1."""
    learning_rate: float = 1e-4
    """Of Adam, > 0 (1e-5 for THUMOS14 in the paper)."""
    weight_decay: float = 0.0
    """Of Adam, >= 0."""
    batch_size: int = 100
    """Videos per optimizer step over all processes (the global batch), >= 1."""
    n_snippets: int = 100
    """T that every video is resampled to (100 for ActivityNet, 256 for THUMOS14 in the paper), >= 1."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient, > 0."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """`auto`: mixed precision where a CUDA device has it, fp32 on a CPU."""
    seed: int = 0
    """Of weights, shuffling and dropout."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    validate_every: int = 1
    """Epochs between validations, >= 0; the last epoch is always validated, but with 0 none is."""
    workers: int = 0
    """Processes that read features beside the training process, >= 0."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "n_snippets"):
            _require(getattr(self, name) >= 1, f"train.{name}", getattr(self, name), "an integer >= 1")
        for name in ("learning_rate", "gradient_clip"):
            _require(getattr(self, name) > 0, f"train.{name}", getattr(self, name), "a number > 0")
        for name in ("weight_decay", "validate_every", "workers"):
            _require(getattr(self, name) >= 0, f"train.{name}", getattr(self, name), "a number >= 0")


@dataclass(frozen=True)
class VideoClassifierConfig:
    """The video-level classifier of `stale-edge scores`, which learns from the classes of whole videos alone."""

    hidden_dim: int = 256
    """Width of the layer under classes and attention, >= 1."""
    dropout: float = 0.5
    """In [0, 1), in training alone."""
    epochs: int = 20
    """Passes over the training videos, >= 1."""
    learning_rate: float = 1e-3
    """Of Adam, > 0."""
    weight_decay: float = 1e-3
    """Of Adam, >= 0."""
    batch_size: int = 32
    """Videos per optimizer step, >= 1."""
    n_snippets: int = 100
    """T that every video is resampled to, >= 1."""
    seed: int = 0
    """Of weights, shuffling and dropout."""

    def __post_init__(self) -> None:
        for name in ("hidden_dim", "epochs", "batch_size", "n_snippets"):
            _require(getattr(self, name) >= 1, f"scores.{name}", getattr(self, name), "an integer >= 1")
        _require(0 <= self.dropout < 1, "scores.dropout", self.dropout, "a number in [0, 1)")
        _require(self.learning_rate > 0, "scores.learning_rate", self.learning_rate, "a number > 0")
        _require(self.weight_decay >= 0, "scores.weight_decay", self.weight_decay, "a number >= 0")


@dataclass(frozen=True)
class BenchConfig:
    """What `stale-edge bench` measures, and how often."""

    device: BenchDevice = "cpu"
    """`all`: the CPU, and a CUDA device where there is one."""
    threads: int = 1
    """CPU threads of every measured process, >= 1, each pinned to a core of its own where the system allows it."""
    lengths: tuple[int, ...] = ()
    """T in snippets, each >= 1; empty: 100 and 200, or the length of a bundle that takes only one."""
    variants: tuple[BenchVariant, ...] = typing.get_args(BenchVariant)
    """Which parts are measured; without `reference` there is no speedup."""
    runtimes: tuple[BenchRuntime, ...] = ()
    """Runtimes of the detector and localizer rows; empty: those that are sensible on the device."""
    precisions: tuple[Precision, ...] = ()
    """Precisions of the detector and localizer rows; empty: those that are sensible on the device."""
    repeats: int = 5
    """Rounds; in each, every row is asked for one trial, >= 1."""
    recommend: bool = False
    """Measure the detector with everything that runs here, not only what is sensible by default."""
    peak_tmacs: float | None = None
    """Rate that utilization divides by, in 1e12 multiply-accumulates a second, > 0; None: the rate measured here."""
    seed: int = 0
    """Of weights, inputs and the order of turns."""

    def __post_init__(self) -> None:
        _require(self.device in typing.get_args(BenchDevice), "bench.device", self.device, "cpu, cuda or all")
        for name in ("threads", "repeats"):
            _require(getattr(self, name) >= 1, f"bench.{name}", getattr(self, name), "an integer >= 1")
        _require(all(length >= 1 for length in self.lengths), "bench.lengths", self.lengths, "integers >= 1")
        _require(len(set(self.lengths)) == len(self.lengths), "bench.lengths", self.lengths, "lengths that all differ")
        _require(len(self.variants) > 0, "bench.variants", self.variants, "at least one variant")
        for name, allowed in (("variants", BenchVariant), ("runtimes", BenchRuntime), ("precisions", Precision)):
            _require(
                set(getattr(self, name)) <= set(typing.get_args(allowed)),
                f"bench.{name}",
                getattr(self, name),
                f"some of {', '.join(typing.get_args(allowed))}",
            )
        _require(
            self.peak_tmacs is None or 0 < self.peak_tmacs < float("inf"),
            "bench.peak_tmacs",
            self.peak_tmacs,
            "a number > 0, or nothing",
        )


@dataclass(frozen=True)
class SimulateConfig:
    """The simulated task: how many videos, how long, and how hard. All of it is written to `feature_spec.json`.

    Frame statistics (norm, outlier channel, spectrum, autocorrelation) are measured on real CLIP features and are no
    settings; they stand in `stale_edge.data.simulate_features`.
    """

    n_videos: int | None = None
    """Videos, >= 4; None: 800, or every video of the annotation file. Fewer than the file has: a sample by `seed`."""
    n_classes: int = 40
    """K, >= 2; unused with an annotation file or a class bank, whose names are the classes."""
    seed: int = 0
    """Of everything: the same seed gives the same bytes, >= 0."""
    channels: int = 512
    """C, >= 16; a class bank must be as wide, since image and text share CLIP's space."""
    fps: float = 16.0
    """Frames per second that features stand for, > 0."""
    stride: int = 16
    """Frames per snippet, >= 1; 16 at 16 fps is one snippet a second."""
    validation_fraction: float = 0.3
    """Part of the videos in the subset `validation`, in (0, 1); unused with an annotation file."""
    unseen_fraction: float = 0.25
    """Part of the classes in `splits/test.list`, never trained on in the open-set protocol, in (0, 1)."""
    min_duration_s: float = 20.0
    """Shortest video, > 0."""
    max_duration_s: float = 230.0
    """Longest video, >= `min_duration_s`."""
    max_actions: int = 4
    """Most actions a video, >= 1."""
    second_class_probability: float = 0.1
    """How often a video with several actions shows two classes, in [0, 1]."""
    distractors: float = 0.5
    """Mean number of distractors a video: stretches that show what goes with a class, without the action, >= 0."""
    alignment: float = 0.45
    """Cosine between a class's visual direction and its text direction: what needs no training, in [0, 1]."""
    gap_regularity: float = 0.9
    """How far the rest of a visual direction follows from the text by one map for all classes, in [0, 1]."""
    class_share: float = 0.75
    """Part of an action's contrast along its class direction, in [0, 1]; the squares of the three parts sum to 1."""
    actionness_share: float = 0.6
    """Part along the direction that all actions share, in [0, 1]; what is left is the single instance's own."""
    context_share: float = 0.2
    """Part of a video's scene that its class explains; it is there with and without the action, in [0, 1]."""
    boundary_s: float = 1.0
    """Seconds in which an action fades in and out, > 0."""
    score_accuracy: float = 0.885
    """Part of the videos whose top class in `scores.json` is right, in [0, 1]; 88.5 % in STALE's published scores."""

    def __post_init__(self) -> None:
        _require(self.n_videos is None or self.n_videos >= 4, "simulate.n_videos", self.n_videos, "an integer >= 4")
        _require(self.n_classes >= 2, "simulate.n_classes", self.n_classes, "an integer >= 2")
        _require(self.channels >= 16, "simulate.channels", self.channels, "an integer >= 16")
        _require(self.seed >= 0, "simulate.seed", self.seed, "an integer >= 0")
        for name in ("stride", "max_actions"):
            _require(getattr(self, name) >= 1, f"simulate.{name}", getattr(self, name), "an integer >= 1")
        for name in ("fps", "min_duration_s", "boundary_s"):
            _require(getattr(self, name) > 0, f"simulate.{name}", getattr(self, name), "a number > 0")
        _require(
            self.max_duration_s >= self.min_duration_s,
            "simulate.max_duration_s",
            self.max_duration_s,
            f"at least simulate.min_duration_s = {self.min_duration_s}",
        )
        for name in ("validation_fraction", "unseen_fraction"):
            _require(0 < getattr(self, name) < 1, f"simulate.{name}", getattr(self, name), "a number in (0, 1)")
        for name in (
            "second_class_probability",
            "alignment",
            "gap_regularity",
            "class_share",
            "actionness_share",
            "context_share",
            "score_accuracy",
        ):
            _require(0 <= getattr(self, name) <= 1, f"simulate.{name}", getattr(self, name), "a number in [0, 1]")
        _require(
            self.class_share**2 + self.actionness_share**2 <= 1 + 1e-9,
            "simulate.actionness_share",
            self.actionness_share,
            f"at most sqrt(1 - class_share**2), class_share = {self.class_share}",
        )
        _require(self.distractors >= 0, "simulate.distractors", self.distractors, "a number >= 0")


@dataclass(frozen=True)
class Config:
    """Everything a training run is made from; stored resolved in every checkpoint and bundle."""

    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    classes: str = ""
    """File with the class names to train on, one a line (a published split); empty: all classes of the data set."""
    videos: str = ""
    """File with the videos to train on, one a line, all of the training subset; empty: the whole subset."""


def load_config(path: Path | None, overrides: Sequence[str] = ()) -> Config:
    """Read a TOML file over the defaults, then `section.key=value` overrides over the file.

    Args:
        path: TOML file with the tables of `Config`, or None for the defaults alone.
        overrides: strings such as `train.epochs=3` or `model.text.encoder=tuned`; values are TOML, bare words strings.

    Raises:
        ConfigError: the file is unreadable, a key is unknown (the nearest one is named), or a value is not allowed.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{path}: not a readable TOML file: {error}") from error
    return from_dict(Config, _overridden(values, overrides))


def with_overrides(config: Config, overrides: Sequence[str]) -> Config:
    """Change settings of a config by strings as `load_config` takes them.

    Raises:
        ConfigError: as `load_config`.
    """
    return from_dict(Config, _overridden(to_dict(config), overrides))


def _overridden(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"--set {override!r}: write section.key=value, for example train.epochs=3")
        *tables, name = key.strip().split(".")
        target = values
        for table in tables:
            target = target.setdefault(table, {})
            if not isinstance(target, dict):
                raise ConfigError(f"--set {override!r}: {table} is a value, not a section")
        target[name] = _toml_value(text.strip())
    return values


def to_dict(config: Any) -> dict[str, Any]:
    """Turn a config dataclass into plain JSON values; `from_dict` turns it back."""
    return typing.cast(dict[str, Any], _plain(dataclasses.asdict(config)))


def from_dict(cls: type[ConfigT], values: Mapping[str, Any], *, where: str = "") -> ConfigT:
    """Build a config dataclass from plain values; keys left out keep their defaults.

    Raises:
        ConfigError: an unknown key (with the nearest known one), a wrong type, or a value out of range.
    """
    hints = typing.get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        full = f"{where}{key}"
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1)
            hint = f"did you mean {where}{near[0]}?" if near else f"allowed: {', '.join(names)}"
            raise ConfigError(f"unknown configuration key {full}; {hint}")
        arguments[key] = _coerce(hints[key], value, full)
    return cls(**arguments)


def _coerce(hint: Any, value: Any, key: str) -> Any:
    """Check one value against its annotation; integers pass as floats, lists as tuples, nothing else is bent."""
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{key} is a section of settings; got {value!r}")
        return from_dict(typing.cast(type[Any], hint), value, where=f"{key}.")
    origin, choices = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value not in choices:
            raise ConfigError(f"{key} must be one of {', '.join(map(str, choices))}; got {value!r}")
        return value
    if origin is types.UnionType:
        if value is None and type(None) in choices:
            return None
        return _coerce(next(choice for choice in choices if choice is not type(None)), value, key)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{key} must be a list; got {value!r}")
        return tuple(_coerce(choices[0], item, f"{key}[{i}]") for i, item in enumerate(value))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"{key} must be of type {hint.__name__}; got {value!r}")
    return value


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _require(condition: bool, key: str, value: object, allowed: str) -> None:
    if not condition:
        raise ConfigError(f"{key} must be {allowed}; got {value!r}")
