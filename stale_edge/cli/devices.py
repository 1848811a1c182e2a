"""The option `--device` of commands that run networks."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated

import typer


class DeviceName(StrEnum):
    """Devices to run networks on."""

    cpu = "cpu"
    cuda = "cuda"
    tensorrt = "tensorrt"
    auto = "auto"


DeviceOption = Annotated[
    DeviceName,
    typer.Option(
        "--device",
        help="cpu; cuda, an NVIDIA GPU; tensorrt, ONNX Runtime's TensorRT; auto: a GPU where one can be used.",
    ),
]


def print_providers(device: DeviceName, providers: Iterable[str]) -> None:
    """Print what computes to standard error, unless nothing but the CPU was asked for."""
    used = ", ".join(dict.fromkeys(providers))
    if device is not DeviceName.cpu and used:
        typer.echo(f"--device {device.value}: runs on {used}", err=True)
