"""Detector files -> pipelines: features to segments in one graph, with the same detections as detector and C++ core."""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from stale_edge.bundle import localizer_inputs, localizer_outputs
from stale_edge.bundle.writer import describe_file
from stale_edge.config.runtimes import PRECISIONS, Precision
from stale_edge.decoding import DecodedArrays, decoder_of, grid_seconds
from stale_edge.exporting.artifact_formats import ArtifactFormat
from stale_edge.exporting.decoder.pipeline_graph import GRAPH_DECODERS, pipeline_graph
from stale_edge.exporting.exported import Exported, Making
from stale_edge.exporting.graph.detector_graph import fixed_length
from stale_edge.exporting.graph.recording import save_onnx
from stale_edge.exporting.parity.near_ties import outcomes
from stale_edge.exporting.parity.reference import Reference
from stale_edge.exporting.parity.result import Budget, Parity
from stale_edge.progress import Progress, silent
from stale_edge.runtime.backends import open_backend
from stale_edge.runtime.contract import time_grid
from stale_edge.runtime.onnx_session import open_session
from stale_edge.segments import FloatArray

RUNTIME = "onnxruntime"

PIPELINE_FILES: Mapping[Precision, str] = {"fp32": "localizer-fp32.onnx", "int8": "localizer-int8.onnx"}
"""Precision of an ONNX detector -> file name of its pipeline. No fp16: it is for GPUs, where a loop is slow."""

ROUNDING = 1e-6
"""Largest difference between the outputs of the detector inside a pipeline and alone, relative to the largest number
of an output (at least 1). ONNX Runtime optimizes the two graphs differently. Near ties are defined by this value."""
MAX_SCORE_DIFFERENCE = 1e-5
MAX_SHARE_DIFFERENCE = 1e-5
"""Largest difference of a segment's ends, as a share of the video. These two limits only allow float32 rounding:
decisions must be equal."""
BUDGET = Budget(None, MAX_SCORE_DIFFERENCE, max_flipped=0.0, min_matched=1.0, max_map_loss=0.0)


def make_pipelines(job: Making) -> tuple[Exported, ...]:
    """Write and compare a pipeline for each detector of the folder that can have one.

    A decode policy without a graph gets no pipeline; its detectors are decoded outside the graph.
    """
    made: list[Exported] = []
    if job.reference.decode_config.policy not in GRAPH_DECODERS:
        return ()
    for row in job.rows:
        if row.format != "onnx" or row.precision not in PIPELINE_FILES:
            continue
        name, config, decode = PIPELINE_FILES[row.precision], job.reference.config, job.reference.decode_config
        grid = time_grid(job.reference.data.contract, duration_s=1.0)
        graph = pipeline_graph(onnx.load(job.folder / row.file_name), model=config, decode=decode, grid=grid)
        save_onnx(graph, job.folder / name, metadata=job.metadata, graph_name="localizer")
        entry = describe_file(
            job.folder,
            name,
            role="localizer",
            runtime=RUNTIME,
            precision=row.precision,
            inputs=localizer_inputs(
                channels=config.feature_channels, embed_dim=config.embed_dim, length=fixed_length(config)
            ),
            outputs=localizer_outputs(),
            note=f"features to segments, decode policy {decode.policy} inside; batch of one video",
        )
        parity = compare_pipeline(
            job.reference, row, job.folder / row.file_name, job.folder / name, progress=job.progress
        )
        made.append(Exported(entry, parity))
    return tuple(made)


