"""Checkpoint -> bundle: every artifact is made, judged by the parity gate, and only then written."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stale_edge.bundle import ClassBank, write_bundle
from stale_edge.bundle.encoder_copy import copy_encoder
from stale_edge.bundle.encoder_folder import ENCODER_FOLDER, EncoderBundle
from stale_edge.bundle.onnx_metadata import graph_metadata
from stale_edge.config import to_dict
from stale_edge.data import read_split
from stale_edge.errors import ParityError
from stale_edge.exporting.calibration import calibrate_on
from stale_edge.exporting.detector import DetectorExporter
from stale_edge.exporting.formats import DEFAULT_FORMATS, DEFAULT_PRECISIONS, TRITON, ArtifactFormat, select_formats
from stale_edge.exporting.graph.detector_graph import float32_modules, graph_inputs, graph_outputs
from stale_edge.exporting.graph.rewriting import WeightCount
from stale_edge.exporting.layer_search import LayerReport, search_layers
from stale_edge.exporting.parity.check import ArtifactParity, Reference, judge
from stale_edge.exporting.parity.videos import ParityData, simulated_data, validation_data
from stale_edge.exporting.pipeline import LocalizerFile, add_localizers, write_localizers
from stale_edge.exporting.provenance import machine, versions
from stale_edge.exporting.text_files import TEXT_ENCODER, add_text_files, judge_text_encoder, write_text_encoder
from stale_edge.exporting.triton import TritonModel, add_repository, write_repository
from stale_edge.model.checkpoint import Checkpoint, encode_classes, read_checkpoint
from stale_edge.model.text import TextEncoder
from stale_edge.progress import Progress, silent
from stale_edge.runtime.backends import open_backend
from stale_edge.training.evaluate import feature_contract


@dataclass(frozen=True)
class Artifact:
    """One file of the bundle and how it compares with the model.

    weights: those in low precision, of all. layers: what was found layer by layer; None where nothing was searched.
    """

    row: ArtifactFormat
    bytes: int
    weights: WeightCount
    parity: ArtifactParity
    layers: LayerReport | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        low = self.row.precision != "fp32"
        return {
            "file": self.row.file_name,
            "format": self.row.format,
            "precision": self.row.precision,
            "runtime": self.row.runtime,
            "bytes": self.bytes,
            "weights": self.weights.text(self.row.precision) if low else None,
            "weights_low": self.weights.numbers_low if low else None,
            "weights_total": self.weights.numbers,
            "parity": self.parity.to_json(),
            "layers": None if self.layers is None else self.layers.to_json(),
        }


@dataclass(frozen=True)
class ExportReport:
    """What an export made and how it was judged.

    data: what decisions were compared on; gate_margins: how near they were to the other side.
    text_encoder: the file that encodes further classes; None where there is none.
    localizers: detectors with the decoding in the graph.
    served: models of the repository for Triton.
    encoder: the visual encoder in the bundle; None where there is none.
    """

    bundle: Path
    data: ParityData
    gate_margins: dict[str, float]
    artifacts: tuple[Artifact, ...]
    text_encoder: Artifact | None = None
    localizers: tuple[LocalizerFile, ...] = ()
    served: tuple[TritonModel, ...] = ()
    encoder: EncoderBundle | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "bundle": str(self.bundle),
            **_parity_json(self.data, self.gate_margins),
            "artifacts": [artifact.to_json() for artifact in self.artifacts],
            "localizers": [file.to_json() for file in self.localizers],
            "triton": [model.to_json() for model in self.served],
            "text_encoder": None if self.text_encoder is None else self.text_encoder.to_json(),
            "encoder": None if self.encoder is None else self.encoder.manifest.fingerprint,
        }

    @property
    def judged(self) -> tuple[Artifact, ...]:
        """Every file that went through the gate."""
        return self.artifacts if self.text_encoder is None else (*self.artifacts, self.text_encoder)

    def summary(self) -> str:
        """Say in a few lines what was made, for people."""
        lines = [f"{self.bundle}: parity judged on {self.data.description}"]
        if self.data.no_truth:
            lines.append(f"  average mAP was not compared: {self.data.no_truth}")
        lines.append(_table([artifact.parity for artifact in self.judged]))
        for artifact in self.judged:
            size = f"  {artifact.row.file_name}: {artifact.bytes / 1e6:.2f} MB"
            counted = "" if artifact.row.precision == "fp32" else f", {artifact.weights.text(artifact.row.precision)}"
            note = f"; {artifact.row.note}" if artifact.row.note else ""
            lines.append(f"{size}{counted}{note}")
        lines += [f"  {artifact.layers.to_text()}" for artifact in self.artifacts if artifact.layers is not None]
        lines += [f"  {file.summary()}" for file in self.localizers]
        lines += [f"  {model.summary()}" for model in self.served]
        if self.encoder is not None:
            lines.append(f"  {ENCODER_FOLDER}/: {self.encoder.manifest.name}, so that videos can be given as they are")
        if self.text_encoder is None:
            lines.append("  no text encoder: new classes need a class bank or the checkpoint (classes add --from)")
        return "\n".join(lines)


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
    progress: Progress = silent,
) -> ExportReport:
    """Turn a checkpoint into a bundle, whole or not at all; an older bundle at `out` is replaced.

    Args:
        checkpoint: folder of a checkpoint.
        out: the bundle's folder.
        formats: `onnx`, `torchscript`, `pt2`; `triton`, which brings `onnx` along.
        precisions: `fp32`, `fp16`, `int8`, `int8-static`; every format is written in each that it comes in. Static int8
            searches for the fewest products that must stay in float32.
        classes: names for the class bank, or a file with one a line; None: the checkpoint's vocabulary.
        data: data set whose validation videos the gate decides on, and whose training videos int8 takes its ranges
            from; None: simulated videos, without mAP.
        text_encoder: write the checkpoint's text encoder too, if it has one (CLIP ViT-B/32's: 254 MB).
        encoder: folder of the visual encoder that the features came from, copied into the bundle, which then takes
            videos; None: the bundle takes features alone.
        layer_report: judge int8 layer by layer, and leave as few products in float32 as the decisions need.
        progress: called with (stage, done, total).

    Raises:
        ValueError: a format or precision that is not in the table.
        CheckpointError: the checkpoint cannot be used, or cannot encode a class name.
        DataError: the class file or the data set cannot be used.
        FeatureContractError: the data set's features, or the encoder's, are of another kind than the checkpoint's.
        BundleError: something else than a bundle is at `out`, or it cannot be written.
        ParityError: an artifact decides differently from the model; nothing was written.
    """
    rows = select_formats(formats, precisions)
    loaded = read_checkpoint(Path(checkpoint))
    config = loaded.config
    bank = _class_bank(loaded, classes)
    contract = feature_contract(config, loaded.feature_spec)
    metadata = graph_metadata(
        architecture=config.model.architecture,
        feature_contract=contract,
        decode=config.decode,
        class_names=bank.names,
    )
    with write_bundle(Path(out), overwrite=True) as writer:
        visual = None if encoder is None else copy_encoder(encoder, writer, contract=contract)
        judged_on = (
            simulated_data(loaded.model, contract=contract, bank=bank)
            if data is None
            else validation_data(Path(data), contract=contract, bank=bank, progress=progress)
        )
        reference = Reference(loaded.model, bank=bank, data=judged_on, decode_config=config.decode, progress=progress)
        rounds = any(row.precision in ("int8", "int8-static") for row in rows)
        where = None if data is None else Path(data)
        calibration = calibrate_on(where, judged_on, contract=contract, bank=bank) if rounds else None
        exporter = DetectorExporter(loaded.model, calibration=calibration)
        artifacts = []
        for done, row in enumerate(rows):
            progress("export", done, len(rows))
            path = writer.folder / row.file_name
            searched = row.precision == "int8-static" or (
                layer_report and (row.format, row.precision) == ("onnx", "int8")
            )
            layers = search_layers(exporter, row, reference, progress=progress) if searched else None
            kept = None if layers is None else layers.kept
            weights = exporter.write(row, path, metadata=metadata, keep_nodes=kept)
            parity = _judge_file(reference, row, path, progress)
            artifacts.append(Artifact(row, path.stat().st_size, weights, parity, layers))
        progress("export", len(rows), len(rows))
        text = _text_artifact(loaded, reference, writer.folder, progress) if text_encoder else None
        judged = artifacts if text is None else [*artifacts, text]
        refuse_failures([artifact.parity for artifact in judged], judged_on)
        localizers = write_localizers(rows, writer.folder, reference=reference, metadata=metadata, progress=progress)
        served: tuple[TritonModel, ...] = ()
        if TRITON in formats:
            served = write_repository(rows, writer.folder, reference=reference, metadata=metadata, progress=progress)
        report = ExportReport(
            Path(out), judged_on, reference.gate_margins, tuple(artifacts), text, localizers, served, visual
        )
        for artifact in artifacts:
            int8 = artifact.row.precision in ("int8", "int8-static")
            quantized = artifact.weights.numbers_low if int8 else None
            writer.add_file(
                artifact.row.file_name,
                role="detector",
                runtime=artifact.row.runtime,
                precision=artifact.row.precision,
                inputs=graph_inputs(config.model),
                outputs=graph_outputs(config.model),
                weights_quantized=quantized,
                weights_total=artifact.weights.numbers,
                note=artifact.row.note,
            )
        add_localizers(writer, localizers, model=config.model, decode=config.decode)
        add_repository(writer, served, config=config.model, n_classes=len(bank))
        if text is not None:
            add_text_files(writer, embed_dim=bank.width, weights=text.weights)
        writer.set_class_bank(bank)
        writer.commit(
            architecture=config.model.architecture,
            feature_contract=contract,
            decode=config.decode,
            parity={
                **_parity_json(judged_on, report.gate_margins),
                "artifacts": {artifact.row.file_name: artifact.parity.to_json() for artifact in report.judged},
                "localizers": {file.parity.file: file.parity.to_json() for file in localizers},
                "triton": {model.files[0]: model.to_json() for model in served},
            },
            provenance={
                "checkpoint_sha256": loaded.sha256,
                "config": to_dict(config),
                "versions": versions(),
                "machine": machine(),
                "calibration": None if calibration is None else calibration.description,
                "artifacts": {artifact.row.file_name: _how(artifact, exporter.model) for artifact in report.judged},
            },
        )
    return report


def refuse_failures(parities: Sequence[ArtifactParity], data: ParityData) -> None:
    """Stop an export whose artifacts decide differently.

    Raises:
        ParityError: at least one failed; all that failed are named, with what is beyond the budget.
    """
    failed = [parity for parity in parities if not parity.passed]
    if failed:
        details = "\n".join(f"  {parity.file}: {'; '.join(parity.failures)}" for parity in failed)
        raise ParityError(
            f"{len(failed)} of {len(parities)} artifacts decide differently from the checkpoint on {data.description}; "
            f"nothing was written:\n{details}\n{_table(parities)}"
        )


def _judge_file(reference: Reference, row: ArtifactFormat, path: Path, progress: Progress) -> ArtifactParity:
    """Judge an artifact through the code that will run it."""
    # Opening a TorchScript file sets the thread count of the whole process.
    threads = torch.get_num_threads()
    try:
        backend = open_backend(path, runtime=row.runtime)
        return judge(reference, backend.run, row, progress=progress)
    finally:
        torch.set_num_threads(threads)


def _text_artifact(checkpoint: Checkpoint, reference: Reference, folder: Path, progress: Progress) -> Artifact | None:
    """Write and judge the checkpoint's text encoder, if it has one that reads names."""
    encoder = checkpoint.text_encoder
    if not isinstance(encoder, TextEncoder):
        return None
    weights = write_text_encoder(encoder, folder)
    parity = judge_text_encoder(reference, encoder, folder, model=checkpoint.model, progress=progress)
    return Artifact(TEXT_ENCODER, (folder / TEXT_ENCODER.file_name).stat().st_size, weights, parity)


