"""A CLIP vision tower -> an encoder folder: ONNX in fp32, fp16 and int8, each judged by the parity gate first."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from stale_edge.bundle import MANIFEST_NAME, ClassBank, FileEntry
from stale_edge.bundle.encoder_folder import (
    EncoderManifest,
    encoder_inputs,
    encoder_metadata,
    encoder_outputs,
    write_encoder,
)
from stale_edge.bundle.files import sha256_of
from stale_edge.errors import ParityError
from stale_edge.exporting.graph.detector_graph import in_eval_mode
from stale_edge.exporting.graph.encoder_precision import quantize_encoder
from stale_edge.exporting.graph.precision import halve_weights
from stale_edge.exporting.graph.recording import record_onnx, save_onnx
from stale_edge.exporting.graph.rewriting import WeightCount, count_weights
from stale_edge.exporting.parity.encoder_parity import (
    MIN_COSINE,
    EncoderData,
    EncoderParity,
    encoder_data,
    judge_encoder,
)
from stale_edge.exporting.provenance import machine, versions
from stale_edge.model.vision import VisionTower, load_vision_tower
from stale_edge.progress import Progress, silent
from stale_edge.runtime.encoder import VisualEncoder
from stale_edge.segments import FloatArray

PRECISIONS = ("fp32", "fp16", "int8")
_LOW_TYPE = {"fp32": onnx.TensorProto.FLOAT, "fp16": onnx.TensorProto.FLOAT16, "int8": onnx.TensorProto.INT8}
_NOTES = {
    "fp32": "",
    "fp16": "fp16 saves size and is for GPUs; on a CPU it is no faster than fp32",
    "int8": "int8 activations are scaled per call, so a picture's feature depends a little on its batch",
}
_RECORDED_BATCH = 2


class EncoderGraph(nn.Module):
    """A vision tower with one tensor in and one out, as an encoder folder promises."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Encode (N, 3, height, width); gives (N, C)."""
        features: Tensor = self.model(pixel_values=pixel_values).image_embeds
        return features


