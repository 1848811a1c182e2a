"""Detector and decoding in one graph: features of one video to segments in seconds, with standard operators only."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper

from stale_edge.bundle.manifest import TensorSpec, localizer_inputs, localizer_outputs
from stale_edge.config import DecodeSettings, FrameGrid, ModelSettings, TimeGrid
from stale_edge.decoding import decoder_of
from stale_edge.exporting.decoder.building_blocks import Decoded
from stale_edge.exporting.decoder.graph_builder import GraphBuilder
from stale_edge.exporting.decoder.paper_decoder import paper_decoder
from stale_edge.exporting.decoder.points_decoder import points_decoder
from stale_edge.exporting.decoder.release_decoder import release_decoder
from stale_edge.exporting.decoder.runs_decoder import runs_decoder
from stale_edge.exporting.graph.detector_graph import fixed_length
from stale_edge.exporting.graph.recording import check_graph
from stale_edge.exporting.graph.rewriting import drop_unused

GRAPH_DECODERS: Mapping[str, Callable[[GraphBuilder, Mapping[str, str], Any], Decoded]] = {
    "paper": lambda g, read, config: paper_decoder(g, read["class_logits"], read["masks"], config),
    "release": lambda g, read, config: release_decoder(g, read["class_logits"], read["masks"], config),
    "points": lambda g, read, config: points_decoder(g, read["class_logits"], read["offsets"], read["valid"], config),
    "runs": lambda g, read, config: runs_decoder(g, read["class_logits"], read.get("attention"), config),
}
"""Decode policy -> function that writes it as nodes, from a detector's outputs by name; segments are in snippets."""


def pipeline_graph(
    detector: onnx.ModelProto, *, model: ModelSettings, decode: DecodeSettings, grid: TimeGrid | None = None
) -> onnx.ModelProto:
    """Put the decoder behind a detector graph.

    The detector's nodes stay as they are, so its numbers do too; the decoder computes as the C++ core does, in the same
    types and order. So both find the same detections in the same order; scores and seconds are equal within float32.

    Args:
        detector: graph in any precision, with a detector's promised outputs; it is not changed.
        model: the detector's sizes.
        decode: policy, one of `GRAPH_DECODERS`, and settings; they are baked in.
        grid: position of snippets in time, baked in except its duration; None: they divide the video evenly.

    Returns:
        A graph with the inputs and outputs of `localizer_inputs` and `localizer_outputs`.

    Raises:
        ParityError: the graph differs from its contract.
    """
    merged = onnx.ModelProto()
    merged.CopyFrom(detector)
    graph = merged.graph
    first = GraphBuilder("video_")
    _read_one_video(first, graph)
    builder = GraphBuilder("decode_")
    policy, given = decoder_of(decode), {output.name for output in graph.output}
    names = [*policy.reads, *(name for name in policy.may_read if name in given)]
    read = {name: builder.op("Squeeze", name, builder.ints(0)) for name in names}
    found = GRAPH_DECODERS[decode.policy](builder, read, decode)
    segments = builder.op("Concat", *(builder.op("Unsqueeze", at, builder.ints(1)) for at in found[:2]), axis=1)
    seconds = _seconds(builder, builder.cast(segments, np.float64), grid)
    for value, name, dtype in (
        (seconds, "segments", np.float32),
        (found.scores, "scores", np.float32),
        (found.labels, "labels", np.int64),
    ):
        to = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        builder.nodes.append(helper.make_node("Cast", [value], [name], name=f"decode_{name}", to=to))
    nodes = [*first.nodes, *graph.node, *builder.nodes]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*first.initializers, *builder.initializers])
    inputs = localizer_inputs(channels=model.feature_channels, embed_dim=model.embed_dim, length=fixed_length(model))
    outputs = localizer_outputs()
    for values, specs in ((graph.input, inputs), (graph.output, outputs)):
        del values[:]
        values.extend(_value_info(spec) for spec in specs)
    del graph.value_info[:]
    drop_unused(merged)
    check_graph(merged, inputs=inputs, outputs=outputs)
    return merged


def _seconds(g: GraphBuilder, segments: str, grid: TimeGrid | None) -> str:
    """Write `stale_edge.decoding.points.grid_seconds`: (N, 2) float64, snippets to seconds within the video."""
    duration_s = g.cast("duration_s", np.float64)
    if isinstance(grid, FrameGrid):
        frames = g.op("Mul", segments, g.constant(grid.stride, np.float64))
        frames = g.op("Add", frames, g.constant(0.5 * grid.num_frames, np.float64))
        seconds = g.op("Div", frames, g.constant(grid.fps, np.float64))
    else:
        share = g.op("Div", segments, g.cast(g.dim("features", 1), np.float64))
        seconds = g.op("Mul", share, duration_s)
    return g.op("Min", g.op("Max", seconds, g.constant(0.0, np.float64)), duration_s)


def _read_one_video(g: GraphBuilder, detector: onnx.GraphProto) -> None:
    """Feed the video to the detector through a batch axis whose size is known only at run time.

    A runtime that knows that the batch is 1 chooses other kernels than for the detector's own file, and the last bits
    of the logits change. The batch size is the number of durations >= 0; the graph cannot run if there is none.
    """
    there = g.op("GreaterOrEqual", "duration_s", g.constant(0.0, np.float32))
    batch = g.op("Gather", "features", g.where_in_order(there), axis=0)
    for node in detector.node:
        node.input[:] = [batch if name == "features" else name for name in node.input]


def _value_info(spec: TensorSpec) -> onnx.ValueInfoProto:
    dtype = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
    return helper.make_tensor_value_info(spec.name, dtype, list(spec.shape))