def _class_bank(checkpoint: Checkpoint, classes: Path | str | Sequence[str] | None) -> ClassBank:
    """Choose the bundle's vocabulary; names that the checkpoint's bank lacks are encoded by its text encoder."""
    if classes is None:
        return checkpoint.class_bank
    names = read_split(Path(classes)) if isinstance(classes, str | Path) else tuple(classes)
    return encode_classes(checkpoint, names)


def _parity_json(data: ParityData, gate_margins: dict[str, float]) -> dict[str, Any]:
    return {
        "data": {
            "source": data.source,
            "description": data.description,
            "videos": len(data.videos),
            "no_average_mAP_because": data.no_truth or None,
        },
        "gate_margins": gate_margins,
    }


def _how(artifact: Artifact, model: nn.Module) -> dict[str, Any]:
    low = artifact.row.precision != "fp32"
    layers = artifact.layers
    modules = float32_modules(model, artifact.row.precision)
    kept = modules if layers is None else [found.product.name for found in layers.findings if found.kept]
    return {
        "how": artifact.row.how,
        "kept_float32": list(kept),
        "weights": artifact.weights.text(artifact.row.precision) if low else None,
        "weight_bytes": artifact.weights.stored_bytes,
    }


def _table(parities: Sequence[ArtifactParity]) -> str:
    """Lay out what was measured beside what is allowed, one line an artifact."""
    head = ("artifact", "flipped snippets", "matched detections", "average mAP", "")
    rows = [head]
    for parity in parities:
        budget = parity.budget
        change = (
            "not measured"
            if parity.average_mAP is None or parity.model_average_mAP is None
            else f"{parity.average_mAP:.2f} ({parity.average_mAP - parity.model_average_mAP:+.2f}, "
            f"allowed {budget.max_map_change:g})"
        )
        rows.append(
            (
                parity.file,
                f"{parity.flipped_snippets} of {parity.n_snippets} (allowed {budget.max_flipped:.1%})",
                f"{parity.matched_detections:.1%} of {parity.n_detections} (at least {budget.min_matched:.1%})",
                change,
                "passed" if parity.passed else "FAILED",
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    return "\n".join(
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
