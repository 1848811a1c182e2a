"""`load_encoder` and the `VisualEncoder`: pictures to features, with numpy, Pillow and onnxruntime."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stale_edge.bundle.encoder_folder import EncoderManifest, find_encoder
from stale_edge.bundle.generations import in_one_generation
from stale_edge.config import FeatureSpec
from stale_edge.errors import BundleError, ConfigError, FeatureContractError
from stale_edge.runtime.devices import checked_device
from stale_edge.runtime.onnx_session import open_session
from stale_edge.segments import FloatArray


def load_encoder(
    path: Path | str, *, precision: str = "fp32", threads: int = 1, device: str = "cpu"
) -> "VisualEncoder":
    """Open a visual encoder; the file that is used is checked byte by byte first.

    Args:
        path: an encoder folder, or a bundle that holds one.
        precision: `fp32`, `fp16` or `int8`, as far as the encoder has it.
        threads: CPU threads, >= 1.
        device: as in `load_bundle`.

    Returns:
        An encoder that many threads may share.

    Raises:
        ValueError: threads < 1, or no such device.
        DeviceError: a GPU is asked for and cannot be used.
        BundleError: there is no encoder, or not in this precision (those available are listed).
        VerificationError: a file is missing or its bytes changed.
        ModuleNotFoundError: Pillow, which the extra `video` brings, is not installed.
    """
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ValueError(f"threads must be an integer >= 1; got {threads!r}")

    device = checked_device(device, runtime="onnxruntime", precision=precision)

    def load() -> "VisualEncoder":
        bundle = find_encoder(path)
        file = bundle.checked_path(precision)
        return VisualEncoder(bundle.manifest, file, precision=precision, threads=threads, device=device)

    return in_one_generation(path, load)


class VisualEncoder:
    """One opened ONNX file of an encoder folder with its preprocessing; immutable, safe to share between threads.

    Args:
        manifest: the folder's manifest.
        file: the ONNX file of `precision`.

    Raises:
        BundleError: the file or the preprocessing differs from the manifest.
    """

    def __init__(
        self, manifest: EncoderManifest, file: Path, *, precision: str, threads: int = 1, device: str = "cpu"
    ) -> None:
        from stale_edge.video.preprocess import ClipPreprocess

        try:
            self._preprocess = ClipPreprocess.from_json(manifest.preprocess)
        except ConfigError as error:
            raise BundleError(f"{file.parent}: {error}") from error
        if self._preprocess.output_size != manifest.image_size:
            raise BundleError(
                f"{file.parent}: pictures are prepared to {self._preprocess.output_size} pixels; "
                f"the graphs take {manifest.image_size}"
            )
        self.manifest = manifest
        self.precision = precision
        self._session = open_session(file, threads=threads, device=device)
        self.provider = str(self._session.get_providers()[0])
        taken = [(value.name, list(value.shape[1:])) for value in self._session.get_inputs()]
        given = [(value.name, list(value.shape[1:])) for value in self._session.get_outputs()]
        stated = [("pixel_values", [3, *manifest.image_size])], [("image_embeds", [manifest.embed_dim])]
        if (taken, given) != stated:
            raise BundleError(f"{file}: it takes {taken} and gives {given}; the manifest says {stated}")

    @property
    def embed_dim(self) -> int:
        """C, the width of one feature."""
        return self.manifest.embed_dim

    @property
    def fingerprint(self) -> str:
        """Identifies the encoder; the same for all its precisions."""
        return self.manifest.fingerprint

    def feature_spec(self, *, fps: float, stride: int) -> FeatureSpec:
        """Make the feature spec of this encoder at a frame rate and stride."""
        return FeatureSpec(self.fingerprint, self.embed_dim, float(fps), stride)

    def preprocess(self, picture: NDArray[np.uint8]) -> FloatArray:
        """Prepare one picture (H, W, 3) uint8 RGB; gives (3, height, width) float32.

        Raises:
            ValueError: not such a picture.
        """
        return self._preprocess(picture)

    def embed(self, pixels: FloatArray) -> FloatArray:
        """Encode prepared pictures.

        Args:
            pixels: (N, 3, height, width) float32, N >= 1, from `preprocess`.

        Returns:
            (N, C) float32, the encoder's raw output, not normalised.

        Raises:
            ValueError: another shape or type.
            FeatureContractError: the encoder gave a value that is not finite.
        """
        wanted = (3, *self.manifest.image_size)
        if pixels.dtype != np.float32 or pixels.ndim != 4 or pixels.shape[1:] != wanted or len(pixels) == 0:
            raise ValueError(f"pixels must be float32 of shape (N, {wanted}); got {pixels.dtype} {pixels.shape}")
        features = np.asarray(self._session.run(["image_embeds"], {"pixel_values": pixels})[0])
        if not np.isfinite(features).all():
            raise FeatureContractError(
                f"the {self.precision} visual encoder gave features that are not finite; use another precision"
            )
        return features

    def encode(self, frames: NDArray[np.uint8]) -> FloatArray:
        """Prepare and encode pictures of one size.

        Args:
            frames: (N, H, W, 3) uint8 RGB, N >= 1.

        Returns:
            (N, C) float32, not normalised.

        Raises:
            ValueError: not such pictures.
        """
        if frames.ndim != 4 or len(frames) == 0:
            raise ValueError(f"frames must have shape (N, H, W, 3), N >= 1; got {frames.shape}")
        return self.embed(np.stack([self.preprocess(frame) for frame in frames]))
