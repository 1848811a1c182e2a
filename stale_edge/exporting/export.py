"""Checkpoint -> bundle: make every file, compare each with the model, and only then put the bundle in place."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from stale_edge.bundle import ClassBank, write_bundle
from stale_edge.bundle.encoder_copy import copy_encoder
from stale_edge.bundle.encoder_folder import ENCODER_FOLDER, EncoderBundle
from stale_edge.bundle.feature_contract import FeatureContract
from stale_edge.bundle.manifest import Role
from stale_edge.bundle.onnx_metadata import graph_metadata
from stale_edge.config import ModelSettings, to_dict
from stale_edge.config.runtimes import PRECISIONS
from stale_edge.data import read_split
from stale_edge.errors import ConfigError
from stale_edge.exporting.artifact_formats import DEFAULT_FORMATS, DEFAULT_PRECISIONS, TRITON, select_formats
from stale_edge.exporting.calibration import calibrate_on
from stale_edge.exporting.detector_exporter import DetectorExporter
from stale_edge.exporting.detector_files import make_detectors
from stale_edge.exporting.exported import Exported, Making
from stale_edge.exporting.parity.reference import Reference
from stale_edge.exporting.parity.result import parity_table, refuse_failures
from stale_edge.exporting.parity.videos import ParityData, parity_videos
from stale_edge.exporting.pipeline import make_pipelines
from stale_edge.exporting.provenance import machine, versions
from stale_edge.exporting.text_files import make_text_encoder
from stale_edge.exporting.triton import make_served_models, served_json
from stale_edge.model.checkpoint import Checkpoint, encode_classes, read_checkpoint
from stale_edge.model.text import TextEncoder
from stale_edge.model.text_sizes import text_tower_sizes
from stale_edge.progress import Progress, silent
from stale_edge.training.torch_localizer import feature_contract


@dataclass(frozen=True)
class ExportReport:
    """Files of an export and their comparison with the model.

    data: videos of the parity check; gate_margins: distances of hard decisions from their thresholds.
    files: in the order of the manifest.
    encoder: the visual encoder in the bundle; None where there is none.
    refused: files that failed the parity check and are not in the bundle.
    """

    bundle: Path
    data: ParityData
    gate_margins: dict[str, float]
    files: tuple[Exported, ...]
    encoder: EncoderBundle | None = None
    refused: tuple[Exported, ...] = ()

    @property
    def artifacts(self) -> tuple[Exported, ...]:
        """The detector files."""
        return self._of_role("detector")

    @property
    def pipelines(self) -> tuple[Exported, ...]:
        """Pipelines: files with the decoding in the graph."""
        return self._of_role("localizer")

    @property
    def served(self) -> tuple[Exported, ...]:
        """Models of the Triton repository."""
        return self._of_role("model_repository")

    @property
    def text_encoder(self) -> Exported | None:
        """The graph that encodes further classes; None where there is none."""
        return next(iter(self._of_role("text_encoder")), None)

    def parity_json(self) -> dict[str, Any]:
        """Describe every comparison, in plain JSON values for the manifest."""
        detectors = [*self.artifacts, *self._of_role("text_encoder")]
        return {
            **self._compared_on(),
            "artifacts": {file.entry.path: file.parity.to_json() for file in detectors},
            "localizers": {file.entry.path: file.parity.to_json() for file in self.pipelines},
            "triton": {model.entry.path: served_json(model) for model in self.served},
        }

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "bundle": str(self.bundle),
            **self._compared_on(),
            "artifacts": [file.to_json() for file in self.artifacts],
            "localizers": [file.to_json() for file in self.pipelines],
            "triton": [served_json(model) for model in self.served],
            "text_encoder": None if self.text_encoder is None else self.text_encoder.to_json(),
            "encoder": None if self.encoder is None else self.encoder.manifest.fingerprint,
            "refused": {file.entry.path: list(file.parity.failures) for file in self.refused},
        }

    def summary(self) -> str:
        """Describe in a few lines what was made."""
        lines = [f"{self.bundle}: compared with the model on {self.data.description}"]
        if self.data.no_truth:
            lines.append(f"  average mAP was not compared: {self.data.no_truth}")
        lines.append(parity_table(file.parity for file in (*self.files, *self.refused)))
        lines += [f"  refused {file.entry.path}: {'; '.join(file.parity.failures)}" for file in self.refused]
        lines += [f"  {file.summary()}" for file in self.files]
        lines += [f"  {file.layers.to_text()}" for file in self.files if file.layers is not None]
        if self.encoder is not None:
            lines.append(f"  {ENCODER_FOLDER}/: {self.encoder.manifest.name}, so that videos can be given as they are")
        if self.text_encoder is None:
            lines.append("  no text encoder: new classes need a class bank or the checkpoint (classes add --from)")
        return "\n".join(lines)

    def _of_role(self, role: Role) -> tuple[Exported, ...]:
        return tuple(file for file in self.files if file.entry.role == role)

    def _compared_on(self) -> dict[str, Any]:
        return {
            "data": {
                "source": self.data.source,
                "description": self.data.description,
                "videos": len(self.data.videos),
                "no_average_mAP_because": self.data.no_truth or None,
            },
            "gate_margins": self.gate_margins,
        }


def export_checkpoint(
    checkpoint: Path | str,
    out: Path | str,
    *,
    formats: Sequence[str] = DEFAULT_FORMATS,
    precisions: Sequence[str] = DEFAULT_PRECISIONS,
    classes: Path | str | Sequence[str] | None = None,
    data: Path | str | None = None,
    text_encoder: bool = True,
    encoder: Path | str | None = None,
    layer_report: bool = False,
    keep_passing: bool = False,
    progress: Progress = silent,
) -> ExportReport:
    """Export a checkpoint to a bundle, whole or not at all; an older bundle at `out` is replaced.

    Args:
        checkpoint: folder of a checkpoint.
        out: the bundle's folder.
        formats: `onnx`, `torchscript`, `pt2`; `triton`, which adds `onnx`.
        precisions: `fp32`, `fp16`, `int8`, `int8-static`; every format is written in each precision that it supports.
            Static int8 searches for the fewest products that must stay in float32.
        classes: names for the class bank, or a file with one name per line; None: the checkpoint's vocabulary.
        data: data set. Files are compared with the model on its validation videos; int8 is calibrated on its training
            videos. None: simulated videos, without mAP.
        text_encoder: write the checkpoint's text encoder too, if it has one (CLIP ViT-B/32's: 254 MB).
        encoder: folder of the visual encoder that the features came from. It is copied into the bundle, which then
            accepts videos; None: the bundle accepts features only.
        layer_report: compare int8 layer by layer, and leave as few products in float32 as parity needs.
        keep_passing: write the files that pass the parity check and leave out the others, which the report names; at
            least one detector must pass.
        progress: called with (stage, done, total).

    Raises:
        ValueError: a format or precision that is not in the table.
        CheckpointError: the checkpoint cannot be used, or cannot encode a class name.
        ConfigError: the model refuses long videos, which a file cannot do.
        DataError: the class file or the data set cannot be used.
        FeatureContractError: the data set's features, or the encoder's, are of another kind than the checkpoint's.
        BundleError: something else than a bundle is at `out`, or it cannot be written.
        ParityError: a file differs from the model by more than is allowed, with `keep_passing` every detector does;
            nothing was written.
    """
    rows = select_formats(formats, precisions)
    loaded = read_checkpoint(Path(checkpoint))
    config = loaded.config
    bank = _class_bank(loaded, classes)
    contract = feature_contract(config, loaded.feature_spec)
    _require_length(config.model, contract)
    metadata = graph_metadata(
        architecture=config.model.architecture,
        feature_contract=contract,
        decode=config.decode,
        class_names=bank.names,
    )
    with write_bundle(Path(out), overwrite=True) as writer:
        visual = None if encoder is None else copy_encoder(encoder, writer, contract=contract)
        where = None if data is None else Path(data)
        videos = parity_videos(where, loaded.model, contract=contract, bank=bank, progress=progress)
        reference = Reference(loaded.model, bank=bank, data=videos, decode_config=config.decode, progress=progress)
        rounds = any(PRECISIONS[row.precision].products == "int8" for row in rows)
        calibration = calibrate_on(where, videos, contract=contract, bank=bank) if rounds else None
        exporter = DetectorExporter(loaded.model, calibration=calibration, decode=config.decode)
        job = Making(writer.folder, rows, metadata, reference, progress)
        makers: list[Callable[[Making], tuple[Exported, ...]]] = [
            partial(make_detectors, exporter=exporter, layer_report=layer_report),
            make_pipelines,
        ]
        if TRITON in formats:
            makers.append(make_served_models)
        known = loaded.text_encoder if isinstance(loaded.text_encoder, TextEncoder) else None
        if text_encoder and known is not None:
            makers.append(partial(make_text_encoder, encoder=known))
        files: list[Exported] = []
        refused: list[Exported] = []
        for make in makers:
            made = make(job)
            failed = [file for file in made if not file.parity.passed]
            if not keep_passing or (len(failed) == len(made) and not files):
                refuse_failures([file.parity for file in made], videos.description)
            for file in failed:
                _remove(writer.folder, file)
            refused += failed
            files += [file for file in made if file.parity.passed]
            job = replace(job, rows=[row for row in job.rows if all(file.row != row for file in failed)])
        for file in files:
            for entry in (file.entry, *file.beside):
                writer.add(entry)
        report = ExportReport(Path(out), videos, reference.gate_margins, tuple(files), visual, tuple(refused))
        writer.set_class_bank(bank)
        writer.commit(
            architecture=config.model.architecture,
            feature_contract=contract,
            decode=config.decode,
            parity=report.parity_json(),
            provenance={
                "checkpoint_sha256": loaded.sha256,
                "config": to_dict(config),
                "text_encoder": None if known is None else text_tower_sizes(known, bank.names),
                "versions": versions(),
                "machine": machine(),
                "calibration": None if calibration is None else calibration.description,
                "artifacts": {file.entry.path: file.provenance() for file in files if file.row is not None},
            },
        )
    return report


def _require_length(model: ModelSettings, contract: FeatureContract) -> None:
    """Refuse a table of positions that may not be stretched: a graph cannot refuse a video that is too long for it."""
    longest, resampled = model.longest, contract.resample_to
    if longest is not None and (resampled is None or resampled > longest):
        raise ConfigError(
            f"model.interpolate_positions is off, so videos of more than {longest} snippets are refused, and an "
            "exported file cannot refuse them: train with model.interpolate_positions=true, or with "
            f"model.resampling=linear and train.n_snippets of at most {longest}"
        )


def _remove(folder: Path, file: Exported) -> None:
    """Take a refused file out of the unfinished bundle."""
    for entry in (file.entry, *file.beside):
        (folder / entry.path).unlink(missing_ok=True)


def _class_bank(checkpoint: Checkpoint, classes: Path | str | Sequence[str] | None) -> ClassBank:
    """Choose the bundle's vocabulary; names that the checkpoint's bank lacks are encoded by its text encoder."""
    if classes is None:
        return checkpoint.class_bank
    names = read_split(Path(classes)) if isinstance(classes, str | Path) else tuple(classes)
    return encode_classes(checkpoint, names)
