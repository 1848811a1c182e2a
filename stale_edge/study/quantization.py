"""What lower precision brings, and where the thesis' factor comes from: its Figure 4 c."""

import copy
import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from stale_edge.benchmarking.artifacts import make_bundle
from stale_edge.benchmarking.jobs import Job
from stale_edge.benchmarking.reference import quantize_as_thesis
from stale_edge.bundle import ClassBank, read_bundle
from stale_edge.config import Config, Precision, to_dict
from stale_edge.data import DataSet
from stale_edge.exporting import export_checkpoint
from stale_edge.model.checkpoint import read_checkpoint
from stale_edge.model.text import TextEncoder
from stale_edge.report.curves import Line, Panel
from stale_edge.runtime.evaluate import evaluate_localizer
from stale_edge.runtime.localizer import Localizer, PrecisionWarning, load_bundle
from stale_edge.study.public_size import public_size
from stale_edge.study.published import (
    THESIS_FIGURE_4,
    THESIS_GPU,
    THESIS_GPU_OVER_INT8,
    THESIS_INT8_MEMORY_FACTOR,
    THESIS_INT8_SPEEDUP,
)
from stale_edge.study.study import (
    Cell,
    Column,
    FinishedRun,
    Plot,
    Progress,
    Run,
    StudyOptions,
    Summary,
    Table,
    spread,
)
from stale_edge.study.subsets import write_names
from stale_edge.study.timing import (
    chosen_devices,
    chosen_lengths,
    chosen_network,
    chosen_seeds,
    describe_network,
    pytorch_job,
    time_jobs,
)
from stale_edge.study.trials import identity, training_videos, validation_subset
from stale_edge.study.world import describe_features, open_world, training_config
from stale_edge.training import TorchLocalizer, train
from stale_edge.training.classes import bank_for
from stale_edge.training.evaluate import feature_contract

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
THESIS, FOLDED = "text tower inside, torch", "text tower folded away, ONNX Runtime"
"""The thesis' way: torch's dynamic quantization of a network that encodes every class prompt in each forward pass.
The kit's: class embeddings are an input, so only the detector is left to run, and to quantize."""
FOLDED_CUDA = "text tower folded away, torch"


