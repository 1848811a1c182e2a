"""Features to detections with numpy and onnxruntime alone: localize.py BUNDLE FEATURES.npy --duration SECONDS."""

import argparse
import hashlib
import io
import json
import math
import os
import sys
import timeit
import unicodedata
import zipfile
from pathlib import Path

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # from 1.29 on it sends usage data unless told otherwise
import onnxruntime as ort

FORMATS = ("stale-edge-bundle/1", "stale-edge-bundle/2")
# Limits of this program; BUNDLE.md lists them. A network is a protobuf, which is never larger than 2 GiB.
MOST_FILE_BYTES, MOST_MANIFEST_BYTES, MOST_SNIPPETS, MOST_NUMBERS = 2**31, 2**26, 2**20, 2**28


def contents(path, most):
    """Read a regular file of at most `most` bytes; a pipe would never end."""
    if not path.is_file():
        raise ValueError(f"{path} must be a regular file that is there")
    if path.stat().st_size > most:
        raise ValueError(f"{path} has {path.stat().st_size} bytes; at most {most} are read")
    return path.read_bytes()


def inside(bundle, name):
    """Give the path of a bundle's file; neither its name nor a link may lead out of the folder."""
    parts = name.split("/") if isinstance(name, str) else [""]
    if {"", ".", ".."} & set(parts) or any(character in name for character in ":\\\0"):
        raise ValueError(f"the manifest names a path outside the bundle: {name!r:.80}")
    path = (bundle / name).resolve()
    if not path.is_relative_to(bundle.resolve()):
        raise ValueError(f"{name!r:.80} is a link that leads outside the bundle, to {path}")
    return path


def read_manifest(bundle):
    """Read manifest.json: no key twice in an object, every number finite."""

    def distinct(pairs):
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a key stands twice in one object")
        return dict(pairs)

    def finite(text):
        if not math.isfinite(float(text)):
            raise ValueError(f"{text:.20} is no finite number")
        return float(text)

    text = contents(inside(bundle, "manifest.json"), MOST_MANIFEST_BYTES).decode()
    whole = lambda text: int(text) if finite(text) < 2**63 else finite(text)  # noqa: E731
    hooks = {"object_pairs_hook": distinct, "parse_float": finite, "parse_int": whole, "parse_constant": finite}
    manifest = json.loads(text, **hooks)
    if not isinstance(manifest, dict) or manifest.get("format") not in FORMATS:
        got = manifest.get("format") if isinstance(manifest, dict) else "none"
        raise ValueError(f"format {got!r:.80}; this program reads {' and '.join(FORMATS)}")
    return manifest


def read(bundle, manifest, role, precision=None):
    """Read one file of the bundle, its bytes checked."""
    entries = [file for file in manifest["files"] if (file["role"], file["precision"]) == (role, precision)]
    if len(entries) != 1:
        raise ValueError(f"the manifest lists {len(entries)} files of role {role} in {precision}; one is needed")
    name, size = entries[0]["path"], entries[0]["bytes"]
    content = contents(inside(bundle, name), whole_number("bytes", size, MOST_FILE_BYTES))
    if len(content) != size or hashlib.sha256(content).hexdigest() != entries[0]["sha256"]:
        raise ValueError(f"{name!r:.80} has changed: its bytes are not those of the manifest")
    return content


def whole_number(name, value, most):
    """Take a whole number from 1 to `most`."""
    if type(value) is not int or not 1 <= value <= most:
        raise ValueError(f"{name} must be a whole number from 1 to {most}; got {value!r:.80}")
    return value


