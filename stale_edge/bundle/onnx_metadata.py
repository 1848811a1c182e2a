"""The `metadata_props` of an ONNX file, read and rewritten without the `onnx` package.

A device that edits its class bank has numpy and onnxruntime alone, and onnxruntime cannot write. Protocol Buffers
make this small: a message is a sequence of (tag, value), unknown fields can be copied byte by byte, and
`metadata_props` is field 14 of `ModelProto` (onnx.proto, ONNX IR), each a message of key = 1 and value = 2.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from stale_edge.bundle.manifest import FORMAT, FeatureContract
from stale_edge.config import DecodeConfig, to_dict
from stale_edge.errors import BundleError

FORMAT_KEY = "stale_edge.format"
ARCHITECTURE_KEY = "stale_edge.architecture"
FEATURE_CONTRACT_KEY = "stale_edge.feature_contract"
CLASS_NAMES_KEY = "stale_edge.class_names"
DECODE_KEY = "stale_edge.decode"

_METADATA_FIELD = 14
_GRAPH_FIELD = 7
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def graph_metadata(
    *, architecture: str, feature_contract: FeatureContract, decode: DecodeConfig, class_names: Sequence[str]
) -> dict[str, str]:
    """Say in a graph's `metadata_props` what every program must check before it runs the graph.

    Structured values are JSON; the keys are the constants of this module.
    """
    return {
        FORMAT_KEY: FORMAT,
        ARCHITECTURE_KEY: architecture,
        FEATURE_CONTRACT_KEY: json.dumps(feature_contract.to_json(), ensure_ascii=False),
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
        for field, start, end in _fields(file, path):
            has_graph = has_graph or field == _GRAPH_FIELD
            if field == _METADATA_FIELD:
                key, value = _entry(file, start, end, path)
                properties[key] = value
    if not has_graph:
        raise BundleError(f"{path}: not an ONNX model: it holds no graph")
    return properties


def copy_with_metadata(source: Path, target: Path, updates: Mapping[str, str]) -> None:
    """Copy an ONNX file with some `metadata_props` replaced or added; every other byte stays as it is.

    Raises:
        BundleError: the source is not an ONNX model.
        OSError: the target cannot be written.
    """
    with source.open("rb") as file, target.open("xb") as out:
        position = 0
        for field, start, end in _fields(file, source):
            if field != _METADATA_FIELD or _entry(file, start, end, source)[0] not in updates:
                file.seek(position)
                _copy(file, out, end - position)
            position = end
        for key, value in updates.items():
            pair = _field(1, key.encode()) + _field(2, value.encode())
            out.write(_field(_METADATA_FIELD, pair))
        out.flush()
        os.fsync(out.fileno())


def _fields(file: BinaryIO, path: Path) -> Iterator[tuple[int, int, int]]:
    """Walk the top level: (field number, start, end) of each value; a value's tag starts where the last one ended."""
    size = os.fstat(file.fileno()).st_size
    position = 0
    while position < size:
        file.seek(position)
        tag = _read_varint(file, path)
        wire = tag & 7
        if wire == _VARINT:
            start = file.tell()
            _read_varint(file, path)
            end = file.tell()
        elif wire == _BYTES:
            length = _read_varint(file, path)
            start = file.tell()
            end = start + length
        elif wire in (_FIXED32, _FIXED64):
            start = file.tell()
            end = start + (4 if wire == _FIXED32 else 8)
        else:
            raise BundleError(f"{path}: not an ONNX model: wire type {wire} at byte {position}")
        if end > size:
            raise BundleError(f"{path}: the ONNX file is cut short: {size} bytes, at least {end} announced")
        yield tag >> 3, start, end
        position = end


def _entry(file: BinaryIO, start: int, end: int, path: Path) -> tuple[str, str]:
    """Read one key and value of `metadata_props`."""
    texts = {1: b"", 2: b""}
    file.seek(start)
    while file.tell() < end:
        tag = _read_varint(file, path)
        if tag & 7 != _BYTES:
            raise BundleError(f"{path}: malformed metadata_props at byte {start}")
        length = _read_varint(file, path)
        if file.tell() + length > end:
            raise BundleError(f"{path}: malformed metadata_props at byte {start}")
        texts[tag >> 3] = file.read(length)
    try:
        return texts[1].decode(), texts[2].decode()
    except UnicodeDecodeError as error:
        raise BundleError(f"{path}: metadata_props at byte {start} are not UTF-8") from error


def _read_varint(file: BinaryIO, path: Path) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise BundleError(f"{path}: the ONNX file is cut short at byte {file.tell()}")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise BundleError(f"{path}: not an ONNX model: a number of more than ten bytes at byte {file.tell()}")


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _copy(file: BinaryIO, out: BinaryIO, length: int) -> None:
    while length:
        chunk = file.read(min(length, 1 << 20))
        if not chunk:
            raise BundleError("the ONNX file became shorter while it was read")
        out.write(chunk)
        length -= len(chunk)
