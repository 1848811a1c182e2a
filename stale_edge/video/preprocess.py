"""CLIP's image preprocessing in Pillow and NumPy, equal to transformers' CLIPImageProcessor."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stale_edge.config import from_dict, to_dict
from stale_edge.errors import ConfigError
from stale_edge.segments import FloatArray

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class ClipPreprocess:
    """The steps from a picture (H, W, 3) uint8 RGB to an encoder's input (3, height, width) float32.

    Resize, crop the middle (with black borders if the picture is smaller), rescale, normalise.

    Raises:
        ConfigError: a value is out of range.
    """

    shortest_edge: int | None = 224
    """Resize so that the shorter side has this many pixels, >= 1; None: to `resize_height` and `resize_width`."""
    resize_height: int | None = None
    resize_width: int | None = None
    """Resize to this size, ignoring the aspect ratio; with neither this nor `shortest_edge`, do not resize."""
    resample: int = 3
    """Pillow's filter: 0 nearest, 1 Lanczos, 2 bilinear, 3 bicubic, 4 box, 5 Hamming."""
    crop_height: int | None = 224
    crop_width: int | None = 224
    """Crop the middle to this size; None: do not crop."""
    rescale_factor: float = 1 / 255
    """Pixels are multiplied by this first."""
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    """Then (pixel - mean) / std, by channel; std > 0."""

    def __post_init__(self) -> None:
        for name in ("shortest_edge", "resize_height", "resize_width", "crop_height", "crop_width"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"preprocess.{name} must be an integer >= 1; got {value!r}")
        for one, other in (("resize_height", "resize_width"), ("crop_height", "crop_width")):
            if (getattr(self, one) is None) != (getattr(self, other) is None):
                raise ConfigError(f"preprocess.{one} and preprocess.{other} are given both or not at all")
        if self.shortest_edge is not None and self.resize_height is not None:
            raise ConfigError("preprocess.shortest_edge and preprocess.resize_height exclude each other")
        if not 0 <= self.resample <= 5:
            raise ConfigError(f"preprocess.resample must be one of Pillow's filters 0..5; got {self.resample!r}")
        if len(self.mean) != 3 or len(self.std) != 3 or not all(math.isfinite(v) for v in (*self.mean, *self.std)):
            raise ConfigError(f"preprocess.mean and std must hold three numbers; got {self.mean!r} and {self.std!r}")
        if not math.isfinite(self.rescale_factor) or min(self.std) <= 0:
            raise ConfigError(
                f"preprocess.rescale_factor must be finite and std > 0; got {self.rescale_factor!r} and {self.std!r}"
            )

    @classmethod
    def from_transformers(cls, values: Mapping[str, Any]) -> "ClipPreprocess":
        """Read the values of `preprocessor_config.json`, with the key names of any version of transformers.

        A file that names no processor is CLIP's. ConvNext's processor, which ResNets use, crops a share of the picture.

        Raises:
            ConfigError: a step that none of these processors has, or a value out of range.
        """
        if "crop_pct" in values:
            return cls._from_share(values)
        crops = str(values.get("image_processor_type", values.get("feature_extractor_type", "CLIP"))).startswith("CLIP")
        size = values.get("size", {"shortest_edge": 224})
        size = {"shortest_edge": size} if isinstance(size, int) else dict(size)
        crop = values.get("crop_size", {"height": 224, "width": 224})
        crop = {"height": crop, "width": crop} if isinstance(crop, int) else dict(crop)
        if not values.get("do_resize", True):
            size = {}
        if not values.get("do_center_crop", crops):
            crop = {}
        if set(size) not in ({"shortest_edge"}, {"height", "width"}, set()):
            raise ConfigError(f"preprocessor_config.json: size must be shortest_edge, or height and width; got {size}")
        if values.get("do_pad"):
            raise ConfigError("preprocessor_config.json: do_pad is no step of these image processors")
        normalize = values.get("do_normalize", True)
        return from_dict(
            cls,
            {
                "shortest_edge": size.get("shortest_edge"),
                "resize_height": size.get("height"),
                "resize_width": size.get("width"),
                "resample": int(values.get("resample", 3)),
                "crop_height": crop.get("height"),
                "crop_width": crop.get("width"),
                "rescale_factor": values.get("rescale_factor", 1 / 255) if values.get("do_rescale", True) else 1.0,
                "mean": values.get("image_mean", CLIP_MEAN) if normalize else (0.0, 0.0, 0.0),
                "std": values.get("image_std", CLIP_STD) if normalize else (1.0, 1.0, 1.0),
            },
            where="preprocess.",
        )

    @classmethod
    def _from_share(cls, values: Mapping[str, Any]) -> "ClipPreprocess":
        """Read ConvNext's values: below 384 pixels the middle share `crop_pct` is kept, from there all is squashed."""
        kept = dict(values)
        share = float(kept.pop("crop_pct") or 224 / 256)
        edge = int(kept["size"]["shortest_edge"])
        if edge < 384:
            kept |= {"size": {"shortest_edge": int(edge / share)}, "do_center_crop": True, "crop_size": edge}
        else:
            kept |= {"size": {"height": edge, "width": edge}, "do_center_crop": False}
        return cls.from_transformers(kept)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ClipPreprocess":
        """Read the values of `to_json`; every field must be present.

        Raises:
            ConfigError: a field is missing, unknown or out of range.
        """
        missing = [field.name for field in fields(cls) if field.name not in values]
        if missing:
            raise ConfigError(f"preprocess lacks {', '.join(missing)}")
        return from_dict(cls, values, where="preprocess.")

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, one key per field."""
        return to_dict(self)

    @property
    def output_size(self) -> tuple[int, int] | None:
        """Height and width of every output; None if they depend on the picture."""
        if self.crop_height is not None and self.crop_width is not None:
            return self.crop_height, self.crop_width
        if self.resize_height is not None and self.resize_width is not None:
            return self.resize_height, self.resize_width
        return None

    def __call__(self, picture: NDArray[np.uint8]) -> FloatArray:
        """Prepare one picture.

        Args:
            picture: (H, W, 3) uint8 RGB.

        Returns:
            (3, height, width) float32; equal to transformers' within 1e-5.

        Raises:
            ValueError: the picture has another shape or type.
        """
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
            raise ValueError(f"a picture must be uint8 of shape (H, W, 3); got {picture.dtype} {picture.shape}")
        return self.finish(self._resized(picture))

    def resized_shape(self, height: int, width: int) -> tuple[int, int]:
        """Give height and width to which a picture is resized, before it is cropped."""
        if self.shortest_edge is not None:
            short, long = min(height, width), max(height, width)
            other = int(self.shortest_edge * long / short)
            return (other, self.shortest_edge) if width <= height else (self.shortest_edge, other)
        if self.resize_height is not None and self.resize_width is not None:
            return self.resize_height, self.resize_width
        return height, width

    def finish(self, resized: NDArray[np.uint8]) -> FloatArray:
        """Crop and normalise a picture (H, W, 3) uint8 that has its `resized_shape`; gives (3, height, width)."""
        pixels = self._cropped(resized)
        prepared = np.empty((3, *pixels.shape[:2]), dtype=np.float32)
        for channel, values in enumerate(self._table):
            np.take(values, pixels[:, :, channel], out=prepared[channel])
        return prepared

    @cached_property
    def _table(self) -> FloatArray:
        """Output for each of the 256 pixel values, by channel: (3, 256)."""
        scaled = (np.arange(256) * self.rescale_factor).astype(np.float32)
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        table: FloatArray = (scaled - mean[:, None]) / std[:, None]
        return table

    def _resized(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        target = self.resized_shape(*picture.shape[:2])
        if self.shortest_edge is None and self.resize_height is None:
            return picture
        image = Image.fromarray(picture).resize((target[1], target[0]), resample=Image.Resampling(self.resample))
        return np.asarray(image)

    def _cropped(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self.crop_height is None or self.crop_width is None:
            return picture
        for axis, wanted in enumerate((self.crop_height, self.crop_width)):
            have = picture.shape[axis]
            if have < wanted:
                before = (wanted - have + 1) // 2
                padding = [(before, wanted - have - before) if i == axis else (0, 0) for i in range(3)]
                picture = np.pad(picture, padding)
            elif have > wanted:
                start = (have - wanted) // 2
                picture = picture.take(range(start, start + wanted), axis=axis)
        return picture
