"""The `metadata_props` of an ONNX file, read and rewritten without the `onnx` package.

A device that edits its class bank has only numpy and onnxruntime, and onnxruntime cannot write. `metadata_props` is
field 14 of `ModelProto` (onnx.proto, ONNX IR); each entry is a message with key = 1 and value = 2.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from stale_edge.bundle.feature_contract import FORMAT, FeatureContract
from stale_edge.bundle.protobuf import field, fields
from stale_edge.config import DecodeSettings, to_dict
from stale_edge.errors import BundleError

FORMAT_KEY = "stale_edge.format"
ARCHITECTURE_KEY = "stale_edge.architecture"
FEATURE_CONTRACT_KEY = "stale_edge.feature_contract"
CLASS_NAMES_KEY = "stale_edge.class_names"
DECODE_KEY = "stale_edge.decode"

_METADATA_FIELD = 14
_GRAPH_FIELD = 7


def graph_metadata(
    *,
    architecture: str,
    feature_contract: FeatureContract,
    decode: DecodeSettings,
    class_names: Sequence[str],
    format: str = FORMAT,
) -> dict[str, str]:
    """Return a graph's `metadata_props`, which every program must check before it runs the graph.

    Structured values are JSON; the keys are the constants of this module.
    """
    return {
        FORMAT_KEY: format,
        ARCHITECTURE_KEY: architecture,
        FEATURE_CONTRACT_KEY: json.dumps(feature_contract.to_json(format), ensure_ascii=False),
        CLASS_NAMES_KEY: json.dumps(list(class_names), ensure_ascii=False),
        DECODE_KEY: json.dumps(to_dict(decode), ensure_ascii=False),
    }


def read_onnx_metadata(path: Path) -> dict[str, str]:
    """Read `metadata_props`; the graph itself is skipped, not loaded.

    Raises:
        BundleError: the file is not an ONNX model, or is cut short.
    """
    properties: dict[str, str] = {}
    has_graph = False
    with path.open("rb") as file:
        for number, start, end in _fields(file, path):
            has_graph = has_graph or number == _GRAPH_FIELD
            if number == _METADATA_FIELD:
                key, value = _entry(file, start, end, path)
                properties[key] = value
    if not has_graph:
        raise BundleError(f"{path}: not an ONNX model: it holds no graph")
    return properties


def copy_with_metadata(source: Path, target: Path, updates: Mapping[str, str]) -> None:
    """Copy an ONNX file with some `metadata_props` replaced or added; all other bytes stay the same.

    Raises:
        BundleError: the source is not an ONNX model.
        OSError: the target cannot be written.
    """
    with source.open("rb") as file, target.open("xb") as out:
        position = 0
        for number, start, end in _fields(file, source):
            if number != _METADATA_FIELD or _entry(file, start, end, source)[0] not in updates:
                file.seek(position)
                _copy(file, out, end - position)
            position = end
        for key, value in updates.items():
            pair = field(1, key.encode()) + field(2, value.encode())
            out.write(field(_METADATA_FIELD, pair))
        out.flush()
        os.fsync(out.fileno())


def _fields(file: BinaryIO, path: Path) -> Iterator[tuple[int, int, int]]:
    """Iterate over the top-level fields of an ONNX file."""
    return fields(file, path, start=0, end=os.fstat(file.fileno()).st_size)


def _entry(file: BinaryIO, start: int, end: int, path: Path) -> tuple[str, str]:
    """Read one key and value of `metadata_props`."""
    texts = {1: b"", 2: b""}
    for number, first, last in fields(file, path, start=start, end=end):
        if number not in texts:
            raise BundleError(f"{path}: malformed metadata_props at byte {start}")
        file.seek(first)
        texts[number] = file.read(last - first)
    try:
        return texts[1].decode(), texts[2].decode()
    except UnicodeDecodeError as error:
        raise BundleError(f"{path}: metadata_props at byte {start} are not UTF-8") from error


def _copy(file: BinaryIO, out: BinaryIO, length: int) -> None:
    while length:
        chunk = file.read(min(length, 1 << 20))
        if not chunk:
            raise BundleError("the ONNX file became shorter while it was read")
        out.write(chunk)
        length -= len(chunk)
