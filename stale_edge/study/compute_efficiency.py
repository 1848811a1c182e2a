"""Time and memory of training and inference by video length: Figure 4 a, b and Table 2 of the thesis."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stale_edge.config import Config, to_dict
from stale_edge.data import DataSet
from stale_edge.model.checkpoint import read_checkpoint
from stale_edge.progress import Progress
from stale_edge.report.curves import Line, Panel
from stale_edge.study.other_systems import ACTIONFORMER, ACTIONFORMER_NOTE, actionformer_config
from stale_edge.study.public_size import public_size
from stale_edge.study.published import (
    THESIS_FIGURE_4,
    THESIS_GPU,
    THESIS_MEMORY_GB,
    THESIS_PEAK_TMACS,
    THESIS_TABLE_2,
    THESIS_TRAINED,
)
from stale_edge.study.study import (
    Cell,
    Column,
    FinishedRun,
    Plot,
    Run,
    Spread,
    StudyOptions,
    Summary,
    Table,
    spread,
)
from stale_edge.study.study_data import describe_features, open_world, training_config
from stale_edge.study.subsets import write_names
from stale_edge.study.timing import (
    chosen_devices,
    chosen_lengths,
    chosen_network,
    chosen_seeds,
    describe_network,
    network_macs,
    pytorch_job,
    time_jobs,
)
from stale_edge.study.trials import identity, run_trial, training_videos

DEFAULT_N_SEEDS = 2
STALE = "stale"
_NAMES = {STALE: "STALE", ACTIONFORMER: "ActionFormer"}
VARIANTS = {"reference": "text tower in every forward", "detector": "text tower folded away"}
"""The thesis' forward pass, and the one that a bundle holds."""
_METRICS = {
    "seconds": ("forward pass", "time, s"),
    "utilization": ("utilization", "MACs/s of the peak, %"),
    "gmacs": ("work", "GMACs"),
    "gigabytes": ("memory", "peak, GB"),
}


