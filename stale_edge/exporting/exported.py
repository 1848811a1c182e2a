"""One exported file: its entry in the manifest, and its parity with its source."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stale_edge.bundle import FileEntry
from stale_edge.exporting.artifact_formats import ArtifactFormat
from stale_edge.exporting.graph.rewriting import WeightCount
from stale_edge.exporting.layer_search import LayerReport
from stale_edge.exporting.parity.reference import Reference
from stale_edge.exporting.parity.result import Parity
from stale_edge.progress import Progress


@dataclass(frozen=True)
class Making:
    """Inputs shared by all steps that make files of one bundle.

    folder: folder of the unfinished bundle.
    rows: the detector files, made or still to make.
    metadata: metadata stored in every graph, keys as in `stale_edge.bundle.onnx_metadata`.
    reference: the model's outputs and detections; files are compared with them.
    """

    folder: Path
    rows: Sequence[ArtifactFormat]
    metadata: Mapping[str, str]
    reference: Reference
    progress: Progress


@dataclass(frozen=True)
class Exported:
    """A runnable file of the bundle.

    entry: its entry in the manifest.
    parity: its comparison with its source.
    row: its row of the table of formats; None if it was made from another file of the bundle or is a visual encoder.
    weights: count of weights in low precision and of all. kept_float32: modules or products kept in float32.
    layers: report of the layer search; None where nothing was searched.
    beside: entries of files that belong to it but do not run, such as a tokenizer.
    """

    entry: FileEntry
    parity: Parity
    row: ArtifactFormat | None = None
    weights: WeightCount | None = None
    kept_float32: tuple[str, ...] = ()
    layers: LayerReport | None = None
    beside: tuple[FileEntry, ...] = ()

    @property
    def low_weights(self) -> str | None:
        """Describe the weights in low precision; None in float32."""
        if self.weights is None or self.entry.precision in (None, "fp32"):
            return None
        return self.weights.text(str(self.entry.precision))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        low = None if self.low_weights is None else self.weights
        values: dict[str, Any] = {
            "file": self.entry.path,
            "precision": self.entry.precision,
            "runtime": self.entry.runtime,
            "bytes": self.entry.bytes,
            "parity": self.parity.to_json(),
        }
        if self.row is not None:
            values |= {
                "format": self.row.format,
                "weights": self.low_weights,
                "weights_low": None if low is None else low.numbers_low,
                "weights_total": None if low is None else low.numbers,
                "layers": None if self.layers is None else self.layers.to_json(),
            }
        return values

    def provenance(self) -> dict[str, Any]:
        """Describe how it was made, in plain JSON values for the manifest."""
        return {
            "how": None if self.row is None else self.row.how,
            "kept_float32": list(self.kept_float32),
            "weights": self.low_weights,
            "weight_bytes": None if self.weights is None else self.weights.stored_bytes,
        }

    def summary(self) -> str:
        """Describe the file in one line."""
        low = f", {self.low_weights}" if self.low_weights else ""
        note = f"; {self.entry.note}" if self.entry.note else ""
        return f"{self.entry.path}: {self.entry.bytes / 1e6:.2f} MB{low}{note}"
