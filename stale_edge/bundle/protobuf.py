"""The part of Protocol Buffers that is needed here for ONNX files: a message is a sequence of tagged values.

Unused fields can be copied byte by byte (protobuf.dev, "Encoding"). No library is used: `onnx` and `protobuf` parse a
whole file into objects and write it again, and a device has neither.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from stale_edge.errors import BundleError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def fields(file: BinaryIO, path: Path, *, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Iterate over a message: (field number, start, end) of each value; its tag starts where the last value ended.

    Args:
        file: file with the message; its position may change between steps.
        path: path for errors.
        start, end: offsets of the message.

    Raises:
        BundleError: it is not such a message, or is cut short.
    """
    position = start
    while position < end:
        file.seek(position)
        tag = read_varint(file, path)
        wire = tag & 7
        if wire == _VARINT:
            first = file.tell()
            read_varint(file, path)
            last = file.tell()
        elif wire == _BYTES:
            length = read_varint(file, path)
            first = file.tell()
            last = first + length
        elif wire in (_FIXED32, _FIXED64):
            first = file.tell()
            last = first + (4 if wire == _FIXED32 else 8)
        else:
            raise BundleError(f"{path}: not an ONNX model: wire type {wire} at byte {position}")
        if last > end:
            raise BundleError(f"{path}: the ONNX file is cut short: {end} bytes, at least {last} announced")
        yield tag >> 3, first, last
        position = last


def read_varint(file: BinaryIO, path: Path) -> int:
    """Read one number of variable length.

    Raises:
        BundleError: the file ends inside the number, or the number is longer than 64 bits.
    """
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise BundleError(f"{path}: the ONNX file is cut short at byte {file.tell()}")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise BundleError(f"{path}: not an ONNX model: a number of more than ten bytes at byte {file.tell()}")


def field(number: int, content: bytes) -> bytes:
    """Encode a field of bytes: a text or a message."""
    return field_head(number, len(content)) + content


def number_field(number: int, value: int) -> bytes:
    """Encode a field of one number >= 0."""
    return _varint(number << 3 | _VARINT) + _varint(value)


def field_head(number: int, length: int) -> bytes:
    """Encode the tag and the length that precede the `length` bytes of a field."""
    return _varint(number << 3 | _BYTES) + _varint(length)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