class ComputeEfficiency:
    """Time the public network at the thesis' lengths and seeds, on every device there is; time a training beside it.

    Args:
        options: options of the study.
        peak_tmacs: rate that utilization divides by; None: the measured rate of matrix products.
    """

    name = "compute-efficiency"

    def __init__(self, options: StudyOptions, *, peak_tmacs: float | None = None) -> None:
        self.options = options
        self.peak_tmacs = peak_tmacs
        self.network = chosen_network(options)
        self._data_set: DataSet | None = None

    def plan(self, progress: Progress) -> list[Run]:
        """List the runs: one a device, length and seed, then the trainings."""
        data_set = self._data_set = open_world(self.options, progress)
        seeds = chosen_seeds(self.options, DEFAULT_N_SEEDS)
        runs = [
            Run(
                f"time-{device}-T{length:04}-seed{seed}",
                {
                    "kind": "time",
                    "device": device,
                    "length": length,
                    "seed": seed,
                    "network": to_dict(self.network),
                    "peak_tmacs": self.peak_tmacs,
                },
            )
            for device in chosen_devices()
            for seed in seeds
            for length in chosen_lengths(self.options)
        ]
        for seed in seeds:
            for method, key in ((STALE, "train"), (ACTIONFORMER, f"train-{ACTIONFORMER}")):
                decides = identity(data_set, self._config(data_set, seed, method))
                runs.append(Run(f"{key}-seed{seed}", {"kind": "train", "method": method, "seed": seed, **decides}))
        return runs

    def execute(self, run: Run, *, scratch: Path, progress: Progress) -> dict[str, Any]:
        """Time one length, or train once."""
        if run.parameters["kind"] == "train":
            return self._train(run.parameters, scratch=scratch, progress=progress)
        length, device, seed = (run.parameters[key] for key in ("length", "device", "seed"))
        jobs = {
            variant: pytorch_job(variant, self.network, device=device, length=length, precision="fp32", seed=seed)
            for variant in VARIANTS
        }
        rows = time_jobs(jobs, peak_tmacs=self.peak_tmacs, seed=seed, progress=progress)
        return {"rows": rows, "macs": network_macs(self.network, length)}

    def _train(self, parameters: Mapping[str, Any], *, scratch: Path, progress: Progress) -> dict[str, Any]:
        data_set = self._opened()
        videos = scratch / "videos.list"
        write_names(videos, training_videos(data_set))
        config = self._config(data_set, parameters["seed"], parameters["method"])
        config = dataclasses.replace(config, videos=str(videos))
        result = run_trial(data_set, config, scores=data_set.scores, classes=None, scratch=scratch, progress=progress)
        return {**result, "parameters": trained_parameters(scratch), "epochs": config.train.epochs}

    def _config(self, data_set: DataSet, seed: int, method: str) -> Config:
        config = training_config(data_set, dataclasses.replace(self.options, seed=seed))
        return actionformer_config(config, data_set, full=self.options.full) if method == ACTIONFORMER else config

    def summarise(self, finished: Sequence[FinishedRun]) -> Summary:
        """Print own and published figures by length, and the training beside the thesis' two."""
        features = describe_features(self._opened())
        timed = [done for done in finished if done.run.parameters["kind"] == "time"]
        trained: dict[str, list[Mapping[str, Any]]] = {}
        for done in finished:
            if done.run.parameters["kind"] == "train":
                trained.setdefault(done.run.parameters["method"], []).append(done.result)
        rows = inference_rows(timed)
        caption = (
            f"Forward pass of one video of random features, fp32, {describe_network(self.network)}: medians, mean ± "
            f"standard deviation over seeds ({len({done.run.parameters['seed'] for done in timed})}); CPU rows on "
            f"one thread, utilization of {self._peak()}; memory on a CPU is that of the whole process; published: "
            f"{THESIS_FIGURE_4}, V100S, of {THESIS_PEAK_TMACS} TMACs/s, memory below {THESIS_MEMORY_GB:.0f} GB; all "
            "else there is drawn, not printed"
        )
        training_caption = (
            f"Training and size: own figures on {features}, both on the same videos for as many epochs; the own "
            f"networks are smaller than the public ones; published: {THESIS_TABLE_2}, ActivityNet v1.3 on a V100"
        )
        return Summary(
            title="Compute efficiency (thesis, Figure 4 a, b and Table 2)",
            features=features,
            tables=(
                Table("inference", caption, _INFERENCE, tuple(published_rows() + rows)),
                Table("training", training_caption, _TRAINING, tuple(self._training_rows(trained))),
            ),
            plots=(Plot("compute-efficiency", _PLOT_CAPTION, tuple(panels(rows))),),
            notes=self._notes(rows),
        )

    def _training_rows(self, trained: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Cell]]:
        size = public_size(100)
        rows: list[dict[str, Cell]] = [
            {
                "method": f"{printed.method}, published",
                "millions": printed.millions,
                "seconds": printed.seconds,
                "average_mAP": printed.average_mAP,
            }
            for printed in THESIS_TRAINED
        ]
        for name, count in (
            ("public class, counted here", size.all),
            ("of it: detector", size.detector),
            ("of it: text tower, needed once a vocabulary", size.text),
            ("of it: never read", size.never),
        ):
            rows.append({"method": name, "millions": count / 1e6})
        rows += [
            {
                "method": f"{_NAMES[method]}, {runs[0]['epochs']} epochs on {runs[0]['n_videos']} videos here, one CPU",
                "millions": runs[0]["parameters"] / 1e6,
                "seconds": spread([result["training_seconds"] for result in runs]),
                "average_mAP": None
                if runs[0]["enhanced"] is None
                else spread([result["enhanced"]["average_mAP"] for result in runs]),
                "plain": spread([result["plain"]["average_mAP"] for result in runs]),
            }
            for method, runs in trained.items()
        ]
        return rows

    def _notes(self, rows: Sequence[Mapping[str, Cell]]) -> tuple[str, ...]:
        notes = [
            "Own times are warm, in inference mode and in turns; the thesis' are of one cold call each, with gradients "
            "on, and its GPU memory counter is never set back between lengths (docs/release-findings.md).",
            "Work counts matrix products and convolutions with attention in them; the text tower's part does not "
            "depend on the length.",
            ACTIONFORMER_NOTE,
        ]
        if not any(row["device"] == "cuda" for row in rows):
            notes.append("There is no CUDA device here, so nothing of the own figures comes from a GPU.")
        return tuple(notes)

    def _peak(self) -> str:
        if self.peak_tmacs is not None:
            return f"{self.peak_tmacs} TMACs/s, as given"
        return "the fastest matrix product that took turns with them"

    def _opened(self) -> DataSet:
        assert self._data_set is not None, "plan comes first"
        return self._data_set


