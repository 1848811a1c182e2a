"""Reduce an ONNX detector to the outputs that are read, and to one vocabulary if that saves products."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from stale_edge.bundle.onnx_graph import Graph
from stale_edge.bundle.onnx_outputs import with_outputs
from stale_edge.bundle.onnx_vocabulary import CLASSES, class_attentions, class_values
from stale_edge.runtime.onnx_session import open_session
from stale_edge.segments import FloatArray

MANY_CLASSES = 2000
"""With more classes, attention among them is computed in parts, or its K x K numbers a head would need gigabytes."""
CLASSES_AT_ONCE = 256


def reduced_model(
    path: Path, *, outputs: Sequence[str] | None, class_embeddings: FloatArray | None, threads: int
) -> Path | bytes:
    """Reduce a detector to some of its outputs, and compute the parts that depend only on the classes once, now.

    Args:
        path: an ONNX detector.
        outputs: outputs of the graph or values inside it; None: the file as it is.
        class_embeddings: (K, D) float32 of every later call; None: they may differ from call to call.
        threads: CPU threads for this computation.

    Returns:
        The file, or the bytes of a model. The model has no input `class_embeddings` if nothing reads it any more.

    Raises:
        BundleError: the file is no ONNX model, is cut short, or has no such output.
    """
    if outputs is None:
        return path
    graph = Graph(path)
    values = () if class_embeddings is None else class_values(graph, outputs)
    if class_embeddings is None or not values:
        return with_outputs(graph, outputs)
    return with_outputs(graph, outputs, constants=_computed(graph, values, class_embeddings, threads=threads))


def _computed(
    graph: Graph, values: Sequence[str], class_embeddings: FloatArray, *, threads: int
) -> dict[str, FloatArray]:
    """Compute values that depend only on the classes; memory is linear in the number of classes where they are many."""

    def run(names: Sequence[str], known: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        session = open_session(with_outputs(graph, names, constants=known), threads=threads, name=str(graph.path))
        fed = {CLASSES: class_embeddings} if session.get_inputs() else {}
        return dict(zip(names, session.run(list(names), fed), strict=True))

    known: dict[str, FloatArray] = {}
    for attention in class_attentions(graph, values) if len(class_embeddings) > MANY_CLASSES else ():
        read = run([attention.queries, attention.keys, attention.values], known)
        queries = read[attention.queries]
        parts = [
            run([attention.attended], read | {attention.queries: queries[..., first : first + CLASSES_AT_ONCE, :]})
            for first in range(0, queries.shape[-2], CLASSES_AT_ONCE)
        ]
        known[attention.attended] = np.concatenate([part[attention.attended] for part in parts], axis=-2)
    return run(values, known)
