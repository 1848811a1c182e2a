"""`load_encoder` and the `VisualEncoder`: pictures to features, with numpy, Pillow and onnxruntime or openvino."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stale_edge.bundle.encoder_folder import EncoderManifest, engine_problem, find_encoder
from stale_edge.bundle.generations import in_one_generation
from stale_edge.config import FeatureSpec, Preprocessing
from stale_edge.errors import BundleError, ConfigError, FeatureContractError
from stale_edge.runtime.devices import checked_device
from stale_edge.runtime.encoder_engines import EncoderRun, encoder_file_precision, open_engine
from stale_edge.segments import FloatArray


def load_encoder(
    path: Path | str,
    *,
    precision: str = "fp32",
    threads: int = 1,
    runtime: str = "onnxruntime",
    at_once: int = 1,
    device: str = "cpu",
) -> "VisualEncoder":
    """Open a visual encoder; the file that is used is checked byte by byte first.

    Args:
        path: an encoder folder, or a bundle that holds one.
        precision: `fp32`, `fp16`, `int8` or `int8-static` with ONNX Runtime; `fp32`, `bf16`, `int8-static` or
            `int8-bf16` with OpenVINO; as far as the encoder has the file.
        threads: CPU threads of one call, >= 1.
        runtime: `onnxruntime` or `openvino`.
        at_once: number of threads that call at the same time, >= 1.
        device: as in `load_bundle`.

    Returns:
        An encoder that many threads may share.

    Raises:
        ValueError: threads < 1 or at_once < 1, or no such device.
        DeviceError: a GPU is asked for and cannot be used.
        BundleError: there is no encoder, or not in this precision (those available are listed), or this runtime and
            precision failed the encoder's parity check, or this CPU cannot run it.
        VerificationError: a file is missing or its bytes changed.
        MissingExtraError: the runtime is not installed.
        ModuleNotFoundError: Pillow, which the extra `video` brings, is not installed.
    """
    for name, value in (("threads", threads), ("at_once", at_once)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be an integer >= 1; got {value!r}")
    stored = encoder_file_precision(runtime, precision)
    device = checked_device(device, runtime=runtime, precision=precision)

    def load() -> "VisualEncoder":
        bundle = find_encoder(path)
        problem = engine_problem(bundle.manifest, runtime, precision)
        if problem:
            raise BundleError(f"{path}: {problem}")
        file = bundle.checked_path(stored)
        how = EncoderRun(runtime, precision, threads, at_once, device)
        return VisualEncoder(bundle.manifest, file, how)

    return in_one_generation(path, load)


class VisualEncoder:
    """One opened ONNX file of an encoder folder with its preprocessing; immutable, safe to share between threads.

    Args:
        manifest: the folder's manifest.
        file: the ONNX file that the runtime runs in this precision.
        how: runtime, precision, threads and device.

    Raises:
        BundleError: the file or the preprocessing differs from the manifest, or the file cannot be loaded.
    """

    def __init__(self, manifest: EncoderManifest, file: Path, how: EncoderRun) -> None:
        from stale_edge.video.preprocess import ClipPreprocess

        try:
            self.preprocess = ClipPreprocess.from_json(manifest.preprocess)
            """Prepares one picture (H, W, 3) uint8 RGB; gives (3, height, width) float32."""
        except ConfigError as error:
            raise BundleError(f"{file.parent}: {error}") from error
        if self.preprocess.output_size != manifest.image_size:
            raise BundleError(
                f"{file.parent}: pictures are prepared to {self.preprocess.output_size} pixels; "
                f"the graphs take {manifest.image_size}"
            )
        self.manifest = manifest
        self.precision, self.runtime = how.precision, how.runtime
        engine = open_engine(file, how)
        self.provider = engine.provider
        taken, given, self._run = list(engine.inputs), list(engine.outputs), engine.run
        stated = [("pixel_values", [3, *manifest.image_size])], [("image_embeds", [manifest.embed_dim])]
        if (taken, given) != stated:
            raise BundleError(f"{file}: it takes {taken} and gives {given}; the manifest says {stated}")

    def __repr__(self) -> str:
        return f"<VisualEncoder {self.manifest.name}, {self.precision} on {self.provider}: width {self.embed_dim}>"

    @property
    def embed_dim(self) -> int:
        """C, the width of one feature."""
        return self.manifest.embed_dim

    @property
    def fingerprint(self) -> str:
        """Identifies the encoder; the same for all its precisions."""
        return self.manifest.fingerprint

    def feature_spec(self, *, fps: float, stride: int, preprocessing: Preprocessing = "exact") -> FeatureSpec:
        """Make the feature spec of this encoder at a frame rate and stride."""
        return FeatureSpec(self.fingerprint, self.embed_dim, float(fps), stride, preprocessing=preprocessing)

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
        features = self._run(pixels)
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
