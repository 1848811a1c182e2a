"""A vision tower -> an encoder folder: ONNX files, each compared with the tower as devices run them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import torch

from stale_edge.bundle import MANIFEST_NAME, ClassBank, FileEntry
from stale_edge.bundle.encoder_folder import (
    EncoderManifest,
    encoder_inputs,
    encoder_metadata,
    encoder_outputs,
    write_encoder,
)
from stale_edge.bundle.writer import describe_file
from stale_edge.config.runtimes import PRECISIONS as NUMBERS
from stale_edge.errors import ConfigError, ParityError
from stale_edge.exporting.compared_engines import ComparedEngine, compare_engines
from stale_edge.exporting.exported import Exported
from stale_edge.exporting.graph.channel_balance import balance_channels
from stale_edge.exporting.graph.detector_graph import in_eval_mode
from stale_edge.exporting.graph.encoder_precision import StaticQuantizer, has_products, quantize_encoder
from stale_edge.exporting.graph.precision import halve_weights
from stale_edge.exporting.graph.recording import record_onnx, save_onnx
from stale_edge.exporting.graph.rewriting import count_weights
from stale_edge.exporting.parity.encoder_decoding import decode_video
from stale_edge.exporting.parity.encoder_parity import (
    MIN_COSINE,
    EncoderData,
    compare_encoder,
    encoder_data,
    encoder_parity_json,
    encoder_parity_text,
)
from stale_edge.exporting.parity.result import Parity
from stale_edge.exporting.provenance import machine, versions
from stale_edge.model.vision import VisionTower, load_vision_tower
from stale_edge.progress import Progress, silent
from stale_edge.runtime.encoder_engines import EncoderRun
from stale_edge.runtime.visual_encoder import VisualEncoder
from stale_edge.segments import FloatArray

PRECISIONS = ("fp32", "fp16", "int8", "int8-static", "bf16", "int8-bf16")
"""The last two have no file of their own: OpenVINO runs those of fp32 and int8-static so."""
_LOW_TYPE = {
    "fp32": onnx.TensorProto.FLOAT,
    "fp16": onnx.TensorProto.FLOAT16,
    "int8": onnx.TensorProto.INT8,
    "int8-static": onnx.TensorProto.INT8,
}
_NOTES = {
    "fp32": "",
    "int8-static": "int8 with the ranges of activations measured at export; fastest in OpenVINO",
    "fp16": "fp16 saves size and is for GPUs; on a CPU it is no faster than fp32",
    "int8": "int8 activations are scaled per call, so a picture's feature depends a little on its batch",
}
_RECORDED_BATCH = 2


@dataclass(frozen=True)
class EncoderReport:
    """Files of an export and their comparison with the tower."""

    out: Path
    manifest: EncoderManifest
    data: EncoderData
    files: tuple[Exported, ...]
    engines: tuple[ComparedEngine, ...] = ()
    """OpenVINO's runs of these files."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        files = [
            {
                "file": file.entry.path,
                "precision": file.entry.precision,
                "bytes": file.entry.bytes,
                "weights": file.low_weights,
                "parity": encoder_parity_json(file.parity),
            }
            for file in self.files
        ]
        return {
            "encoder": str(self.out),
            "name": self.manifest.name,
            "fingerprint": self.manifest.fingerprint,
            "licence": self.manifest.provenance["licence"],
            "description": self.manifest.description,
            "embed_dim": self.manifest.embed_dim,
            "image_size": list(self.manifest.image_size),
            "judged_on": {"pictures": self.data.pictures, "classes": self.data.classes},
            "files": files,
            "engines": [engine.to_json() for engine in self.engines],
        }

    def summary(self) -> str:
        """Describe in a few lines what was made."""
        lines = [
            f"{self.out}: {self.manifest.name}, {self.manifest.embed_dim} channels, pictures of "
            f"{self.manifest.image_size[0]} x {self.manifest.image_size[1]}",
            f"  licence of the weights: {self.manifest.provenance['licence'] or 'not stated'}",
            f"  fingerprint {self.manifest.fingerprint}",
            f"  compared on {self.data.pictures}; classes: {self.data.classes}",
        ]
        for file in self.files:
            low = f", {file.low_weights}" if file.low_weights else ""
            n_kept = len(file.kept_float32)
            low += f"; {n_kept} products stay in float32, int8 would harm them most" if n_kept else ""
            lines += [f"  {encoder_parity_text(file.parity)}", f"    {file.entry.bytes / 1e6:.1f} MB{low}"]
        lines += [f"  {engine.to_text()}" for engine in self.engines]
        return "\n".join(lines)


