"""How lower precision changes time, size and mAP, and the source of the thesis' factor: its Figure 4 c."""

import copy
import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from stale_edge.benchmarking.jobs import Job
from stale_edge.benchmarking.torch_rows.made_bundles import make_bundle
from stale_edge.benchmarking.torch_rows.thesis_reference import quantize_as_thesis
from stale_edge.bundle import ClassBank, read_bundle
from stale_edge.config import Config, Precision, to_dict
from stale_edge.data import DataSet
from stale_edge.exporting import export_checkpoint
from stale_edge.model.checkpoint import read_checkpoint
from stale_edge.model.text import TextEncoder
from stale_edge.progress import Progress
from stale_edge.runtime.base import BaseLocalizer
from stale_edge.runtime.evaluate import EvaluationSettings, evaluate_localizer
from stale_edge.runtime.loading import PrecisionWarning, load_bundle
from stale_edge.study.published import (
    THESIS_FIGURE_4,
)
from stale_edge.study.quantization_tables import (
    ACCURACY,
    FACTORS,
    FOLDED,
    FOLDED_CUDA,
    PLOT_CAPTION,
    THESIS,
    TIMES,
    accuracy_rows,
    by_row,
    factor_rows,
    panels_of,
    row_key,
    time_rows,
)
from stale_edge.study.study import (
    FinishedRun,
    Plot,
    Run,
    StudyOptions,
    Summary,
    Table,
)
from stale_edge.study.study_data import describe_features, open_world, training_config
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
from stale_edge.training import TorchLocalizer, train
from stale_edge.training.class_sources import bank_for
from stale_edge.training.torch_localizer import feature_contract

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")


class Quantization:
    """Time every precision at the thesis' lengths on one CPU thread, and fp32 on CUDA where there is one; measure mAP.

    Args:
        options: options of the study.
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
            jobs[row_key("cpu", THESIS, precision)] = pytorch_job(
                "reference", self.network, device="cpu", length=length, precision=precision, seed=seed
            )
            jobs[row_key("cpu", FOLDED, precision)] = Job(
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
                jobs[row_key("cuda", way, "fp32")] = pytorch_job(
                    variant, self.network, device="cuda", length=length, precision="fp32", seed=seed
                )
        # The other study measures utilization; a given rate skips the matrix products.
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
            report = evaluate_localizer(localizer, data_set, settings=EvaluationSettings(subset), progress=progress)
            return report.result.average_mAP

        result: dict[str, Any] = {"torch fp32": average(TorchLocalizer.of(checkpoint, class_bank=bank))}
        export_checkpoint(trained, bundle, formats=("onnx",), precisions=PRECISIONS, classes=names, text_encoder=False)
        sizes = {entry.precision: entry.bytes for entry in read_bundle(bundle).manifest.detectors}
        for precision in PRECISIONS:
            result[row_key("cpu", FOLDED, precision)] = {
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
            result[row_key("cpu", THESIS, precision)] = {"average_mAP": average(quantized), "bytes": n_bytes}
        return result

    def summarise(self, finished: Sequence[FinishedRun]) -> Summary:
        """Print times by length, the factors beside the thesis', and the change in mAP."""
        features = describe_features(self._opened())
        timed = [done for done in finished if done.run.parameters["kind"] == "time"]
        measured = [done.result for done in finished if done.run.parameters["kind"] == "accuracy"]
        seconds = by_row(timed, lambda row: row["seconds"]["median"])
        memory = by_row(timed, lambda row: row["peak_bytes"])
        weights = by_row(timed, lambda row: row["model_bytes"])
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
                Table("times", caption, TIMES, tuple(time_rows(seconds, memory, weights))),
                Table("factors", factors, FACTORS, tuple(factor_rows(seconds, memory, weights))),
                Table("accuracy", accuracy, ACCURACY, tuple(accuracy_rows(measured))),
            ),
            plots=(Plot("quantization", PLOT_CAPTION, tuple(panels_of(seconds))),),
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


def _load(bundle: Path, precision: Precision) -> BaseLocalizer:
    """Open a file on the CPU without the warning that fp16 is slow there, which the study measures."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PrecisionWarning)
        return load_bundle(bundle, precision=precision)
