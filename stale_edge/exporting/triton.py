"""A model repository for NVIDIA's Triton Inference Server: detectors that batch the requests of many clients.

Dynamic batching joins requests along the first axis of every input, and class embeddings have no axis for videos: so
the class bank is inside these graphs, and `features` is their one input.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

from stale_edge.bundle import BundleWriter, ClassBank, TensorSpec
from stale_edge.config import ModelSettings
from stale_edge.config.runtimes import Precision
from stale_edge.errors import ParityError
from stale_edge.evaluation.agreement import CONFIDENT, count_matched
from stale_edge.exporting.formats import TRITON_PRECISIONS, ArtifactFormat
from stale_edge.exporting.graph.detector_graph import fixed_length, graph_inputs, graph_outputs
from stale_edge.exporting.graph.recording import check_graph, save_onnx
from stale_edge.exporting.graph.rewriting import drop_unused
from stale_edge.exporting.parity.check import BUDGETS, Outputs, Reference
from stale_edge.progress import Progress, silent
from stale_edge.runtime.onnx_session import open_session

RUNTIME = "triton"
REPOSITORY = "triton"
"""Folder of the bundle that the server's `--model-repository` names."""

MAX_BATCH = 32
MAX_QUEUE_DELAY_US = 2000
"""How long a request waits for company: little beside the time of a forward pass."""

_TYPES = {"float32": "TYPE_FP32"}


@dataclass(frozen=True)
class TritonModel:
    """One model of the repository, and how it was judged.

    matched_detections: part of the model's confident detections that the served graph finds again, in [0, 1].
    """

    precision: Precision
    files: tuple[str, ...]
    """Model and configuration, relative to the bundle."""
    bytes: int
    matched_detections: float
    average_mAP: float | None  # noqa: N815 - the name in published result files

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "files": list(self.files)}

    def summary(self) -> str:
        """Say it in a line, for people."""
        return f"{self.files[0]}: {self.bytes / 1e6:.2f} MB, {self.matched_detections:.1%} of detections match"


def write_repository(
    rows: Iterable[ArtifactFormat],
    folder: Path,
    *,
    reference: Reference,
    metadata: Mapping[str, str],
    progress: Progress = silent,
) -> tuple[TritonModel, ...]:
    """Write and judge a served model for each ONNX detector of a folder that can have one.

    Args:
        rows: the detectors that stand in the folder.
        folder: the bundle in the making; the repository goes into its subfolder `triton/`.
        reference: what detectors were judged by; its class bank goes into the graphs.
        metadata: what the files say of themselves; the same as of the detectors.

    Raises:
        ParityError: a served model decides differently from the model it was made from.
    """
    models = []
    for row in rows:
        if row.format != "onnx" or row.precision not in TRITON_PRECISIONS:
            continue
        name = f"stale-edge-{row.precision}"
        model, config = (f"{REPOSITORY}/{name}/{file}" for file in ("1/model.onnx", "config.pbtxt"))
        (folder / model).parent.mkdir(parents=True)
        graph = served_graph(onnx.load(folder / row.file_name), model=reference.config, bank=reference.bank)
        save_onnx(graph, folder / model, metadata=metadata)
        text = config_text(name, model=reference.config, n_classes=len(reference.bank), metadata=metadata)
        (folder / config).write_text(text, encoding="utf-8")
        matched, average_map = _judge(reference, row.precision, folder / model, progress)
        size = (folder / model).stat().st_size
        models.append(TritonModel(row.precision, (model, config), size, matched, average_map))
    return tuple(models)


def served_graph(detector: onnx.ModelProto, *, model: ModelSettings, bank: ClassBank) -> onnx.ModelProto:
    """Put the class bank into a detector graph, and leave out what decoding does not read.

    Raises:
        ParityError: the graph breaks a promise.
    """
    served = onnx.ModelProto()
    served.CopyFrom(detector)
    graph = served.graph
    embeddings = next(value for value in graph.input if value.name == "class_embeddings")
    graph.input.remove(embeddings)
    graph.initializer.append(numpy_helper.from_array(bank.embeddings, embeddings.name))
    outputs = served_outputs(model, n_classes=len(bank))
    kept = [value for value in graph.output if value.name in {spec.name for spec in outputs}]
    del graph.output[:], graph.value_info[:]
    graph.output.extend(kept)
    logits = next(value for value in graph.output if value.name == "class_logits")
    logits.type.tensor_type.shape.dim[1].dim_value = len(bank) + 1
    drop_unused(served)
    check_graph(served, inputs=served_inputs(model), outputs=outputs)
    return served


