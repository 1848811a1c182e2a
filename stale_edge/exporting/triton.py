"""A model repository for NVIDIA's Triton Inference Server: detectors that batch the requests of many clients.

Dynamic batching joins requests along the first axis of every input, but class embeddings have no axis for videos. So
the class bank is inside these graphs, and `features` is their only input.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

from stale_edge.bundle import ClassBank, TensorSpec
from stale_edge.bundle.writer import describe_file
from stale_edge.config import ModelSettings
from stale_edge.exporting.artifact_formats import TRITON_PRECISIONS
from stale_edge.exporting.exported import Exported, Making
from stale_edge.exporting.graph.detector_graph import graph_inputs, output_specs, with_sizes
from stale_edge.exporting.graph.recording import check_graph, save_onnx
from stale_edge.exporting.graph.rewriting import drop_unused
from stale_edge.exporting.parity.compare import compare_detections
from stale_edge.exporting.parity.reference import Reference
from stale_edge.runtime.onnx_session import open_session
from stale_edge.segments import Detection

RUNTIME = "triton"
REPOSITORY = "triton"
"""Folder of the bundle to pass to the server as `--model-repository`."""

MAX_BATCH = 32
MAX_QUEUE_DELAY_US = 2000
"""Longest wait for other requests to fill a batch, in microseconds: short compared with a forward pass."""

_TYPES = {"float32": "TYPE_FP32"}


def make_served_models(job: Making) -> tuple[Exported, ...]:
    """Write a model for the server from each ONNX detector of the folder that can have one, and compare it.

    The repository is the subfolder `triton/`. Only detections and mAP are compared, as served graphs lack the outputs
    that decoding does not read.
    """
    reference, made = job.reference, []
    bank, inputs = reference.bank, served_inputs(reference.config)
    outputs = served_outputs(output_specs(reference.model), decoded=reference.decoded, n_classes=len(bank))
    for row in job.rows:
        if row.format != "onnx" or row.precision not in TRITON_PRECISIONS:
            continue
        name = f"stale-edge-{row.precision}"
        model, text = (f"{REPOSITORY}/{name}/{file}" for file in ("1/model.onnx", "config.pbtxt"))
        (job.folder / model).parent.mkdir(parents=True)
        graph = served_graph(onnx.load(job.folder / row.file_name), bank=bank, inputs=inputs, outputs=outputs)
        save_onnx(graph, job.folder / model, metadata=job.metadata)
        (job.folder / text).write_text(
            config_text(name, inputs=inputs, outputs=outputs, metadata=job.metadata), encoding="utf-8"
        )
        entry = describe_file(
            job.folder,
            model,
            role="model_repository",
            runtime=RUNTIME,
            precision=row.precision,
            inputs=inputs,
            outputs=outputs,
            note="the class bank is inside; decode on the client",
        )
        parity = compare_detections(
            reference,
            _finder(reference, job.folder / model),
            file=model,
            precision=row.precision,
            progress=job.progress,
        )
        made.append(Exported(entry, parity, beside=(describe_file(job.folder, text, role="model_repository"),)))
    return tuple(made)


def served_json(model: Exported) -> dict[str, Any]:
    """Describe a served model with its files, in plain JSON values."""
    return {
        "precision": model.entry.precision,
        "files": [entry.path for entry in (model.entry, *model.beside)],
        "bytes": model.entry.bytes,
        "matched_detections": model.parity.matched_detections,
        "average_mAP": model.parity.average_mAP,
        "parity": model.parity.to_json(),
    }


def served_graph(
    detector: onnx.ModelProto, *, bank: ClassBank, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> onnx.ModelProto:
    """Put the class bank into a detector graph, and leave out what decoding does not read.

    Args:
        detector: graph in any precision; it is not changed.
        inputs, outputs: the contract of the served graph.

    Raises:
        ParityError: the graph differs from its contract.
    """
    served = onnx.ModelProto()
    served.CopyFrom(detector)
    graph = served.graph
    embeddings = next(value for value in graph.input if value.name == "class_embeddings")
    graph.input.remove(embeddings)
    graph.initializer.append(numpy_helper.from_array(bank.embeddings, embeddings.name))
    kept = {value.name: value for value in graph.output}
    del graph.output[:], graph.value_info[:]
    for spec in outputs:
        value = kept[spec.name]
        for axis, size in enumerate(spec.shape):
            if isinstance(size, int):
                value.type.tensor_type.shape.dim[axis].dim_value = size
        graph.output.append(value)
    drop_unused(served)
    check_graph(served, inputs=inputs, outputs=outputs)
    return served


def served_inputs(model: ModelSettings) -> tuple[TensorSpec, ...]:
    """List the inputs of a served graph: features [B, T, C]."""
    return tuple(spec for spec in graph_inputs(model) if spec.name == "features")


def served_outputs(
    outputs: Iterable[TensorSpec], *, decoded: Collection[str], n_classes: int
) -> tuple[TensorSpec, ...]:
    """List the outputs of a served graph: those that decoding reads, with K replaced by the number of classes."""
    return with_sizes([spec for spec in outputs if spec.name in decoded], {"K": n_classes})


def config_text(
    name: str, *, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], metadata: Mapping[str, str]
) -> str:
    """Write `config.pbtxt`: the message `inference.ModelConfig` of Triton's model_config.proto, as text.

    Args:
        name: name of the model, and of its folder.
        inputs, outputs: inputs and outputs of the graph.
        metadata: stored as parameters, which clients of the server can read.
    """
    lines = [
        f"name: {_quoted(name)}",
        'platform: "onnxruntime_onnx"',
        f"max_batch_size: {MAX_BATCH}",
        *_tensors("input", inputs),
        *_tensors("output", outputs),
        "dynamic_batching {",
        f"  max_queue_delay_microseconds: {MAX_QUEUE_DELAY_US}",
        "}",
        "version_policy { latest { num_versions: 1 } }",
    ]
    for key, value in metadata.items():
        lines.append(f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(value)} }} }}")
    return "\n".join(lines) + "\n"


def _finder(reference: Reference, path: Path) -> Callable[[int], list[Detection]]:
    """Open a served graph; returns a function that finds detections in a video of the reference."""
    session = open_session(path, threads=1)
    names = [value.name for value in session.get_outputs()]

    def find(video: int) -> list[Detection]:
        values = session.run(names, {"features": reference.videos[video].features})
        return reference.decode(video, dict(zip(names, values, strict=True)))

    return find


def _tensors(kind: str, specs: Iterable[TensorSpec]) -> list[str]:
    """Write the inputs or outputs, without the batch axis, which the server adds; -1 is any size."""
    lines = []
    for spec in specs:
        dims = ", ".join(str(size if isinstance(size, int) else -1) for size in spec.shape[1:])
        lines.append(f"{kind} {{ name: {_quoted(spec.name)} data_type: {_TYPES[spec.dtype]} dims: [ {dims} ] }}")
    return lines


def _quoted(text: str) -> str:
    """Quote for protobuf's text format: bytes other than printable ASCII as octal escapes."""
    octets = "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03o}" for byte in text.encode()
    )
    return f'"{octets}"'