def read_bank(content):
    """Read the class bank: names (K,), distinct, and embeddings (K, D) float32, finite."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        stored = [info.compress_type == zipfile.ZIP_STORED for info in archive.infolist()]
        if not all(stored) or any(info.file_size != info.compress_size for info in archive.infolist()):
            raise ValueError("the class bank is compressed, or its sizes disagree")
    with np.load(io.BytesIO(content)) as arrays:  # unpickles nothing
        names, embeddings = arrays["names"], arrays["embeddings"]
    if names.dtype.kind != "U" or names.ndim != 1 or embeddings.dtype != np.float32 or embeddings.ndim != 2:
        raise ValueError("a class bank holds names (K,) and embeddings (K, D), text and float32")
    texts = names.tolist()
    strange = any(unicodedata.category(character) in ("Cc", "Cs") for text in texts for character in text)
    if strange or len(set(texts) - {""}) < len(texts):
        raise ValueError("a name of the class bank is empty, stands there twice, or holds a control character")
    if not embeddings.flags.c_contiguous:
        raise ValueError("the class embeddings must be in C order")
    if not embeddings.size or len(texts) != len(embeddings) or not np.isfinite(embeddings).all():
        raise ValueError(f"{len(texts)} names need as many finite embeddings; got {embeddings.shape}")
    return texts, embeddings


def fitted(features, contract):
    """Check features (T, C) against the feature contract and resample them as it says: (1, T, C) float32."""
    T, C = len(features), whole_number("channels", contract["channels"], MOST_NUMBERS)
    if contract["resampling"] not in ("linear", "none"):
        raise ValueError(f"resampling {contract['resampling']!r:.80}; this program knows linear and none")
    key = "resample_to" if contract["resampling"] == "linear" else "length"
    demanded = None if contract[key] is None and key == "length" else whole_number(key, contract[key], MOST_SNIPPETS)
    if features.dtype not in (np.float32, np.float16) or features.shape != (T, C) or not 1 <= T <= MOST_SNIPPETS:
        raise ValueError(f"features must be float32 or float16 (T, {C}); got {features.dtype} {features.shape}")
    if not np.isfinite(features).all() or (key == "length" and demanded not in (None, T)):
        raise ValueError(f"features must be finite, and {demanded or T} snippets; got {T}")
    target = demanded or T
    if target * C > MOST_NUMBERS:
        raise ValueError(f"features of {target} snippets and {C} channels are more than {MOST_NUMBERS} numbers")
    position = np.maximum((np.arange(target) + 0.5) * (T / target) - 0.5, 0)
    left = np.minimum(position.astype(int), T - 1)
    weight = (position - left).astype(np.float32)[:, None]
    values = features.astype(np.float32)
    return (values[left] * (1 - weight) + values[np.minimum(left + 1, T - 1)] * weight)[None]


def named(segments, scores, labels, names):
    """Turn what the pipeline gave into detections, after its shapes, types and values were checked."""
    n = np.shape(scores)[:1]
    wanted = [((*n, 2), "float32"), (n, "float32"), (n, "int64")]
    if [(np.shape(array), str(np.asarray(array).dtype)) for array in (segments, scores, labels)] != wanted:
        raise ValueError("the pipeline must give segments (N, 2) and scores (N,), float32, and labels (N,), int64")
    if not (np.isfinite(segments).all() and np.isfinite(scores).all()):
        raise ValueError("the pipeline gave a score or a segment that is not finite")
    if not ((labels >= 0) & (labels < len(names))).all():
        raise ValueError(f"the pipeline gave a label outside the {len(names)} classes")
    rows = zip(labels.tolist(), scores.tolist(), segments.tolist(), strict=True)
    return [{"label": names[label], "score": score, "segment": segment} for label, score, segment in rows]


def main(bundle, path, duration_s, precision, repeat):
    if not 0 < duration_s < float("inf"):
        raise ValueError(f"the duration must be a finite number of seconds > 0; got {duration_s}")
    manifest = read_manifest(bundle)
    graph = read(bundle, manifest, "localizer", precision)  # the pipeline; format 1 calls its role so
    names, embeddings = read_bank(read(bundle, manifest, "class_bank"))
    features = np.load(io.BytesIO(contents(path, MOST_FILE_BYTES)))
    inputs = {"class_embeddings": embeddings, "duration_s": np.array([duration_s], np.float32)}
    inputs["features"] = fitted(features, manifest["feature_contract"])
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # nothing burns all cores unasked
    options.log_severity_level = 4  # what goes wrong is raised
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    found = named(*session.run(["segments", "scores", "labels"], inputs), names)
    print(json.dumps({"version": "1.3", "results": {path.stem: found}, "external_data": {}}, ensure_ascii=False))
    if repeat:
        seconds = timeit.repeat(lambda: session.run(None, inputs), number=1, repeat=2 + repeat)[2:]
        print(f"milliseconds: {1000 * np.median(seconds):.3f}", file=sys.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path, help="the bundle's folder")
    parser.add_argument("features", type=Path, help="an .npy file, (T, C), float32 or float16")
    parser.add_argument("--duration", type=float, required=True, help="length of the video in seconds")
    parser.add_argument("--precision", default="fp32", help="fp32 or int8")
    parser.add_argument("--graph", choices=["pipeline", "localizer"], help="the pipeline; format 1 calls it localizer")
    parser.add_argument("--repeat", type=int, default=0, help="run N more times and write the median time to stderr")
    given = parser.parse_args()
    failures = (ValueError, TypeError, KeyError, OSError, EOFError, RecursionError, MemoryError, zipfile.BadZipFile)
    try:
        main(given.bundle, given.features, given.duration, given.precision, given.repeat)
    except Exception as problem:
        if not isinstance(problem, failures) and not type(problem).__module__.startswith("onnxruntime"):
            raise
        said = " ".join(f"error: {given.bundle}, {given.features}: {type(problem).__name__}: {problem}".split())
        sys.exit("".join(character if character.isprintable() else "?" for character in said[:900]))