class Quantization:
    """Time every precision at the thesis' lengths on one CPU thread, and fp32 on CUDA where there is one; measure mAP.

    Args:
        options: of the study.
    """

    name = "quantization"

    def __init__(self, options: StudyOptions) -> None:
        self.options = options
        self.network = chosen_network(options)
        self._data_set: DataSet | None = None

    def plan(self, progress: Progress) -> list[Run]:
        """List the runs: one a length and seed, and one a seed that trains a network and quantizes it."""
        data_set = self._data_set = open_world(self.options, progress)
        seeds = chosen_seeds(self.options, 1)
        runs = [
            Run(
                f"time-T{length:04}-seed{seed}",
                {
                    "kind": "time",
                    "devices": list(chosen_devices()),
                    "length": length,
                    "seed": seed,
                    "network": to_dict(self.network),
                },
            )
            for seed in seeds
            for length in chosen_lengths(self.options)
        ]
        for seed in seeds:
            decides = identity(data_set, self._config(data_set, seed))
            runs.append(Run(f"accuracy-seed{seed}", {"kind": "accuracy", "seed": seed, **decides}))
        return runs

    def execute(self, run: Run, *, scratch: Path, progress: Progress) -> dict[str, Any]:
        """Time one length, or train a network and measure it in every precision."""
        seed = run.parameters["seed"]
        if run.parameters["kind"] == "accuracy":
            return self._accuracy(seed, scratch=scratch, progress=progress)
        length = run.parameters["length"]
        bundle = scratch / "bundle"
        if not bundle.exists():
            make_bundle(
                bundle,
                self.network.at(length),
                [("onnxruntime", precision) for precision in PRECISIONS],
                seed=seed,
                progress=progress,
            )
        jobs: dict[str, Job] = {}
        for precision in PRECISIONS:
            jobs[_key("cpu", THESIS, precision)] = pytorch_job(
                "reference", self.network, device="cpu", length=length, precision=precision, seed=seed
            )
            jobs[_key("cpu", FOLDED, precision)] = Job(
                variant="detector",
                device="cpu",
                runtime="onnxruntime",
                precision=precision,
                length=length,
                threads=1,
                bundle=str(bundle),
                seed=seed,
            )
        if "cuda" in run.parameters["devices"]:
            for way, variant in ((THESIS, "reference"), (FOLDED_CUDA, "detector")):
                jobs[_key("cuda", way, "fp32")] = pytorch_job(
                    variant, self.network, device="cuda", length=length, precision="fp32", seed=seed
                )
        # Utilization is the other study's: a given rate leaves out the matrix products.
        return {"rows": time_jobs(jobs, peak_tmacs=1.0, seed=seed, progress=progress)}

    def _accuracy(self, seed: int, *, scratch: Path, progress: Progress) -> dict[str, Any]:
        """Train a network, and give its mAP as it is, in each exported precision, and quantized by torch."""
        data_set = self._opened()
        videos = scratch / "videos.list"
        write_names(videos, training_videos(data_set))
        config = dataclasses.replace(self._config(data_set, seed), videos=str(videos))
        run, bundle = scratch / "run", scratch / "bundle"
        trained = train(config, data_set.root, run, resume=run.exists(), progress=progress).last
        checkpoint = read_checkpoint(trained)
        names = data_set.class_names
        bank = bank_for(checkpoint, names, root=data_set.root)
        subset = validation_subset(data_set)

        def average(localizer: Any) -> float:
            return evaluate_localizer(localizer, data_set, subset=subset, progress=progress).result.average_mAP

        result: dict[str, Any] = {"torch fp32": average(TorchLocalizer.of(checkpoint, class_bank=bank))}
        export_checkpoint(trained, bundle, formats=("onnx",), precisions=PRECISIONS, classes=names, text_encoder=False)
        sizes = {entry.precision: entry.bytes for entry in read_bundle(bundle).manifest.detectors}
        for precision in PRECISIONS:
            result[_key("cpu", FOLDED, precision)] = {
                "average_mAP": average(_load(bundle, precision)),
                "bytes": sizes[precision],
            }
        for precision in PRECISIONS:
            detector, encoder = copy.deepcopy((checkpoint.model, checkpoint.text_encoder))
            n_bytes = quantize_as_thesis(detector, precision)
            own_bank = bank
            if isinstance(encoder, TextEncoder):
                n_bytes += quantize_as_thesis(encoder, precision)
                with torch.no_grad():
                    embeddings = encoder(*encoder.tokenize(names)).numpy()
                own_bank = ClassBank(names, embeddings, bank.fingerprint)  # a quantized encoder has no fingerprint
            quantized = TorchLocalizer(
                detector,
                class_bank=own_bank,
                feature_contract=feature_contract(checkpoint.config, checkpoint.feature_spec),
                decode_config=checkpoint.config.decode,
            )
            result[_key("cpu", THESIS, precision)] = {"average_mAP": average(quantized), "bytes": n_bytes}
        return result

    def summarise(self, finished: Sequence[FinishedRun]) -> Summary:
        """Print times by length, the factors beside the thesis', and the change in mAP."""
        features = describe_features(self._opened())
        timed = [done for done in finished if done.run.parameters["kind"] == "time"]
        measured = [done.result for done in finished if done.run.parameters["kind"] == "accuracy"]
        seconds = _by_row(timed, lambda row: row["seconds"]["median"])
        memory = _by_row(timed, lambda row: row["peak_bytes"])
        weights = _by_row(timed, lambda row: row["model_bytes"])
        n_seeds = len({done.run.parameters["seed"] for done in timed})
        caption = (
            f"Forward pass of one video of random features, {describe_network(self.network)}; CPU rows on one thread; "
            f"medians, mean ± standard deviation over seeds ({n_seeds}); published: {THESIS_FIGURE_4}, only the "
            "GPU's two ends are printed"
        )
        factors = (
            "What int8, folding and the GPU bring: at the shortest and the longest video, and over all lengths, mean ± "
            "standard deviation; published: "
            f"{THESIS_FIGURE_4}, of which it is not said how lengths were averaged and what was weighed"
        )
        accuracy = (
            f"mAP of one trained network in each precision, closed set without score enhancement, on {features}; the "
            "thesis measured no mAP of quantized networks"
        )
        return Summary(
            title="Quantization (thesis, Figure 4 c)",
            features=features,
            tables=(
                Table("times", caption, _TIMES, tuple(_time_rows(seconds, memory, weights))),
                Table("factors", factors, _FACTORS, tuple(_factor_rows(seconds, memory, weights))),
                Table("accuracy", accuracy, _ACCURACY, tuple(_accuracy_rows(measured))),
            ),
            plots=(Plot("quantization", _PLOT_CAPTION, tuple(_panels(seconds))),),
            notes=self._notes(seconds),
        )

    def _notes(self, seconds: Mapping[tuple[str, str, str], Any]) -> tuple[str, ...]:
        notes = [
            "fp16 of torch's dynamic quantization keeps weights in fp16 and multiplies in fp32; fp16 of ONNX is a "
            "format for size and GPUs, and a CPU converts it back: neither is meant to be faster on a CPU.",
            "The thesis' factor is that of its text tower: linear layers are nearly all of that tower's time, int8 "
            "speeds them up, and the tower is nearly all of the forward pass. Folded away, it costs nothing.",
            "Peak memory is that of the whole process from its start: for the quantized text tower that includes the "
            "fp32 weights it was made from.",
        ]
        if not any(device == "cuda" for device, _, _ in seconds):
            notes.append("There is no CUDA device here, so the factor of the GPU was not measured.")
        return tuple(notes)

    def _config(self, data_set: DataSet, seed: int) -> Config:
        return training_config(data_set, dataclasses.replace(self.options, seed=seed))

    def _opened(self) -> DataSet:
        assert self._data_set is not None, "plan comes first"
        return self._data_set


