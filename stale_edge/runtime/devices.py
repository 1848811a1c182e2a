"""Where a network runs: the CPU, or a GPU through ONNX Runtime's providers or PyTorch."""

from typing import Any, Literal, NamedTuple, get_args

from stale_edge.config.runtimes import RUNTIMES
from stale_edge.errors import BundleError, DeviceError, MissingExtraError, shown

Device = Literal["cpu", "cuda", "tensorrt", "auto"]
DEVICES: tuple[str, ...] = get_args(Device)


class Processor(NamedTuple):
    """What a network runs on.

    threads: CPU threads inside an operator, >= 1.
    device: one of `DEVICES`.
    """

    threads: int = 1
    device: str = "cpu"


ONE_THREAD = Processor()
CPU_PROVIDER = "CPUExecutionProvider"
PROVIDERS = {
    "cpu": (CPU_PROVIDER,),
    "cuda": ("CUDAExecutionProvider", CPU_PROVIDER),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", CPU_PROVIDER),
}
"""Device -> providers of ONNX Runtime; what the first cannot run goes to the next one."""


def checked_device(device: str, *, runtime: str, precision: str) -> str:
    """Refuse a device that does not exist, or on which a runtime does not run a precision.

    Returns:
        The device; for `auto` the CPU, where the runtime does not run the precision on a GPU.

    Raises:
        ValueError: no such device.
        BundleError: the runtime does not run this precision on a GPU; the message lists what is possible.
    """
    if device not in DEVICES:
        raise ValueError(f"device must be one of {', '.join(DEVICES)}; got {device!r}")
    if device == "tensorrt" and runtime != "onnxruntime":
        raise BundleError(f"device tensorrt is a part of onnxruntime; got runtime {shown(runtime)}: use cuda")
    if device in ("cuda", "tensorrt") and precision not in RUNTIMES[runtime].on_cuda:
        able = "; ".join(f"{name} in {', '.join(row.on_cuda)}" for name, row in RUNTIMES.items() if row.on_cuda)
        raise BundleError(
            f"{runtime} does not run {precision} on a GPU; these do: {able}. Use one of them, or device cpu"
        )
    return "cpu" if device == "auto" and precision not in RUNTIMES[runtime].on_cuda else device


def import_onnxruntime() -> Any:
    """Import ONNX Runtime, which the extras `cpu` and `gpu` bring, each its own build.

    Raises:
        MissingExtraError: neither is installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError(
            'this needs onnxruntime: pip install "stale-edge[cpu]", or "stale-edge[gpu]" where there is an NVIDIA GPU'
        ) from error
    return onnxruntime


def providers_for(device: str) -> tuple[str, ...]:
    """Name the providers to ask ONNX Runtime for; `auto` is CUDA where this build has it.

    Raises:
        DeviceError: this build of ONNX Runtime has no provider for the device.
    """
    ort = import_onnxruntime()
    available = ort.get_available_providers()
    if device == "auto":
        device = "cuda" if PROVIDERS["cuda"][0] in available else "cpu"
    wanted = PROVIDERS[device][0]
    if wanted not in available:
        raise DeviceError(
            f"device {device}: onnxruntime {ort.__version__} here has no {wanted}, only {', '.join(available)}; "
            'use --device cpu, or install "stale-edge[gpu]" in an environment without the package onnxruntime'
        )
    return PROVIDERS[device]


def require_provider(session: Any, device: str) -> None:
    """Refuse a session that fell back to the CPU where a GPU was asked for: ONNX Runtime does so without an error.

    Raises:
        DeviceError: no GPU, driver or CUDA library can be used here.
    """
    active = session.get_providers()
    if device != "auto" and PROVIDERS[device][0] not in active:
        raise DeviceError(
            f"device {device}: ONNX Runtime could not start its {PROVIDERS[device][0]} and would run on "
            f"{', '.join(active)}; check the GPU with nvidia-smi and CUDA's libraries, or use --device cpu"
        )


def torch_device(torch: Any, device: str) -> str:
    """Choose PyTorch's device, `cpu` or `cuda`.

    Raises:
        DeviceError: a GPU is asked for, and PyTorch sees none.
    """
    has_cuda = bool(torch.cuda.is_available())
    if device == "auto":
        return "cuda" if has_cuda else "cpu"
    if device == "cuda" and not has_cuda:
        raise DeviceError(
            f"device cuda: torch {torch.__version__} sees no GPU here; check it with nvidia-smi, install a build of "
            "torch for CUDA, or use --device cpu"
        )
    return device
