"""Manifests and class banks of hostile bundles, as bytes."""

import io
import struct
import zipfile
from collections.abc import Callable

import numpy as np

TEXT_EDITS = (
    ("a number beyond double", '"sigma": 0.5', '"sigma": 1e999'),
    ("a negative number beyond double", '"sigma": 0.5', '"sigma": -1e999'),
    ("NaN in the manifest", '"sigma": 0.5', '"sigma": NaN'),
    ("Infinity in the manifest", '"sigma": 0.5', '"sigma": Infinity'),
    ("-Infinity in the manifest", '"sigma": 0.5', '"sigma": -Infinity'),
    ("two formats", '"format":', '"format": "stale-edge-bundle/0", "format":'),
    ("two sizes to resample to", '"resample_to":', '"resample_to": 2305843009213693952, "resample_to":'),
    ("the same key, escaped", '"resample_to":', '"resample\\u005fto": 1, "resample_to":'),
    ("two paths of one file", '"path":', '"path": "../out.onnx", "path":'),
    ("two keys in the provenance", '"provenance": {', '"provenance": {"a": 1, "a": 2, '),
)
"""Why, a part of the manifest's text, and what stands there instead."""

DEPTH = 100_000


def texts(text: str) -> dict[str, bytes]:
    """Give manifests that are no JSON object in UTF-8, by what is wrong."""
    nested = "[" * DEPTH + "]" * DEPTH
    return {
        "lists 100,000 deep": text.replace('"provenance": {', f'"provenance": {{"a": {nested}, ', 1).encode(),
        "objects 100,000 deep": b'{"a":' * DEPTH + b"1" + b"}" * DEPTH,
        "a manifest that is not UTF-8": text.encode().replace(b'"note": ""', b'"note": "\xff\xfe"', 1),
        "an overlong character": text.encode().replace(b'"note": ""', b'"note": "\xc0\xaf"', 1),
        "an empty manifest": b"",
        "a manifest that is a list": f"[{text}]".encode(),
        "a manifest that is a word": b'"stale-edge-bundle/1"',
        "text after the manifest": f"{text} {{}}".encode(),
        "files that are no list": b'{"format": "stale-edge-bundle/1", "files": {"path": "a"}}',
        "a file that is no object": text.replace('"files": [', '"files": [null, ', 1).encode(),
        "a manifest with its format alone": b'{"format": "stale-edge-bundle/1"}',
        "a format of 100,000 characters": f'{{"format": "{"x" * 100_000}"}}'.encode(),
        "a format with line breaks": b'{"format": "a\\nb\\u001b[2J"}',
    }


def class_banks(good: bytes) -> dict[str, bytes]:
    """Give archives that are no class bank, by what is wrong."""
    with np.load(io.BytesIO(good)) as arrays:
        names, embeddings, fingerprint = arrays["names"], arrays["embeddings"], arrays["fingerprint"]
    K, D = embeddings.shape

    def saved(save: Callable[..., None] = np.savez, **changes: np.ndarray) -> bytes:
        file = io.BytesIO()
        save(file, **{"names": names, "embeddings": embeddings, "fingerprint": fingerprint, **changes})
        return file.getvalue()

    def not_finite(value: float) -> np.ndarray:
        bad = embeddings.copy()
        bad[-1, -1] = value
        return bad

    def renamed(name: str) -> np.ndarray:
        return np.array([name, *names[1:]], dtype=names.dtype)

    def with_header(member: str, old: bytes, new: bytes) -> bytes:
        """Change the text of an array's header; its length stays."""
        file = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(good)) as source, zipfile.ZipFile(file, "w") as target:
            for info in source.infolist():
                content = source.read(info)
                if info.filename == member:
                    assert old in content, (old, content[:128])
                    at = content.index(b"\n")
                    header = content[10:at].replace(old, new, 1).rstrip()
                    assert len(header) <= at - 10
                    content = content[:10] + header.ljust(at - 10) + content[at:]
                target.writestr(info.filename, content)
        return file.getvalue()

    def with_character(code: int) -> bytes:
        """Put a number that is no character into the first name; NumPy would not write it."""
        first = str(names[0])[0].encode("utf-32-le")
        at = good.index(str(names[0]).encode("utf-32-le"))
        assert good[at : at + 4] == first
        return good[:at] + struct.pack("<I", code) + good[at + 4 :]

    def with_directory(offset: int, layout: str, value: int, *, end: bool = False) -> bytes:
        """Change a number of the archive's first directory entry, or of its summary at the end."""
        content = bytearray(good)
        begin = content.rindex(b"PK\x05\x06") if end else content.index(b"PK\x01\x02")
        struct.pack_into(layout, content, begin + offset, value)
        return bytes(content)

    width = names.dtype.itemsize // 4
    text = names.dtype.str.encode()
    return {
        "no class": saved(names=names[:0], embeddings=embeddings[:0]),
        "an embedding with NaN": saved(embeddings=not_finite(np.nan)),
        "an infinite embedding": saved(embeddings=not_finite(-np.inf)),
        "a name too many": saved(names=np.array([*names, "one more"])),
        "a name too few": saved(names=names[:-1]),
        "a name twice": saved(names=renamed(str(names[1]))),
        "a name without a character": saved(names=renamed("")),
        "a name with a line break": saved(names=renamed("a\nb")),
        "names as bytes": saved(names=np.array([b"a"] * K)),
        "names as a table": saved(names=names[None]),
        "names as numbers": saved(names=np.arange(K, dtype=np.float32)),
        "names as objects": saved(names=names.astype(object)),
        "embeddings as float64": saved(embeddings=embeddings.astype(np.float64)),
        "embeddings in one axis": saved(embeddings=embeddings.ravel()),
        "embeddings in three axes": saved(embeddings=embeddings[None]),
        "embeddings of another width": saved(embeddings=np.pad(embeddings, ((0, 0), (0, 1)))),
        "no width": saved(embeddings=embeddings[:, :0]),
        "compressed": saved(np.savez_compressed),
        "cut short": good[: len(good) // 2],
        "empty": b"",
        "more rows than bytes": with_header("embeddings.npy", b"(%d, %d)" % (K, D), b"(2305843009213693952, %d)" % D),
        "a negative shape": with_header("embeddings.npy", b"(%d, %d)" % (K, D), b"(-%d, -%d)" % (K, D)),
        "axes whose product is 0": with_header("names.npy", b"(%d,)" % K, b"(65536, 65536, 65536, 65536)"),
        "Fortran order": with_header("embeddings.npy", b"False", b"True"),
        "names of width 0": with_header("names.npy", text, b"<U0"),
        "names of width 2^62": with_header("names.npy", text, b"<U4611686018427387904"),
        "names of width 10^30": with_header("names.npy", text, b"<U1%s" % (b"0" * 30)),
        "names of a negative width": with_header("names.npy", text, b"<U-%d" % width),
        "a character beyond Unicode": with_character(0x110000),
        "half of a surrogate pair": with_character(0xD800),
        "a directory beyond the end": with_directory(16, "<I", 0xFFFFFFF0, end=True),
        "a file beyond the end": with_directory(42, "<I", 0xFFFFFFF0),
        "a file larger than the archive": with_directory(24, "<I", 0xFFFFFFFF),
    }
