"""Text encoder of a checkpoint -> `text_encoder.onnx` and `tokenizer.json`, compared as devices run them."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import torch

from stale_edge.bundle import FileEntry
from stale_edge.bundle.text_contract import (
    TEXT_ENCODER_NAME,
    TOKENIZER_NAME,
    text_encoder_inputs,
    text_encoder_outputs,
)
from stale_edge.bundle.writer import describe_file
from stale_edge.exporting.artifact_formats import ArtifactFormat
from stale_edge.exporting.exported import Exported, Making
from stale_edge.exporting.graph.detector_graph import in_eval_mode
from stale_edge.exporting.graph.recording import record_onnx, save_onnx
from stale_edge.exporting.graph.rewriting import WeightCount, count_weights
from stale_edge.exporting.parity.compare import compare_with_model
from stale_edge.exporting.parity.reference import Reference, run_detector
from stale_edge.exporting.parity.result import Parity
from stale_edge.exporting.text_graph import TRACED_NAMES, TRACED_TOKENS, TextGraph, text_contract
from stale_edge.model.class_embeddings import class_bank
from stale_edge.model.text import TextEncoder
from stale_edge.progress import Progress, silent
from stale_edge.runtime.text_encoder import BundleTextEncoder
from stale_edge.segments import FloatArray

TEXT_ENCODER = ArtifactFormat(
    "onnx", "fp32", TEXT_ENCODER_NAME, "text", (),
    "torch.onnx.export(dynamo=True), constants folded", "runs once for a new class, never for a video",
)  # fmt: skip
"""Only fp32: it runs once per class, so its time does not matter, and its error would stay in the class bank."""

PROBES = ("x", "Clean and jerk", "WALKING  the dog's", "Ćwiczenia na drążku", "跳高", "a b c d e f g h i j k l m n o p")
"""Probe names besides the vocabulary: one token, capitals, double space, apostrophe, non-ASCII letters, many words."""


def make_text_encoder(job: Making, encoder: TextEncoder) -> tuple[Exported, ...]:
    """Write and compare a checkpoint's text encoder, with its tokenizer beside it."""
    (graph, tokenizer), weights = write_text_encoder(encoder, job.folder)
    parity = compare_text_encoder(job.reference, encoder, job.folder, progress=job.progress)
    return (Exported(graph, parity, TEXT_ENCODER, weights, beside=(tokenizer,)),)


def write_text_encoder(encoder: TextEncoder, folder: Path) -> tuple[tuple[FileEntry, FileEntry], WeightCount]:
    """Write graph and tokenizer to a folder; returns their entries and the graph's weight count. Compares nothing.

    Raises:
        ParityError: an axis became static, a name or type differs, or an operator is not a standard one.
    """
    contract = text_contract(encoder)
    tokens = min(TRACED_TOKENS, contract.max_tokens)
    names, length = torch.export.Dim("K"), torch.export.Dim("L", min=2, max=contract.max_tokens)
    proto = record_onnx(
        TextGraph(encoder),
        (torch.full((TRACED_NAMES, tokens), contract.end_id, dtype=torch.int64),),
        inputs=text_encoder_inputs(),
        outputs=text_encoder_outputs(embed_dim=encoder.dim),
        dynamic_shapes=({0: names, 1: length},),
    )
    metadata = contract.to_metadata(fingerprint=encoder.fingerprint())
    save_onnx(proto, folder / TEXT_ENCODER_NAME, metadata=metadata, graph_name="text_encoder")
    tokenizer = json.loads(encoder.tokenizer.backend_tokenizer.to_str())
    tokenizer.update(padding=None, truncation=None)  # removes settings of the last call; rows are never cut
    text = json.dumps(tokenizer, ensure_ascii=False)
    (folder / TOKENIZER_NAME).write_text(text + "\n", encoding="utf-8")
    weights = count_weights(proto.graph, onnx.TensorProto.FLOAT)
    entry = describe_file(
        folder,
        TEXT_ENCODER_NAME,
        role="text_encoder",
        runtime=TEXT_ENCODER.runtime,
        precision=TEXT_ENCODER.precision,
        inputs=text_encoder_inputs(),
        outputs=text_encoder_outputs(embed_dim=encoder.dim),
        weights_total=weights.numbers,
        note=TEXT_ENCODER.note,
    )
    return (entry, describe_file(folder, TOKENIZER_NAME, role="tokenizer")), weights


def compare_text_encoder(
    reference: Reference, encoder: TextEncoder, folder: Path, *, progress: Progress = silent
) -> Parity:
    """Compare the written files with the checkpoint's encoder: token ids, embeddings, and the detector's decisions.

    Embeddings of the bundle's classes and of `PROBES` are compared, relative to the largest number in them (at
    least 1). Then the model itself runs on every video of the parity check with the file's class embeddings, and its
    decisions are compared like those of any fp32 file.

    Args:
        reference: the model's decisions with the bundle's class bank.
        encoder: the checkpoint's encoder.
        folder: folder of the two files.
        progress: called with ("compare <file>", done, total).
    """
    exported = BundleTextEncoder(folder / TEXT_ENCODER_NAME, folder / TOKENIZER_NAME)
    names = [name for name in dict.fromkeys((*reference.bank.names, *PROBES)) if _fits(encoder, name)]
    strange = [name for name in names if exported.tokenize([name]).tolist() != encoder.token_ids(name)]
    wanted, got = class_bank(encoder, names).embeddings, exported.encode(names).embeddings
    difference = float(np.abs(wanted - got).max()) / max(1.0, float(np.abs(wanted).max()))
    embedded = exported.encode(reference.bank.names).embeddings

    def run(features: FloatArray, class_embeddings: FloatArray) -> Mapping[str, FloatArray]:
        # Batches of other sizes use the last classes of the bank.
        return run_detector(reference.model, features, embedded[-len(class_embeddings) :])

    with in_eval_mode(reference.model):
        parity = compare_with_model(
            reference, run, file=TEXT_ENCODER_NAME, precision=TEXT_ENCODER.precision, progress=progress
        )
    parity = dataclasses.replace(parity, max_difference={**parity.max_difference, "class_embeddings": difference})
    said = [f"{TOKENIZER_NAME} reads {', '.join(map(repr, strange[:5]))} differently"] if strange else []
    return parity.checked([*parity.failures, *said])


def _fits(encoder: TextEncoder, name: str) -> bool:
    """Check whether a probe fits behind the encoder's contexts."""
    try:
        encoder.tokenize([name])
    except ValueError:
        return False
    return True
