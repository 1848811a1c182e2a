"""One file that an export made: its entry in the manifest, and how it compares with what it was made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stale_edge.bundle import FileEntry
from stale_edge.exporting.formats import ArtifactFormat
from stale_edge.exporting.graph.rewriting import WeightCount
from stale_edge.exporting.layer_search import LayerReport
from stale_edge.exporting.parity.reference import Reference
from stale_edge.exporting.parity.result import Parity
from stale_edge.progress import Progress


@dataclass(frozen=True)
class Making:
    """What all that make files of one bundle need.

    folder: of the bundle in the making.
    rows: the detector files to make, or that are made already.
    metadata: what every graph says of itself, keys as in `stale_edge.bundle.onnx_metadata`.
    reference: what files are compared with.
    """

    folder: Path
    rows: Sequence[ArtifactFormat]
    metadata: Mapping[str, str]
    reference: Reference
    progress: Progress


@dataclass(frozen=True)
class Exported:
    """A file of the bundle that runs.

    entry: what the manifest says of it.
    parity: how it compares with what it was made from.
    row: how it was made; None where it was made from another file of the bundle, or is a visual encoder.
    weights: those in low precision, of all. kept_float32: modules or products that low precision leaves alone.
    layers: what was found layer by layer; None where nothing was searched.
    beside: entries of files that belong to it and do not run, such as a tokenizer.
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
        """The weights in low precision in words; None in float32."""
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
        """Say how it was made, in plain JSON values for the manifest."""
        return {
            "how": None if self.row is None else self.row.how,
            "kept_float32": list(self.kept_float32),
            "weights": self.low_weights,
            "weight_bytes": None if self.weights is None else self.weights.stored_bytes,
        }

    def summary(self) -> str:
        """Say it in a line, for people."""
        low = f", {self.low_weights}" if self.low_weights else ""
        note = f"; {self.entry.note}" if self.entry.note else ""
        return f"{self.entry.path}: {self.entry.bytes / 1e6:.2f} MB{low}{note}"
