"""Features to detections with numpy and onnxruntime alone: localize.py BUNDLE FEATURES.npy --duration SECONDS."""

import argparse
import hashlib
import json
import sys
import timeit
from pathlib import Path

import numpy as np
import onnxruntime as ort


def read(bundle, manifest, role, precision=None):
    """Read one file of the bundle, its bytes checked."""
    entry = next((file for file in manifest["files"] if (file["role"], file["precision"]) == (role, precision)), None)
    if entry is None:
        raise ValueError(f"the manifest lists no {precision} {role}")
    content = (bundle / entry["path"]).read_bytes()
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise ValueError(f"{entry['path']} has changed: its bytes are not those of the manifest")
    return content


def fitted(features, contract):
    """Check features (T, C) against the feature contract and resample them as it says: (1, T, C) float32."""
    T, C, target = len(features), contract["channels"], contract["resample_to"] or len(features)
    if features.dtype not in (np.float32, np.float16) or features.shape != (T, C) or not T:
        raise ValueError(f"features must be float32 or float16 (T, {C}); got {features.dtype} {features.shape}")
    if not np.isfinite(features).all() or contract["length"] not in (None, target):
        raise ValueError(f"features must be finite, and {contract['length'] or target} snippets; got {T}")
    position = np.maximum((np.arange(target) + 0.5) * (T / target) - 0.5, 0)
    left = np.minimum(position.astype(int), T - 1)
    weight = (position - left).astype(np.float32)[:, None]
    values = features.astype(np.float32)
    return (values[left] * (1 - weight) + values[np.minimum(left + 1, T - 1)] * weight)[None]


def main(bundle, path, duration_s, precision, repeat):
    if not 0 < duration_s < float("inf"):
        raise ValueError(f"the duration must be a finite number of seconds > 0; got {duration_s}")
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    if manifest.get("format") != "stale-edge-bundle/1":
        raise ValueError(f"format {manifest.get('format')!r}; this program reads stale-edge-bundle/1")
    graph, _ = read(bundle, manifest, "localizer", precision), read(bundle, manifest, "class_bank")
    bank, features = np.load(bundle / "class_bank.npz"), np.load(path)  # unpickles nothing
    inputs = {"class_embeddings": bank["embeddings"], "duration_s": np.array([duration_s], np.float32)}
    inputs["features"] = fitted(features, manifest["feature_contract"])
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # nothing burns all cores unasked
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    segments, scores, labels = session.run(["segments", "scores", "labels"], inputs)
    rows = zip(bank["names"][labels].tolist(), scores.tolist(), segments.tolist(), strict=True)
    found = [{"label": label, "score": score, "segment": segment} for label, score, segment in rows]
    print(json.dumps({"version": "1.3", "results": {path.stem: found}, "external_data": {}}, ensure_ascii=False))
    if repeat:
        seconds = timeit.repeat(lambda: session.run(None, inputs), number=1, repeat=2 + repeat)[2:]
        print(f"milliseconds: {1000 * np.median(seconds):.3f}", file=sys.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("features", type=Path)
    parser.add_argument("--duration", type=float, required=True, help="length of the video in seconds")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--graph", choices=["localizer"], help="the one it knows")
    parser.add_argument("--repeat", type=int, default=0, help="localize so many times more, and say how long it takes")
    given = parser.parse_args()
    try:
        main(given.bundle, given.features, given.duration, given.precision, given.repeat)
    except (ValueError, TypeError, OSError, EOFError) as problem:
        sys.exit(f"error: {given.bundle}, {given.features}: {' '.join(str(problem).split())}")
