"""`load_bundle`: a bundle's detector, opened in one runtime and precision, or as recommended for this machine."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from stale_edge.bundle import read_bundle
from stale_edge.bundle.generations import in_one_generation
from stale_edge.config.runtimes import file_for
from stale_edge.hub import is_hub_name, pull
from stale_edge.runtime.backends import Backend, open_backend
from stale_edge.runtime.decoded_outputs import decoded_outputs
from stale_edge.runtime.devices import Processor, checked_device
from stale_edge.runtime.localizer import Localizer
from stale_edge.runtime.recommendation import AUTO, read_recommendation
from stale_edge.runtime.recommended_localizer import RecommendedLocalizer
from stale_edge.segments import FloatArray

_FP16_NOTE = "fp16 is slower than fp32 on a CPU; it is for size and for GPUs"


class PrecisionWarning(UserWarning):
    """The requested precision brings no gain on this device."""


def load_bundle(
    path: Path | str, *, runtime: str = "onnxruntime", precision: str = "fp32", threads: int = 1, device: str = "cpu"
) -> "Localizer | RecommendedLocalizer":
    """Open a bundle for detection; the files that are used are checked byte by byte first.

    Args:
        path: the bundle's folder; or a name on a hub, `ORG/NAME` or `ORG/NAME@REVISION`, where no such folder exists.
        runtime: `onnxruntime`; `openvino`, which needs openvino and runs the same files; `torchscript` or
            `torch-export`, which need torch; `auto`, the runtime and precision that `stale-edge bench --recommend`
            chose for this bundle on this machine, by the length of the video.
        precision: `fp32`, `fp16`, `int8` or `int8-static`, if the bundle has it; with OpenVINO also `bf16`, the fp32
            file in bf16, and `int8-bf16`, static int8 with all else in bf16. With `auto` it is chosen, so only the
            default is allowed.
        threads: CPU threads, >= 1; one by default, so as not to load all cores.
        device: `cpu`; `cuda`, an NVIDIA GPU through ONNX Runtime or PyTorch; `tensorrt`, ONNX Runtime's TensorRT;
            `auto`, a GPU where one can be used, else the CPU. `Localizer.provider` names what is used.

    Returns:
        A localizer that many threads may share.

    Raises:
        ValueError: threads < 1, no such device, or a precision or device beside runtime `auto`.
        DeviceError: a GPU is asked for and cannot be used.
        BundleError: no bundle, no such runtime or precision in it (those in it are listed), or no recommendation here.
        VerificationError: a file is missing or its bytes changed.
        MissingExtraError: the runtime is not installed.

    Warns:
        PrecisionWarning: fp16, which is slower than fp32 on a CPU.
    """
    if is_hub_name(path):
        path = pull(str(path))
    if runtime == AUTO:
        if device != "cpu":
            raise ValueError(f'runtime="{AUTO}" is measured on the CPU; got device={device!r}: leave one of them out')
        if precision != "fp32":
            raise ValueError(f'runtime="{AUTO}" chooses the precision; got precision={precision!r}: leave it out')
        return _load_recommended(Path(path), threads=threads)
    localizer = in_one_generation(path, lambda: _load(Path(path), runtime, precision, Processor(threads, device)))
    if precision == "fp16" and not localizer.on_gpu:
        name, note = localizer.entry.path, localizer.note or _FP16_NOTE
        warnings.warn(f"{name}: {note}", PrecisionWarning, stacklevel=2)
    return localizer


def _load(path: Path, runtime: str, precision: str, processor: Processor) -> "Localizer":
    files, stored = file_for(runtime, precision)
    checked_device(processor.device, runtime=runtime, precision=precision)
    bundle = read_bundle(path)
    entry = bundle.detector(runtime=files, precision=stored)
    file, names = bundle.checked_path(entry), [spec.name for spec in entry.outputs]
    checked = [file]

    def open_detector(outputs: Sequence[str] | None, classes: FloatArray | None) -> Backend:
        # The bundle at this path may have been replaced when the file is opened again later.
        path = checked.pop() if checked else bundle.checked_path(entry)
        return open_backend(
            path,
            runtime=runtime,
            precision=precision,
            processor=processor,
            outputs=outputs,
            class_embeddings=classes,
            names=names,
        )

    return Localizer(
        bundle,
        entry,
        open_detector,
        decoded=decoded_outputs(file, names, bundle.manifest.decode),
        runtime=runtime,
        precision=precision,
    )


def _load_recommended(path: Path, *, threads: int) -> RecommendedLocalizer:
    recommendation = read_recommendation(read_bundle(path), threads=threads)

    def open_choice(pair: tuple[str, str]) -> Localizer:
        return in_one_generation(path, lambda: _load(path, *pair, Processor(threads)))

    return RecommendedLocalizer(recommendation, open_choice)
