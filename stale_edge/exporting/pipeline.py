"""Detector files -> localizer files, features to segments in one graph, held to the decisions of detector and core."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from stale_edge.bundle import BundleWriter, localizer_inputs, localizer_outputs
from stale_edge.config import DecodeConfig, ModelSettings
from stale_edge.config.runtimes import Precision
from stale_edge.decoding import DecodedArrays, decode_arrays
from stale_edge.errors import ParityError
from stale_edge.exporting.decoder.pipeline_graph import localizer_graph
from stale_edge.exporting.formats import ArtifactFormat
from stale_edge.exporting.graph.detector_graph import fixed_length
from stale_edge.exporting.graph.recording import save_onnx
from stale_edge.exporting.parity.check import Reference
from stale_edge.exporting.parity.near_ties import outcomes
from stale_edge.progress import Progress, silent
from stale_edge.runtime.backends import open_backend
from stale_edge.runtime.onnx_session import open_session
from stale_edge.segments import FloatArray

RUNTIME = "onnxruntime"

LOCALIZER_FILES: Mapping[Precision, str] = {"fp32": "localizer-fp32.onnx", "int8": "localizer-int8.onnx"}
"""Precision of a detector in ONNX -> the localizer made from it. fp16 is for GPUs, where a loop is slow."""

ROUNDING = 1e-6
"""As a part of the largest class logit, and of a mask: how far the detector inside a localizer may be from the detector
alone, since ONNX Runtime optimizes both graphs in its own way. It decides near ties."""
MAX_SCORE_DIFFERENCE = 1e-5
MAX_SHARE_DIFFERENCE = 1e-5
"""Of a segment's ends, as parts of the video. Both leave room for float32 alone: decisions must be equal."""


@dataclass(frozen=True)
class LocalizerParity:
    """How a localizer file compares with the detector file it was made from, decoded by the C++ core.

    different: videos where a label, a segment, the order or the number of detections is another; must be empty.
    near_ties: videos where detector and core reach the localizer's detections once their numbers move by rounding.
    """

    file: str
    precision: str
    n_videos: int
    n_detections: int
    different: tuple[str, ...]
    near_ties: int
    max_score_difference: float

    @property
    def passed(self) -> bool:
        """Whether the file may be kept."""
        return not self.different

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "different": list(self.different), "passed": self.passed}


@dataclass(frozen=True)
class LocalizerFile:
    """One file of the bundle, and how it was judged."""

    detector: ArtifactFormat
    bytes: int
    parity: LocalizerParity

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "file": self.parity.file,
            "precision": self.parity.precision,
            "runtime": RUNTIME,
            "bytes": self.bytes,
            "parity": self.parity.to_json(),
        }

    def summary(self) -> str:
        """Say it in a line, for people."""
        return (
            f"{self.parity.file}: {self.bytes / 1e6:.2f} MB, all {self.parity.n_detections} detections in "
            f"{self.parity.n_videos} videos are those of {self.detector.file_name} and the C++ core"
        )


def write_localizers(
    rows: Sequence[ArtifactFormat],
    folder: Path,
    *,
    reference: Reference,
    metadata: Mapping[str, str],
    progress: Progress = silent,
) -> tuple[LocalizerFile, ...]:
    """Write and judge a localizer for each detector of a folder that can have one.

    Args:
        rows: the detectors that stand in the folder.
        folder: where they stand, and where the localizers go.
        reference: what detectors were judged by.
        metadata: what the files say of themselves; the same as of the detectors.

    Raises:
        ParityError: a localizer decides differently from its detector and the core; the videos are named.
    """
    made = []
    for row in rows:
        if row.format != "onnx" or row.precision not in LOCALIZER_FILES:
            continue
        path = folder / LOCALIZER_FILES[row.precision]
        graph = localizer_graph(
            onnx.load(folder / row.file_name), model=reference.config, decode=reference.decode_config
        )
        save_onnx(graph, path, metadata=metadata, graph_name="localizer")
        parity = judge_localizer(reference, row, folder / row.file_name, path, progress=progress)
        made.append(LocalizerFile(row, path.stat().st_size, parity))
    failed = [file.parity for file in made if not file.parity.passed]
    if failed:
        details = "; ".join(f"{parity.file} in {', '.join(parity.different[:3])}" for parity in failed)
        raise ParityError(
            f"the localizer decides differently from the detector and the C++ core; nothing was written: {details}"
        )
    return tuple(made)


def judge_localizer(
    reference: Reference, row: ArtifactFormat, detector: Path, localizer: Path, *, progress: Progress = silent
) -> LocalizerParity:
    """Run a localizer and its detector on the reference's videos and compare what they find."""
    backend = open_backend(detector, runtime=row.runtime, precision=row.precision)
    session = open_session(localizer, threads=1)
    different, n_detections, near_ties, score_difference = [], 0, 0, 0.0
    for done, (video, judged) in enumerate(zip(reference.data.videos, reference.videos, strict=True)):
        progress(f"compare {localizer.name}", done, len(reference.videos))
        outputs = backend.run(judged.features, judged.class_embeddings)
        logits, masks = outputs["class_logits"][0], outputs["masks"][0]
        feeds = {
            "features": judged.features,
            "class_embeddings": judged.class_embeddings,
            "duration_s": np.array([video.duration_s], dtype=np.float32),
        }
        segments, scores, labels = session.run(["segments", "scores", "labels"], feeds)
        found = DecodedArrays(segments / video.duration_s * judged.features.shape[1], labels, scores)

        def decoded(logits: FloatArray, masks: FloatArray) -> DecodedArrays:
            return decode_arrays(logits, masks, config=reference.decode_config)

        wanted = decoded(logits, masks)
        if not _same(found, wanted, judged.features.shape[1]):
            moved = outcomes(
                logits, masks, decoded, logits_by=ROUNDING * float(np.abs(logits).max()), masks_by=ROUNDING
            )
            other = next((one for one in moved if _same(found, one, judged.features.shape[1])), None)
            if other is None:
                different.append(video.name)
                continue
            wanted = other
            near_ties += 1
        n_detections += len(wanted.labels)
        score_difference = max(score_difference, float(np.abs(scores - wanted.scores).max(initial=0.0)))
    progress(f"compare {localizer.name}", len(reference.videos), len(reference.videos))
    return LocalizerParity(
        localizer.name,
        row.precision,
        len(reference.videos),
        n_detections,
        tuple(different),
        near_ties,
        score_difference,
    )


def _same(found: DecodedArrays, wanted: DecodedArrays, n_snippets: int) -> bool:
    """Whether labels and order are equal, and segments (in snippets) and scores but for float32's rounding."""
    return (
        np.array_equal(found.labels, wanted.labels)
        and np.allclose(found.segments / n_snippets, wanted.segments / n_snippets, rtol=0, atol=MAX_SHARE_DIFFERENCE)
        and np.allclose(found.scores, wanted.scores, rtol=0, atol=MAX_SCORE_DIFFERENCE)
    )


def add_localizers(
    writer: BundleWriter, files: Sequence[LocalizerFile], *, model: ModelSettings, decode: DecodeConfig
) -> None:
    """Announce the files to a bundle in the making, in whose folder they stand."""
    note = f"features to segments, decode policy {decode.policy} inside; batch of one video"
    for file in files:
        writer.add_file(
            file.parity.file,
            role="localizer",
            runtime=RUNTIME,
            precision=file.parity.precision,
            inputs=localizer_inputs(
                channels=model.feature_channels, embed_dim=model.embed_dim, length=fixed_length(model)
            ),
            outputs=localizer_outputs(),
            note=note,
        )