def trained_parameters(scratch: Path) -> int:
    """Count the parameters of the network that a trial has trained."""
    return sum(weight.numel() for weight in read_checkpoint(scratch / "run" / "last").model.parameters())


def inference_rows(timed: Sequence[FinishedRun]) -> list[dict[str, Cell]]:
    """Sum up the runs of each device, length and variant over their seeds."""
    grouped: dict[tuple[str, int, str], list[dict[str, float | None]]] = {}
    for done in timed:
        for variant, row in done.result["rows"].items():
            key = (str(done.run.parameters["device"]), int(done.run.parameters["length"]), variant)
            grouped.setdefault(key, []).append(_figures(row, done.result["macs"], variant))
    rows: list[dict[str, Cell]] = []
    for device, length, variant in sorted(grouped):
        repeats = grouped[device, length, variant]
        summed: dict[str, Cell] = {"device": device, "length": length, "variant": VARIANTS[variant]}
        for metric in _METRICS:
            values = [value for repeat in repeats if (value := repeat[metric]) is not None]
            summed[metric] = spread(values) if values else None
        rows.append(summed)
    return rows


def _figures(row: Mapping[str, Any], macs: Mapping[str, int] | None, variant: str) -> dict[str, float | None]:
    seconds = row["seconds"]["median"]
    count = None if macs is None else macs[variant]
    return {
        "seconds": seconds,
        "gmacs": None if count is None else count / 1e9,
        "utilization": None if count is None else 100 * count / seconds / row["peak_macs_per_second"],
        "gigabytes": None if row["peak_bytes"] is None else row["peak_bytes"] / 1e9,
    }


def published_rows() -> list[dict[str, Cell]]:
    """Figures of the forward pass that the thesis prints."""
    return [
        {
            "device": "V100S, published",
            "length": point.length,
            "variant": VARIANTS["reference"],
            "seconds": point.seconds,
            "utilization": point.utilization,
        }
        for point in THESIS_GPU
    ]


def panels(rows: Sequence[Mapping[str, Cell]]) -> list[Panel]:
    """Draw Figure 4 a and b: time, utilization, work and memory by length."""
    drawn = []
    for metric, (title, label) in _METRICS.items():
        lines = []
        for device, variant in dict.fromkeys((str(row["device"]), str(row["variant"])) for row in rows):
            own = [
                (float(str(row["length"])), cell)
                for row in rows
                if (row["device"], row["variant"]) == (device, variant) and isinstance(cell := row[metric], Spread)
            ]
            if own:
                x, cells = zip(*own, strict=True)
                widths = tuple(cell.std or 0.0 for cell in cells)
                lines.append(Line(f"{device}, {variant}", x, tuple(cell.mean for cell in cells), widths))
        published = [
            (point.length, value)
            for point in THESIS_GPU
            if metric in point._fields and (value := getattr(point, metric)) is not None
        ]
        if published:
            places, values = zip(*published, strict=True)
            lines.append(Line("V100S (thesis)", tuple(map(float, places)), values, published=True))
        if lines:
            drawn.append(Panel(title, "snippets", label, tuple(lines), log_y=metric == "seconds"))
    return drawn


_PLOT_CAPTION = (
    "Forward pass of one video by its length, fp32, CPU on one thread; dashed: what the thesis prints (V100S)"
)
_INFERENCE = (
    Column("device", "device"),
    Column("length", "snippets"),
    Column("variant", "forward pass"),
    Column("seconds", "time, s", 3),
    Column("gmacs", "GMACs"),
    Column("gigabytes", "memory, GB", 2),
    Column("utilization", "utilization, %"),
)
_TRAINING = (
    Column("method", "method"),
    Column("millions", "parameters, M", 2),
    Column("seconds", "training, s"),
    Column("average_mAP", "average mAP with score enhancement"),
    Column("plain", "average mAP without score enhancement"),
)
