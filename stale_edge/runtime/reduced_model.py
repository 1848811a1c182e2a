"""Reduce an ONNX detector to the outputs that are read, and to one vocabulary if that saves products."""

from collections.abc import Sequence
from pathlib import Path

from stale_edge.bundle.onnx_graph import Graph
from stale_edge.bundle.onnx_outputs import with_outputs
from stale_edge.bundle.onnx_vocabulary import CLASSES, class_values
from stale_edge.runtime.onnx_session import open_session
from stale_edge.segments import FloatArray


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
    if not values:
        return with_outputs(graph, outputs)
    session = open_session(with_outputs(graph, values), threads=threads, name=str(path))
    computed = session.run(list(values), {CLASSES: class_embeddings})
    return with_outputs(graph, outputs, constants=dict(zip(values, computed, strict=True)))