def export_encoder(
    source: str | Path | VisionTower,
    out: Path | str,
    *,
    precisions: Sequence[str] = PRECISIONS,
    bank: ClassBank | None = None,
    video: Path | None = None,
    detector: Path | None = None,
    progress: Progress = silent,
) -> EncoderReport:
    """Export a CLIP vision tower to an encoder folder, whole or not at all; an older encoder at `out` is replaced.

    Args:
        source: as in `load_vision_tower`, or the tower that it returned.
        out: the encoder's folder.
        precisions: some of `PRECISIONS`. OpenVINO, where it is installed, is compared in each of them that it runs; one
            that fails there is named in the manifest, and `load_encoder` refuses it.
        bank: the likeliest of its classes is compared for each picture; None: random directions replace classes.
        video: source of the compared pictures; None: they are simulated.
        detector: a bundle trained on this tower's features: each file must find its detections in the video again.
            None: files are compared by their features alone.
        progress: called with (stage, done, total).

    Raises:
        ValueError: an unknown precision, or none; or a detector without a video.
        FeatureContractError: the detector was trained on features of another encoder.
        CheckpointError: there is no such tower.
        BundleError: something else than an encoder is at `out`, or it cannot be written.
        ParityError: a file's features have another direction than the tower's; nothing was written.
    """
    chosen = tuple(precision for precision in PRECISIONS if precision in precisions)
    unknown = [precision for precision in precisions if precision not in PRECISIONS]
    if unknown or not chosen:
        raise ValueError(f"precisions must be some of {', '.join(PRECISIONS)}; got {', '.join(precisions) or 'none'}")
    tower = source if isinstance(source, VisionTower) else load_vision_tower(source)
    metadata = encoder_metadata(tower.fingerprint(), tower.preprocess.to_json())
    data = encoder_data(tower.preprocess, embed_dim=tower.embed_dim, video=video, bank=bank)
    if detector is not None:
        if video is None:
            raise ValueError("a detector compares files on a video; got no video")
        data = replace(data, decoded=decode_video(detector, video, tower))
    stored = tuple(dict.fromkeys(NUMBERS[precision].file for precision in chosen))
    with write_encoder(out) as folder, in_eval_mode(tower.model):
        progress("record the graph", 0, 1)
        plain = _record(tower)
        progress("record the graph", 1, 1)
        wanted = tower.embed(data.pixels)
        files: list[Exported] = []
        for done, precision in enumerate(stored):
            progress("export", done, len(stored))
            made, kept = _in_precision(plain, precision, data, wanted, progress)
            name = f"encoder-{precision}.onnx"
            save_onnx(made, folder / name, metadata=metadata, graph_name="visual_encoder")
            files.append(_compared_file(tower, data, wanted, folder / name, precision=precision, kept=kept))
        progress("export", len(stored), len(stored))
        _refuse_failures([file.parity for file in files], data)
        entries = {str(file.entry.precision): file.entry for file in files}
        engines = compare_engines(
            _manifest(tower, list(entries.values())), folder, chosen, data, wanted, progress=progress
        )
        manifest = _manifest(
            tower,
            [file.entry for file in files],
            parity={
                "pictures": data.pictures,
                "classes": data.classes,
                "files": {file.entry.path: encoder_parity_json(file.parity) for file in files},
                "engines": [engine.to_json() for engine in engines],
            },
            provenance={
                "source": tower.name,
                "licence": tower.licence,
                "versions": versions(),
                "machine": machine(),
                "kept_float32": {str(file.entry.precision): list(file.kept_float32) for file in files},
            },
        )
        (folder / MANIFEST_NAME).write_text(manifest.to_text(), encoding="utf-8")
    return EncoderReport(Path(out), manifest, data, tuple(files), engines)


def _manifest(tower: VisionTower, files: Sequence[FileEntry], **findings: dict[str, Any]) -> EncoderManifest:
    return EncoderManifest(
        tower.name,
        tower.embed_dim,
        tower.image_size,
        tower.fingerprint(),
        tower.preprocess.to_json(),
        tuple(files),
        description={key: value for key, value in vars(tower.description).items() if key != "preprocess"},
        **findings,
    )


def _compared_file(
    tower: VisionTower, data: EncoderData, wanted: FloatArray, path: Path, *, precision: str, kept: tuple[str, ...]
) -> Exported:
    """Describe a written file, and compare it with the tower, run by the same code as on a device."""
    weights = count_weights(onnx.load(path).graph, _LOW_TYPE[precision])
    entry = describe_file(
        path.parent,
        path.name,
        role="visual_encoder",
        runtime="onnxruntime",
        precision=precision,
        inputs=encoder_inputs(tower.image_size),
        outputs=encoder_outputs(tower.embed_dim),
        weights_quantized=weights.numbers_low if precision in ("int8", "int8-static") else None,
        weights_total=weights.numbers,
        note=_NOTES[precision],
    )
    run = VisualEncoder(_manifest(tower, [entry]), path, EncoderRun(precision=precision)).embed
    parity = compare_encoder(data, wanted, run, file=path.name, precision=precision)
    return Exported(entry, parity, weights=weights, kept_float32=kept)


def _record(tower: VisionTower) -> onnx.ModelProto:
    height, width = tower.image_size
    return record_onnx(
        tower.image_side,
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
    if precision in ("int8", "int8-static"):
        # The search and the ranges use every second picture; the parity check uses all.
        if not has_products(proto):
            raise ConfigError(
                f"precision {precision} quantizes matrix products, and this network has none with weights: export it "
                "with --precisions fp32"
            )
        pixels = data.pixels[::2]
        balanced = balance_channels(proto, pixels)
        made = quantize_encoder(
            balanced,
            pixels,
            wanted[::2],
            min_cosine=MIN_COSINE[precision],
            quantizer=StaticQuantizer(balanced, pixels) if precision == "int8-static" else None,
            progress=progress,
        )
        return made.proto, made.kept
    return proto, ()


def _refuse_failures(parities: Sequence[Parity], data: EncoderData) -> None:
    failed = [parity for parity in parities if not parity.passed]
    if failed:
        details = "; ".join(f"{parity.file}: {'; '.join(parity.failures)}" for parity in failed)
        raise ParityError(
            f"{len(failed)} of {len(parities)} encoder files give other features than the tower on {data.pictures}; "
            f"nothing was written: {details}"
        )