def compare_pipeline(
    reference: Reference, row: ArtifactFormat, detector: Path, pipeline: Path, *, progress: Progress = silent
) -> Parity:
    """Run a pipeline and its detector on the reference's videos and compare their detections.

    A video is `different` if a label, a segment, the order or the number of detections differs from the detector
    decoded by the C++ core. It is a near tie if the core finds the pipeline's detections after the detector's outputs
    move by rounding. In int8, a difference in the last bit before numbers are rounded to 8 bits may move them by a
    whole step there: then it is a near tie if the core finds the pipeline's detections in the outputs of the network
    inside the pipeline.
    """
    backend = open_backend(detector, runtime=row.runtime, precision=row.precision)
    session = open_session(pipeline, threads=1)
    rounds = PRECISIONS[row.precision].products == "int8"
    inside = functools.cache(lambda: _network_inside(pipeline, reference.decoded))

    decoder, config = decoder_of(reference.decode_config), reference.decode_config

    def decoded(outputs: Mapping[str, FloatArray], duration_s: float) -> DecodedArrays:
        """Decode with the core; segments in seconds."""
        found = decoder.detections(outputs, config)
        grid = time_grid(reference.data.contract, duration_s=duration_s)
        seconds = grid_seconds(found.segments, grid, n_points=decoder.n_snippets(outputs, config))
        return found._replace(segments=seconds)

    different, n_detections, n_equal, near_ties, score_difference = [], 0, 0, 0, 0.0
    for done, (video, batch) in enumerate(zip(reference.data.videos, reference.videos, strict=True)):
        progress(f"compare {pipeline.name}", done, len(reference.videos))
        outputs = {name: values[0] for name, values in backend.run(batch.features, batch.class_embeddings).items()}
        feeds = {
            "features": batch.features,
            "class_embeddings": batch.class_embeddings,
            "duration_s": np.array([video.duration_s], dtype=np.float32),
        }
        segments, scores, labels = session.run(["segments", "scores", "labels"], feeds)
        found = DecodedArrays(segments.astype(np.float64), labels, scores)

        wanted = decoded(outputs, video.duration_s)
        n_detections += len(wanted.labels)
        if not _same(found, wanted, video.duration_s):
            by = {name: ROUNDING * max(1.0, float(np.abs(outputs[name]).max())) for name in reference.decoded}
            moved = itertools.chain(outcomes(outputs, by=by), (inside()(feeds) for _ in range(rounds)))
            others = (decoded(near, video.duration_s) for near in moved)
            other = next((one for one in others if _same(found, one, video.duration_s)), None)
            if other is None:
                different.append(video.name)
                continue
            n_detections += len(other.labels) - len(wanted.labels)
            wanted = other
            near_ties += 1
        n_equal += len(wanted.labels)
        score_difference = max(score_difference, float(np.abs(scores - wanted.scores).max(initial=0.0)))
    progress(f"compare {pipeline.name}", len(reference.videos), len(reference.videos))
    return Parity(
        file=pipeline.name,
        precision=row.precision,
        budget=BUDGET,
        n_videos=len(reference.videos),
        different=tuple(different),
        n_detections=n_detections,
        matched_detections=n_equal / n_detections if n_detections else 1.0,
        max_score_difference=score_difference,
        near_ties=near_ties,
    ).checked()


def _network_inside(pipeline: Path, names: Sequence[str]) -> Callable[[Mapping[str, Any]], dict[str, FloatArray]]:
    """Give a function that runs a pipeline and returns the outputs of the network in it, of one video, by name."""
    graph = onnx.load(pipeline)
    graph.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    session = open_session(graph.SerializeToString(), threads=1)

    def run(feeds: Mapping[str, Any]) -> dict[str, FloatArray]:
        return {name: value[0] for name, value in zip(names, session.run(list(names), feeds), strict=True)}

    return run


def _same(found: DecodedArrays, wanted: DecodedArrays, duration_s: float) -> bool:
    """Check that labels and order are equal, and segments (in seconds) and scores within float32 rounding."""
    return (
        np.array_equal(found.labels, wanted.labels)
        and np.allclose(found.segments / duration_s, wanted.segments / duration_s, rtol=0, atol=MAX_SHARE_DIFFERENCE)
        and np.allclose(found.scores, wanted.scores, rtol=0, atol=MAX_SCORE_DIFFERENCE)
    )