@dataclass(frozen=True)
class EncoderReport:
    """What an export made and how it was judged."""

    out: Path
    manifest: EncoderManifest
    data: EncoderData
    parities: tuple[EncoderParity, ...]
    weights: tuple[WeightCount, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        files = [
            {
                "file": entry.path,
                "precision": entry.precision,
                "bytes": entry.bytes,
                "weights": None if entry.precision == "fp32" else count.text(str(entry.precision)),
                "parity": parity.to_json(),
            }
            for entry, parity, count in zip(self.manifest.files, self.parities, self.weights, strict=True)
        ]
        return {
            "encoder": str(self.out),
            "name": self.manifest.name,
            "fingerprint": self.manifest.fingerprint,
            "embed_dim": self.manifest.embed_dim,
            "image_size": list(self.manifest.image_size),
            "judged_on": {"pictures": self.data.pictures, "classes": self.data.classes},
            "files": files,
        }

    def summary(self) -> str:
        """Say in a few lines what was made, for people."""
        lines = [
            f"{self.out}: {self.manifest.name}, {self.manifest.embed_dim} channels, pictures of "
            f"{self.manifest.image_size[0]} x {self.manifest.image_size[1]}",
            f"  fingerprint {self.manifest.fingerprint}",
            f"  judged on {self.data.pictures}; classes: {self.data.classes}",
        ]
        for entry, parity, count in zip(self.manifest.files, self.parities, self.weights, strict=True):
            low = "" if entry.precision == "fp32" else f", {count.text(str(entry.precision))}"
            left = self.manifest.provenance["kept_float32"][entry.precision]
            low += f"; {len(left)} products stay in float32, int8 would harm them most" if left else ""
            lines += [f"  {parity.text()}", f"    {entry.bytes / 1e6:.1f} MB{low}"]
        return "\n".join(lines)


def export_encoder(
    source: str | Path | VisionTower,
    out: Path | str,
    *,
    precisions: Sequence[str] = PRECISIONS,
    bank: ClassBank | None = None,
    video: Path | None = None,
    progress: Progress = silent,
) -> EncoderReport:
    """Turn a CLIP vision tower into an encoder folder, whole or not at all; an older encoder at `out` is replaced.

    Args:
        source: as in `load_vision_tower`, or what it gave.
        out: the encoder's folder.
        precisions: `fp32`, `fp16`, `int8`.
        bank: its classes must stay told apart; None: random directions stand for classes.
        video: pictures that the gate decides on; None: simulated ones.
        progress: called with (stage, done, total).

    Raises:
        ValueError: an unknown precision, or none.
        CheckpointError: there is no such tower.
        BundleError: something else than an encoder is at `out`, or it cannot be written.
        ParityError: a file's features point elsewhere than the tower's; nothing was written.
    """
    chosen = tuple(precision for precision in PRECISIONS if precision in precisions)
    unknown = [precision for precision in precisions if precision not in PRECISIONS]
    if unknown or not chosen:
        raise ValueError(f"precisions must be some of {', '.join(PRECISIONS)}; got {', '.join(precisions) or 'none'}")
    tower = source if isinstance(source, VisionTower) else load_vision_tower(source)
    fingerprint, preprocess = tower.fingerprint(), tower.preprocess.to_json()
    signature = encoder_inputs(tower.image_size), encoder_outputs(tower.embed_dim)
    data = encoder_data(tower.preprocess, embed_dim=tower.embed_dim, video=video, bank=bank)
    with write_encoder(out) as folder, in_eval_mode(tower.model):
        progress("record the graph", 0, 1)
        plain = _record(tower)
        progress("record the graph", 1, 1)
        wanted = tower.embed(data.pixels)
        parities, counts, entries = [], [], []
        kept: dict[str, tuple[str, ...]] = {}
        for done, precision in enumerate(chosen):
            progress("export", done, len(chosen))
            path = folder / f"encoder-{precision}.onnx"
            made, kept[precision] = _in_precision(plain, precision, data, wanted, progress)
            save_onnx(
                made,
                path,
                metadata=encoder_metadata(fingerprint, preprocess),
                graph_name="visual_encoder",
            )
            count = count_weights(onnx.load(path).graph, _LOW_TYPE[precision])
            entries.append(
                FileEntry(
                    path=path.name,
                    sha256=sha256_of(path),
                    bytes=path.stat().st_size,
                    role="visual_encoder",
                    runtime="onnxruntime",
                    precision=precision,
                    inputs=signature[0],
                    outputs=signature[1],
                    weights_quantized=count.numbers_low if precision == "int8" else None,
                    weights_total=count.numbers,
                    note=_NOTES[precision],
                )
            )
            manifest = EncoderManifest(
                tower.name, tower.embed_dim, tower.image_size, fingerprint, preprocess, tuple(entries)
            )
            encoder = VisualEncoder(manifest, path, precision=precision)
            parities.append(judge_encoder(data, wanted, encoder.embed, file=path.name, precision=precision))
            counts.append(count)
        progress("export", len(chosen), len(chosen))
        _refuse_failures(parities, data)
        manifest = EncoderManifest(
            tower.name,
            tower.embed_dim,
            tower.image_size,
            fingerprint,
            preprocess,
            tuple(entries),
            parity={
                "pictures": data.pictures,
                "classes": data.classes,
                "files": {parity.file: parity.to_json() for parity in parities},
            },
            provenance={
                "source": tower.name,
                "versions": versions(),
                "machine": machine(),
                "kept_float32": {precision: list(names) for precision, names in kept.items()},
            },
        )
        (folder / MANIFEST_NAME).write_text(manifest.to_text(), encoding="utf-8")
    return EncoderReport(Path(out), manifest, data, tuple(parities), tuple(counts))


def _record(tower: VisionTower) -> onnx.ModelProto:
    height, width = tower.image_size
    return record_onnx(
        EncoderGraph(tower.model),
        (torch.zeros(_RECORDED_BATCH, 3, height, width),),
        inputs=encoder_inputs(tower.image_size),
        outputs=encoder_outputs(tower.embed_dim),
        dynamic_shapes=({0: torch.export.Dim("N")},),
    )


def _in_precision(
    proto: onnx.ModelProto, precision: str, data: EncoderData, wanted: FloatArray, progress: Progress
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Make the graph of a precision; returns it with the names of products left in float32."""
    if precision == "fp16":
        return halve_weights(proto), ()
    if precision == "int8":
        # Tried on every second picture; the gate judges on all.
        made = quantize_encoder(proto, data.pixels[::2], wanted[::2], min_cosine=MIN_COSINE["int8"], progress=progress)
        return made.proto, made.kept
    return proto, ()


def _refuse_failures(parities: Sequence[EncoderParity], data: EncoderData) -> None:
    failed = [parity for parity in parities if not parity.passed]
    if failed:
        details = "; ".join(f"{parity.file}: {'; '.join(parity.failures)}" for parity in failed)
        raise ParityError(
            f"{len(failed)} of {len(parities)} encoder files do not see what the tower sees on {data.pictures}; "
            f"nothing was written: {details}"
        )
