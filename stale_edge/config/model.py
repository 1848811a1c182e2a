"""The settings of networks: those that every architecture has, and those of STALE."""

from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from stale_edge.config.checks import require
from stale_edge.config.feature_spec import FeaturesConfig, Resampling


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
        require(self.n_contexts >= 0, "model.text.n_contexts", self.n_contexts, "an integer >= 0")


@dataclass(frozen=True)
class LengthRule:
    """Which numbers of snippets T a network takes."""

    fixed: int | None = None
    """The one T that it is built for, >= 1; None: any T >= 1."""
    multiple: int = 1
    """The network pads T inside the graph to a multiple of this, >= 1."""
    spare: int = 0
    """Smallest number of padded snippets, >= 0."""

    def padded(self, n_snippets: int) -> int:
        """Give the length that the network computes with for T = `n_snippets`."""
        return -(-(n_snippets + self.spare) // self.multiple) * self.multiple


class ModelSettings(Protocol):
    """The settings that every architecture has: a frozen dataclass, the section `model` of a config."""

    @property
    def architecture(self) -> str:
        """Its row in `stale_edge.model.architectures`."""
        ...

    @property
    def feature_channels(self) -> int:
        """C, >= 1."""
        ...

    @property
    def embed_dim(self) -> int:
        """D, the width of a class embedding, >= 1."""
        ...

    @property
    def text(self) -> TextConfig:
        """Where class embeddings come from."""
        ...

    @property
    def length_rule(self) -> LengthRule:
        """Which numbers of snippets the network takes."""
        ...

    @property
    def resampling(self) -> Resampling:
        """What is done to a video's features: `linear` resamples them to the trained length, `none` nothing."""
        ...

    @property
    def longest(self) -> int | None:
        """Largest T that it takes; None: any."""
        ...

    @property
    def deployable(self) -> bool:
        """Whether features and class embeddings are all that the network needs, so that it can be validated."""
        ...


class NetworkSettings:
    """What the settings of most architectures have in common."""

    @property
    def length_rule(self) -> LengthRule:
        """Any T."""
        return LengthRule()

    @property
    def resampling(self) -> Resampling:
        """Every video is resampled to the T of training."""
        return "linear"

    @property
    def longest(self) -> int | None:
        """Any T."""
        return None

    @property
    def deployable(self) -> bool:
        """Features and class embeddings are all that the network needs."""
        return True


StaleArchitecture = Literal["paper", "release"]
Rescoring = Literal["none", "video-class"]


@dataclass(frozen=True)
class ModelConfig(NetworkSettings):
    """Sizes and choices of STALE. The defaults are the full size of its paper."""

    architecture: StaleArchitecture = "paper"
    """`paper`: section 3 of the paper, any T. `release`: the network of the public code, fixed T."""
    feature_channels: int = 512
    """C, >= 1."""
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    """What the network does to features first."""
    embed_dim: int = 512
    """D, width of the snippet and class embeddings, >= 1, a multiple of `n_heads`."""
    n_heads: int = 4
    """Number of heads of every attention, >= 1."""
    feedforward_dim: int = 1024
    """Hidden width of the feed-forward networks, >= 1."""
    dropout: float = 0.1
    """Dropout probability in training, in [0, 1)."""
    feature_dropout: float = 0.0
    """Part of the normalised feature channels that is dropped in training, in [0, 1); it reduces overfitting to few
    videos."""
    temporal: Literal["transformer", "cnn", "ms-tcn", "none"] = "transformer"
    """Temporal embedding: eq. 1, or an alternative of Table 6; `none`: snippets do not interact (B-II)."""
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
    """Initial value of α in eq. 6, any number."""
    temperature_init: float = 0.07
    """Initial temperature of the classifier, eq. 7, > 0."""
    rescoring: Rescoring = "none"
    """`video-class`: a snippet's class probability becomes its geometric mean with that of the whole video, from
    snippets weighted by the smoothed foreground (TF-CADE's idea). Only inference reads it."""
    localizer_dim: int = 128
    """Width of the features that the controller of eq. 8 reads, >= 1."""
    dynamic_channels: int = 8
    """Channels of the tiny network that each snippet applies along the video, eq. 8, >= 1."""
    temporal_scale: int = 100
    """T that the `release` architecture is built for, >= 1; the `paper` architecture takes any T."""
    text: TextConfig = field(default_factory=TextConfig)

    @property
    def length_rule(self) -> LengthRule:
        """One T for the `release` architecture, any for the `paper` architecture."""
        return LengthRule(fixed=self.temporal_scale if self.architecture == "release" else None)

    @property
    def deployable(self) -> bool:
        """A network that is given the ground truth's foreground (Table 4) cannot be deployed."""
        return self.masking != "ground-truth"

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
            require(getattr(self, name) >= 1, f"model.{name}", getattr(self, name), "an integer >= 1")
        require(
            self.embed_dim % self.n_heads == 0,
            "model.embed_dim",
            self.embed_dim,
            f"a multiple of model.n_heads = {self.n_heads}",
        )
        for name in ("dropout", "feature_dropout"):
            require(0 <= getattr(self, name) < 1, f"model.{name}", getattr(self, name), "a number in [0, 1)")
        require(
            0 < self.foreground_threshold < 1,
            "model.foreground_threshold",
            self.foreground_threshold,
            "a number in (0, 1)",
        )
        require(self.temperature_init > 0, "model.temperature_init", self.temperature_init, "a number > 0")
        released = self.architecture == "release"
        if self.features.normalize is None:
            resolved = replace(self.features, normalize="none" if released else "video-mean")
            object.__setattr__(self, "features", resolved)
        if released:
            what = "none for the architecture 'release', whose public checkpoints take features as they are"
            require(self.features.normalize == "none", "model.features.normalize", self.features.normalize, what)
            require(self.features.l2 == "none", "model.features.l2", self.features.l2, what)
            require(self.rescoring == "none", "model.rescoring", self.rescoring, what)
