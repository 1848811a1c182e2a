"""The table of all formats and precisions that can be exported, and the arguments of each."""

from collections.abc import Iterable
from dataclasses import dataclass

from stale_edge.config.runtimes import MANIFEST_RUNTIMES, FileFormat, Precision


@dataclass(frozen=True)
class ArtifactFormat:
    """One row of the table: a file that `export` can write."""

    format: FileFormat
    precision: Precision
    file_name: str
    extra: str
    """Optional dependencies that are needed to run it; empty: the base install is enough."""
    arguments: tuple[str, ...]
    """Keyword arguments that `export_detector` takes for it."""
    how: str
    """How it is made."""
    note: str
    """What a user of the file should know."""

    @property
    def runtime(self) -> str:
        """The runtime that the manifest names for it."""
        return MANIFEST_RUNTIMES[self.format]


_SLOW_HALF = "fp16 saves size and is for GPUs; on a CPU it is no faster than fp32"
_INT8 = "int8 activations are scaled per call, so a video's answer depends a little on its batch"

FORMATS: tuple[ArtifactFormat, ...] = (
    ArtifactFormat(
        "onnx", "fp32", "detector-fp32.onnx", "", ("metadata",),
        "torch.onnx.export(dynamo=True), constants folded", "",
    ),
    ArtifactFormat(
        "onnx", "fp16", "detector-fp16.onnx", "", ("metadata", "keep_float32"),
        "products with constant weights in float16, all between them in float32", _SLOW_HALF,
    ),
    ArtifactFormat(
        "onnx", "int8", "detector-int8.onnx", "", ("metadata", "keep_float32", "calibration"),
        "MatMul and Gemm with constant weights in int8, one scale per output channel, activations scaled per call",
        _INT8,
    ),
    ArtifactFormat(
        "onnx", "int8-static", "detector-int8-static.onnx", "",
        ("metadata", "keep_float32", "calibration"),
        "products of weights and of activations between QuantizeLinear and DequantizeLinear, ranges from training "
        "videos, as few products in float32 as the decisions need",
        "fastest with OpenVINO",
    ),
    ArtifactFormat(
        "torchscript", "fp32", "detector-fp32.torchscript.pt", "export", ("metadata",),
        "torch.jit.trace", "",
    ),
    ArtifactFormat(
        "torchscript", "fp16", "detector-fp16.torchscript.pt", "export", ("metadata", "keep_float32"),
        "nn.Linear in float16, all between in float32, torch.jit.trace",
        "fp16 saves size and is for GPUs; on a CPU it is several times slower than fp32",
    ),
    ArtifactFormat(
        "torchscript", "int8", "detector-int8.torchscript.pt", "export",
        ("metadata", "keep_float32", "calibration"),
        "torch.ao.quantization.quantize_dynamic of nn.Linear, one scale per output channel, torch.jit.trace",
        f"runs on CPUs alone; {_INT8}",
    ),
    ArtifactFormat(
        "pt2", "fp32", "detector-fp32.pt2", "export", ("metadata",),
        "torch.export", "",
    ),
)  # fmt: skip


TRITON = "triton"
"""Format: a model repository for a server, made from the ONNX detectors, which are written too."""
TRITON_PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16")
"""No int8: activations are scaled per call, so a result would depend on the other requests in the batch."""

DEFAULT_FORMATS: tuple[FileFormat, ...] = ("onnx", "torchscript")
"""Formats that an export writes by default."""
DEFAULT_PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
"""Precisions that an export writes by default; static int8 is not one, as it needs a slow search over layers."""


def select_formats(formats: Iterable[str], precisions: Iterable[str]) -> tuple[ArtifactFormat, ...]:
    """Choose the rows of the table for every given format in every given precision, in the table's order.

    `triton` selects the ONNX rows that its files are made from.

    Raises:
        ValueError: a format or precision is not in the table or none is given, or a format has none of the given
            precisions; the message lists the allowed ones.
    """
    wanted_formats = _checked("format", formats, [*(row.format for row in FORMATS), TRITON])
    wanted_precisions = _checked("precision", precisions, [row.precision for row in FORMATS])
    served = TRITON in wanted_formats
    if served:
        wanted_formats = wanted_formats - {TRITON} | {"onnx"}
    rows = tuple(row for row in FORMATS if row.format in wanted_formats and row.precision in wanted_precisions)
    left_out = wanted_formats - {row.format for row in rows}
    if served and not wanted_precisions.intersection(TRITON_PRECISIONS):
        left_out.add(TRITON)
    if left_out:
        raise ValueError(
            f"{', '.join(sorted(left_out))} does not come in {', '.join(sorted(wanted_precisions))}. "
            f"What can be exported: {_table()}"
        )
    return rows


def find_format(format: str, precision: str) -> ArtifactFormat:
    """Find one row of the table.

    Raises:
        ValueError: there is none; the message lists the allowed ones.
    """
    (row,) = select_formats([format], [precision])
    return row


def check_arguments(row: ArtifactFormat, arguments: Iterable[str]) -> None:
    """Refuse arguments that a row does not take.

    Raises:
        ValueError: an argument is not allowed; the message names it and the allowed ones.
    """
    unknown = [name for name in arguments if name not in row.arguments]
    if unknown:
        raise ValueError(
            f"{row.format} {row.precision} does not take {', '.join(unknown)}; allowed: {', '.join(row.arguments)}"
        )


def _checked(what: str, given: Iterable[str], allowed: Iterable[str]) -> set[str]:
    if isinstance(given, str):
        raise ValueError(f"{what}s must be a list of names; got the single string {given!r}")
    names, known = list(given), list(dict.fromkeys(allowed))
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        got = ", ".join(map(repr, unknown)) or "none"
        raise ValueError(f"{what} must be among {', '.join(known)}; got {got}. What can be exported: {_table()}")
    return set(names)


def _table() -> str:
    kinds = [(row.format, row.precision) for row in FORMATS] + [(TRITON, precision) for precision in TRITON_PRECISIONS]
    return "; ".join(" ".join(kind) for kind in kinds)
