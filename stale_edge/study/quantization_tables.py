"""Tables and curves of the quantization study."""

from collections.abc import Mapping, Sequence
from typing import Any

from stale_edge.report.curves import Line, Panel
from stale_edge.study.public_size import public_size
from stale_edge.study.published import (
    THESIS_GPU,
    THESIS_GPU_OVER_INT8,
    THESIS_INT8_MEMORY_FACTOR,
    THESIS_INT8_SPEEDUP,
)
from stale_edge.study.study import Cell, Column, FinishedRun, spread

THESIS, FOLDED = "text tower inside, torch", "text tower folded away, ONNX Runtime"
"""The thesis' way: torch's dynamic quantization of a network that encodes every class prompt in each forward pass.
The kit's: class embeddings are an input, so only the detector is left to run, and to quantize."""
FOLDED_CUDA = "text tower folded away, torch"


def row_key(device: str, way: str, precision: str) -> str:
    """Name a row in a run's file; `by_row` takes it apart again."""
    return f"{device}; {way}; {precision}"


Rows = dict[tuple[str, str, str], dict[int, list[float]]]
"""A value by (device, way, precision), then by number of snippets, one a seed."""


def by_row(timed: Sequence[FinishedRun], value: Any) -> Rows:
    """Collect a value by (device, way, precision), then by length, one a seed."""
    found: Rows = {}
    for done in timed:
        for key, row in done.result["rows"].items():
            number = value(row)
            if number is not None:
                device, way, precision = key.split("; ")
                lengths = found.setdefault((device, way, precision), {})
                lengths.setdefault(int(done.run.parameters["length"]), []).append(float(number))
    return found


def time_rows(seconds: Rows, memory: Rows, weights: Rows) -> list[dict[str, Cell]]:
    """List every way by length: seconds, and weights and peak memory in MB, the published GPU first."""
    rows: list[dict[str, Cell]] = [
        {"way": "V100S fp32, published", "length": point.length, "seconds": point.seconds}
        for point in THESIS_GPU
        if point.seconds is not None
    ]
    for key, lengths in seconds.items():
        device, way, precision = key
        rows += [
            {
                "way": f"{device} {precision}, {way}",
                "length": length,
                "seconds": spread(lengths[length]),
                "megabytes": weights[key][length][0] / 1e6 if key in weights else None,
                "memory": spread([value / 1e6 for value in memory[key][length]]) if key in memory else None,
            }
            for length in sorted(lengths)
        ]
    return rows


def factor_rows(seconds: Rows, memory: Rows, weights: Rows) -> list[dict[str, Cell]]:
    """Compare fp32 with int8 in both ways, and int8 on the CPU with fp32 on CUDA."""
    rows: list[dict[str, Cell]] = []

    def add(what: str, over: tuple[str, str, str], under: tuple[str, str, str], published: float | None = None) -> None:
        for name, values in (("time", seconds), ("peak memory", memory), ("bytes of weights", weights)):
            ratios = _ratios(values, over, under)
            if ratios:
                rows.append(
                    {
                        "what": f"{what}: {name}",
                        "shortest": ratios[0],
                        "longest": ratios[-1],
                        "own": spread(ratios),
                        "published": published if name == "time" else None,
                    }
                )

    add("fp32 / int8, text tower inside", ("cpu", THESIS, "fp32"), ("cpu", THESIS, "int8"), THESIS_INT8_SPEEDUP)
    size = public_size(100, cpu_variant=True)
    rows.append(
        {
            "what": "fp32 / int8, the thesis' class, image tower and all: bytes, from shapes",
            "own": size.bytes(4) / size.bytes(1),
            "published": THESIS_INT8_MEMORY_FACTOR,
        }
    )
    add("fp32 / int8, text tower folded away", ("cpu", FOLDED, "fp32"), ("cpu", FOLDED, "int8"))
    add("folding alone, fp32", ("cpu", THESIS, "fp32"), ("cpu", FOLDED, "fp32"))
    add("folding and int8 together", ("cpu", THESIS, "fp32"), ("cpu", FOLDED, "int8"))
    gpu = _ratios(seconds, ("cpu", THESIS, "int8"), ("cuda", THESIS, "fp32"))
    rows.append(
        {
            "what": "int8 on the CPU / fp32 on the GPU, text tower inside: time",
            "own": spread(gpu) if gpu else None,
            "published": THESIS_GPU_OVER_INT8,
        }
    )
    return rows


def _ratios(values: Rows, over: tuple[str, str, str], under: tuple[str, str, str]) -> list[float]:
    """Divide two rows length by length, shortest first; nothing where one was not measured."""
    if over not in values or under not in values:
        return []
    shared = sorted(set(values[over]) & set(values[under]))
    return [spread(values[over][n]).mean / spread(values[under][n]).mean for n in shared]


def accuracy_rows(measured: Sequence[Mapping[str, Any]]) -> list[dict[str, Cell]]:
    """Compare average mAP, in percent, with that of the network in PyTorch fp32."""
    rows: list[dict[str, Cell]] = []
    if not measured:
        return rows
    for key in measured[0]:
        if key == "torch fp32":
            continue
        _, way, precision = key.split("; ")
        rows.append(
            {
                "way": f"{precision}, {way}",
                "average_mAP": spread([result[key]["average_mAP"] for result in measured]),
                "change": spread([result[key]["average_mAP"] - result["torch fp32"] for result in measured]),
                "megabytes": measured[0][key]["bytes"] / 1e6,
            }
        )
    return rows


def panels_of(seconds: Rows) -> list[Panel]:
    """Draw Figure 4 c, and beside it the same with the text tower folded away."""
    panels = []
    for way in dict.fromkeys(way for _, way, _ in seconds):
        lines = []
        for (device, own_way, precision), lengths in seconds.items():
            if own_way == way:
                cells = [spread(lengths[length]) for length in sorted(lengths)]
                lines.append(
                    Line(
                        f"{precision}, {device}",
                        tuple(float(length) for length in sorted(lengths)),
                        tuple(cell.mean for cell in cells),
                        tuple(cell.std or 0.0 for cell in cells),
                    )
                )
        if way == THESIS:
            ends = [(float(p.length), p.seconds) for p in THESIS_GPU if p.seconds is not None]
            x, y = zip(*ends, strict=True)
            lines.append(Line("fp32, V100S (thesis)", x, y, published=True))
        panels.append(Panel(way, "snippets", "forward pass, s", tuple(lines)))
    return panels


PLOT_CAPTION = "Forward pass of one video by its length, CPU on one thread; dashed: what the thesis prints (V100S)"
TIMES = (
    Column("way", "way"),
    Column("length", "snippets"),
    Column("seconds", "forward pass, s", 3),
    Column("megabytes", "weights, MB"),
    Column("memory", "peak memory, MB", 0),
)
FACTORS = (
    Column("what", "factor"),
    Column("shortest", "shortest", 2),
    Column("longest", "longest", 2),
    Column("own", "mean", 2),
    Column("published", "published", 2),
)
ACCURACY = (
    Column("way", "way"),
    Column("average_mAP", "average mAP", 2),
    Column("change", "change against torch fp32", 2),
    Column("megabytes", "weights, MB", 2),
)