def _load(bundle: Path, precision: Precision) -> Localizer:
    """Open an artifact on the CPU; that fp16 is not faster there is what the study says anyway."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PrecisionWarning)
        return load_bundle(bundle, precision=precision)


def _key(device: str, way: str, precision: str) -> str:
    return f"{device}; {way}; {precision}"


_Rows = dict[tuple[str, str, str], dict[int, list[float]]]


def _by_row(timed: Sequence[FinishedRun], value: Any) -> _Rows:
    """Collect a value by (device, way, precision), then by length, one a seed."""
    found: _Rows = {}
    for done in timed:
        for key, row in done.result["rows"].items():
            number = value(row)
            if number is not None:
                device, way, precision = key.split("; ")
                lengths = found.setdefault((device, way, precision), {})
                lengths.setdefault(int(done.run.parameters["length"]), []).append(float(number))
    return found


def _time_rows(seconds: _Rows, memory: _Rows, weights: _Rows) -> list[dict[str, Cell]]:
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


def _factor_rows(seconds: _Rows, memory: _Rows, weights: _Rows) -> list[dict[str, Cell]]:
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


def _ratios(values: _Rows, over: tuple[str, str, str], under: tuple[str, str, str]) -> list[float]:
    """Divide two rows length by length, shortest first; nothing where one was not measured."""
    if over not in values or under not in values:
        return []
    shared = sorted(set(values[over]) & set(values[under]))
    return [spread(values[over][n]).mean / spread(values[under][n]).mean for n in shared]


def _accuracy_rows(measured: Sequence[Mapping[str, Any]]) -> list[dict[str, Cell]]:
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


def _panels(seconds: _Rows) -> list[Panel]:
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


_PLOT_CAPTION = "Forward pass of one video by its length, CPU on one thread; dashed: what the thesis prints (V100S)"
_TIMES = (
    Column("way", "way"),
    Column("length", "snippets"),
    Column("seconds", "forward pass, s", 3),
    Column("megabytes", "weights, MB"),
    Column("memory", "peak memory, MB", 0),
)
_FACTORS = (
    Column("what", "factor"),
    Column("shortest", "shortest", 2),
    Column("longest", "longest", 2),
    Column("own", "mean", 2),
    Column("published", "published", 2),
)
_ACCURACY = (
    Column("way", "way"),
    Column("average_mAP", "average mAP", 2),
    Column("change", "change against torch fp32", 2),
    Column("megabytes", "weights, MB", 2),
)
