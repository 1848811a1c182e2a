"""The feature contract: what a bundle says of the features that its detector takes, in each format of the manifest."""

from dataclasses import dataclass

from stale_edge.bundle.json_fields import Json
from stale_edge.config import FeatureSpec, Preprocessing, Resampling, to_dict
from stale_edge.errors import ConfigError

FORMAT = "stale-edge-bundle/2"
"""Format that is written."""
FORMAT_1 = "stale-edge-bundle/1"
"""Older format, still read: STALE's two architectures and policies, no `num_frames` and `normalize` in the contract."""


@dataclass(frozen=True)
class FeatureContract:
    """The features that a detector needs for meaningful outputs; every runtime checks them before it runs."""

    encoder: str
    """Name or fingerprint of the visual encoder."""
    channels: int
    """C, >= 1."""
    fps: float | None
    """Frames sampled from the video per second, > 0; None: unspecified."""
    stride: int | None
    """Frames per snippet, >= 1; None: unspecified."""
    length: int | None
    """T that the graph is made for, >= 1; None: any T."""
    resampling: Resampling
    """Resampling of a video's features in `detect`: `linear` interpolates to `resample_to` snippets; or `none`."""
    resample_to: int | None = None
    """Number of snippets that `linear` resamples to, >= 1; equals `length` where that is fixed."""
    num_frames: int | None = None
    """Number of frames that one feature is computed from, >= 1; None: unspecified."""
    normalize: str = "none"
    """First step of the network on features; informative only, since it is inside the graph."""
    preprocessing: Preprocessing = "exact"
    """How pictures were prepared for the encoder; written only where it is not `exact`."""

    def __post_init__(self) -> None:
        FeatureSpec(
            self.encoder, self.channels, self.fps, self.stride, preprocessing=self.preprocessing
        )  # checks its rules
        if self.length is not None and self.length < 1:
            raise ConfigError(f"feature_contract.length must be an integer >= 1 or null; got {self.length}")
        if self.num_frames is not None and self.num_frames < 1:
            raise ConfigError(f"feature_contract.num_frames must be an integer >= 1 or null; got {self.num_frames}")
        if self.resampling == "none":
            if self.resample_to is not None:
                raise ConfigError(
                    f"feature_contract.resample_to must be null without resampling; got {self.resample_to}"
                )
            return
        target = self.resample_to if self.resample_to is not None else self.length
        if target is None or target < 1 or (self.length is not None and target != self.length):
            raise ConfigError(
                "feature_contract.resample_to must be an integer >= 1 for linear resampling, and equal to length where "
                f"that is fixed; got {self.resample_to} with length {self.length}"
            )
        object.__setattr__(self, "resample_to", target)

    @classmethod
    def from_spec(
        cls,
        spec: FeatureSpec,
        *,
        length: int | None,
        resampling: Resampling,
        resample_to: int | None = None,
        normalize: str = "none",
    ) -> "FeatureContract":
        """Extend a data set's feature spec by the detector's needs on the temporal axis."""
        return cls(
            spec.encoder,
            spec.channels,
            spec.fps,
            spec.stride,
            length,
            resampling,
            resample_to,
            num_frames=spec.num_frames,
            normalize=normalize,
            preprocessing=spec.preprocessing,
        )

    def to_json(self, format: str = FORMAT) -> Json:
        """Plain JSON values, one key per field of the format."""
        keys = contract_keys(format) + (() if self.preprocessing == "exact" else OPTIONAL_KEYS)
        return {key: value for key, value in to_dict(self).items() if key in keys}


OPTIONAL_KEYS = ("preprocessing",)
"""Keys that a feature contract has only where they differ from their default, so that older readers refuse those."""


def contract_keys(format: str) -> tuple[str, ...]:
    """List the keys that every feature contract has in a format."""
    later = ("num_frames", "normalize") if format == FORMAT_1 else ()
    return tuple(key for key in FeatureContract.__dataclass_fields__ if key not in (*later, *OPTIONAL_KEYS))
