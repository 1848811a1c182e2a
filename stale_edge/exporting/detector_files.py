"""Detector files of a bundle: each row of the table of formats is written, then compared with the model."""

import torch

from stale_edge.bundle.writer import describe_file
from stale_edge.config.runtimes import PRECISIONS
from stale_edge.exporting.artifact_formats import ArtifactFormat
from stale_edge.exporting.detector_exporter import DetectorExporter
from stale_edge.exporting.exported import Exported, Making
from stale_edge.exporting.graph.detector_graph import float32_modules
from stale_edge.exporting.layer_search import search_layers
from stale_edge.exporting.parity.compare import compare_with_model
from stale_edge.exporting.parity.result import Parity
from stale_edge.runtime.backends import open_backend


def make_detectors(job: Making, exporter: DetectorExporter, *, layer_report: bool) -> tuple[Exported, ...]:
    """Write and compare every detector file.

    Args:
        exporter: exporter of the same model as `job.reference`.
        layer_report: search dynamic int8 layer by layer, as static int8 always is.
    """
    made = []
    for done, row in enumerate(job.rows):
        job.progress("export", done, len(job.rows))
        made.append(_make_detector(job, exporter, row, searched=_is_searched(row, layer_report)))
    job.progress("export", len(job.rows), len(job.rows))
    return tuple(made)


def _is_searched(row: ArtifactFormat, layer_report: bool) -> bool:
    return row.precision == "int8-static" or (layer_report and (row.format, row.precision) == ("onnx", "int8"))


def _make_detector(job: Making, exporter: DetectorExporter, row: ArtifactFormat, *, searched: bool) -> Exported:
    layers = search_layers(exporter, row, job.reference, progress=job.progress) if searched else None
    weights = exporter.write(
        row,
        job.folder / row.file_name,
        metadata=job.metadata,
        keep_nodes=None if layers is None else layers.kept,
    )
    entry = describe_file(
        job.folder,
        row.file_name,
        role="detector",
        runtime=row.runtime,
        precision=row.precision,
        inputs=exporter.inputs,
        outputs=exporter.outputs,
        weights_quantized=weights.numbers_low if PRECISIONS[row.precision].products == "int8" else None,
        weights_total=weights.numbers,
        note=row.note,
    )
    kept = (
        float32_modules(exporter.model, row.precision)
        if layers is None
        else tuple(found.product.name for found in layers.findings if found.kept)
    )
    return Exported(entry, _compare_file(job, row), row, weights, kept, layers)


def _compare_file(job: Making, row: ArtifactFormat) -> Parity:
    """Compare a file with the model, run by the same code as on a device."""
    # Opening a TorchScript file changes the thread count of the whole process, so it is restored.
    threads = torch.get_num_threads()
    try:
        names = list(job.reference.videos[0].outputs)
        run = open_backend(job.folder / row.file_name, runtime=row.runtime, names=names).run
        return compare_with_model(
            job.reference, run, file=row.file_name, precision=row.precision, progress=job.progress
        )
    finally:
        torch.set_num_threads(threads)
