"""Request bodies to arrays, without a file: `.npy`, JSON, KServe v2, and videos in memory."""

import io
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np

from stale_edge.errors import DataError, shown
from stale_edge.runtime.video_reader import VideoReader
from stale_edge.segments import FloatArray

CONTAINERS = "mov,matroska,avi,mpegts,mpeg,ogg,flv"
"""FFmpeg's names of the formats that hold a video themselves; playlists, which name other files, are not among them."""
MOST_DIMENSIONS = 3


def read_npy(body: bytes) -> FloatArray:
    """Read an `.npy` array; its header must fit the bytes, before anything is allocated.

    Raises:
        DataError: not such an array of numbers.
    """
    stream = io.BytesIO(body)
    try:
        version = np.lib.format.read_magic(stream)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran, dtype = readers[version](stream)
    except (ValueError, KeyError, EOFError) as error:
        raise DataError(f"the body is no .npy file of version 1 or 2: {error}; write it with numpy.save") from error
    rest = len(body) - stream.tell()
    if dtype.kind != "f" or len(shape) > MOST_DIMENSIONS or math.prod(shape) * dtype.itemsize != rest:
        raise DataError(
            f"the .npy body says {dtype} {shape}, {math.prod(shape) * dtype.itemsize} bytes, and holds {rest}; send a "
            "floating (T, C) array"
        )
    array = np.frombuffer(body, dtype, offset=stream.tell())
    return cast(FloatArray, array.reshape(shape, order="F" if fortran else "C"))


def read_json(body: bytes) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        DataError: it is none.
    """
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise DataError(f"the body is not JSON: {error}; send an object") from error
    if not isinstance(values, dict):
        raise DataError(f"the body is {type(values).__name__}, not an object; send an object")
    return values


def numbers(values: Any, name: str) -> FloatArray:
    """Turn nested lists of numbers into an array.

    Raises:
        DataError: rows of unequal length, or no numbers.
    """
    try:
        array = np.array(values, dtype=np.float32)
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(f"{name} must be rows of numbers of equal length; got {shown(values)}") from error
    return array


def read_tensors(request: Mapping[str, Any]) -> dict[str, FloatArray]:
    """Read the inputs of a KServe v2 request, data as flat or nested JSON lists of FP32.

    Raises:
        DataError: an input is incomplete, of another type, or its data does not fit its shape.
    """
    inputs = request.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise DataError("the request needs inputs, a list of tensors with name, shape, datatype and data")
    found = {}
    for tensor in inputs:
        name, shape = tensor.get("name"), tensor.get("shape")
        if tensor.get("datatype") != "FP32" or not isinstance(shape, list) or len(shape) > MOST_DIMENSIONS:
            raise DataError(f"input {shown(name)} must be FP32 with a shape of at most {MOST_DIMENSIONS} axes")
        data = numbers(tensor.get("data"), f"the data of input {shown(name)}").ravel()
        if not all(isinstance(size, int) and size > 0 for size in shape) or math.prod(shape) != data.size:
            raise DataError(f"input {shown(name)} has shape {shape} and {data.size} numbers; they must agree")
        found[str(name)] = data.reshape(shape)
    return found


def write_tensors(outputs: Mapping[str, FloatArray]) -> list[dict[str, Any]]:
    """Write the outputs of a KServe v2 response."""
    return [
        {"name": name, "shape": list(value.shape), "datatype": "FP32", "data": value.astype(float).ravel().tolist()}
        for name, value in outputs.items()
    ]


def video_features(body: bytes, reader: VideoReader) -> FloatArray:
    """Encode a video that lies in memory; formats that can name other files are refused.

    Raises:
        DataError: no such video. StaleEdgeError: the bundle has no visual encoder.
    """
    from stale_edge.video import FrameSettings, open_video, snippet_features

    encoder, (fps, stride) = reader.opened, reader.sampling
    settings = FrameSettings(reader.batch, reader.threads, preprocessing=reader.contract.preprocessing)
    allowed = {"format_whitelist": CONTAINERS, "protocol_whitelist": "none"}
    with open_video(_Bytes(body), threads=settings.workers, options=allowed) as source:
        blocks: Iterator[FloatArray] = snippet_features(source, encoder, rate=fps / stride, settings=settings)
        return np.concatenate(list(blocks))


class _Bytes(io.BytesIO):
    """Names itself in error messages."""

    def __str__(self) -> str:
        return "the video"