def served_inputs(model: ModelSettings) -> tuple[TensorSpec, ...]:
    """Inputs of a served graph: features [B, T, C]."""
    return tuple(spec for spec in graph_inputs(model) if spec.name == "features")


def served_outputs(model: ModelSettings, *, n_classes: int) -> tuple[TensorSpec, ...]:
    """Outputs of a served graph: class_logits [B, K + 1, T] and masks [B, T, T]."""
    T: int | str = fixed_length(model) or "T"
    logits = TensorSpec("class_logits", "float32", ("B", n_classes + 1, T))
    return (logits, *(spec for spec in graph_outputs(model) if spec.name == "masks"))


def config_text(name: str, *, model: ModelSettings, n_classes: int, metadata: Mapping[str, str]) -> str:
    """Write `config.pbtxt`: the message `inference.ModelSettings` of Triton's model_config.proto, as text.

    Args:
        name: of the model, which is also its folder.
        n_classes: K of the class bank inside.
        metadata: kept as parameters, which clients of the server can read.
    """
    lines = [
        f"name: {_quoted(name)}",
        'platform: "onnxruntime_onnx"',
        f"max_batch_size: {MAX_BATCH}",
        *_tensors("input", served_inputs(model)),
        *_tensors("output", served_outputs(model, n_classes=n_classes)),
        "dynamic_batching {",
        f"  max_queue_delay_microseconds: {MAX_QUEUE_DELAY_US}",
        "}",
        "version_policy { latest { num_versions: 1 } }",
    ]
    for key, value in metadata.items():
        lines.append(f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(value)} }} }}")
    return "\n".join(lines) + "\n"


def add_repository(
    writer: BundleWriter, models: Sequence[TritonModel], *, config: ModelSettings, n_classes: int
) -> None:
    """Announce the repository to a bundle in the making, in whose folder it stands."""
    for model in models:
        path, text = model.files
        writer.add_file(
            path,
            role="model_repository",
            runtime=RUNTIME,
            precision=model.precision,
            inputs=served_inputs(config),
            outputs=served_outputs(config, n_classes=n_classes),
            note="the class bank is inside; decode on the client",
        )
        writer.add_file(text, role="model_repository")


def _judge(reference: Reference, precision: Precision, path: Path, progress: Progress) -> tuple[float, float | None]:
    """Hold a served model to its precision's budget: the part of detections that match, and average mAP."""
    session = open_session(path, threads=1)
    found, matches = [], []
    for done, judged in enumerate(reference.videos):
        progress(f"compare {path.parent.parent.name}", done, len(reference.videos))
        logits, masks = session.run(["class_logits", "masks"], {"features": judged.features})
        found.append(reference.decode(done, Outputs(logits, masks, judged.outputs.foreground)))
        matches.append(count_matched(reference.detections[done], found[-1], confident=CONFIDENT))
    progress(f"compare {path.parent.parent.name}", len(reference.videos), len(reference.videos))
    total = sum(match.total for match in matches)
    matched = sum(match.matched for match in matches) / total if total else 1.0
    budget, average_map = BUDGETS[precision], reference.measure(found)
    change = 0.0 if average_map is None or reference.average_map is None else average_map - reference.average_map
    if matched < budget.min_matched or abs(change) > budget.max_map_change:
        raise ParityError(
            f"the model for Triton decides differently from the checkpoint in {precision}; nothing was written: "
            f"{matched:.1%} of detections match, at least {budget.min_matched:.1%} must; average mAP changes by "
            f"{change:+.2f} points, allowed {budget.max_map_change:g}"
        )
    return matched, average_map


def _tensors(kind: str, specs: Iterable[TensorSpec]) -> list[str]:
    """Write the inputs or outputs; the batch axis is the server's own, -1 is any size."""
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
