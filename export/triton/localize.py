"""Features to detections through a Triton server: localize.py http://HOST:8000 FEATURES.npy --duration SECONDS.

The feature contract, the class names and the decode settings come from the server itself, so a client needs no bundle.
Needs stale-edge (torch-free) for resampling and decoding; the rest is Python.
"""

import argparse
import json
import math
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np

from stale_edge.bundle import FeatureContract
from stale_edge.bundle.feature_contract import FORMAT, FORMAT_1
from stale_edge.config import DecodeSettings
from stale_edge.config.plain import from_plain
from stale_edge.data import resample
from stale_edge.decoding import decoder_of
from stale_edge.decoding.policies import POLICIES, decode_outputs
from stale_edge.runtime import checked_features
from stale_edge.runtime.contract import time_grid


def described(url):
    """Read what the served model says of itself: contract, class names, decode settings, and the outputs they read."""
    with urllib.request.urlopen(f"{url}/config") as answer:
        config = json.load(answer)
    said = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
    if said.get("stale_edge.format") not in (FORMAT, FORMAT_1):
        got = said.get("stale_edge.format")
        raise ValueError(f"{url} is of format {got!r:.80}; this program reads {FORMAT} and {FORMAT_1}")
    contract = FeatureContract(**json.loads(said["stale_edge.feature_contract"]))
    decode_settings = json.loads(said["stale_edge.decode"])
    if decode_settings.get("policy") not in POLICIES:
        got = decode_settings.get("policy")
        raise ValueError(f"decode.policy is {got!r:.80}; this program decodes {', '.join(POLICIES)}")
    settings, served = from_plain(DecodeSettings, decode_settings, "decode"), [one["name"] for one in config["output"]]
    decoder = decoder_of(settings)
    missing = [name for name in decoder.reads if name not in served]
    if missing:
        raise ValueError(
            f"decode.policy {settings.policy} reads {', '.join(missing)}; {url} serves {', '.join(served)}"
        )
    names = [name for name in (*decoder.reads, *decoder.may_read) if name in served]
    return contract, json.loads(said["stale_edge.class_names"]), settings, names


def infer(url, features, names):
    """Run (1, T, C) float32 through the server, tensors as raw bytes behind the JSON header; gives outputs by name."""
    given = features.tobytes()
    tensor = {"name": "features", "shape": features.shape, "datatype": "FP32"}
    header = {
        "inputs": [{**tensor, "parameters": {"binary_data_size": len(given)}}],
        "outputs": [{"name": name, "parameters": {"binary_data": True}} for name in names],
    }
    head = json.dumps(header).encode()
    request = urllib.request.Request(f"{url}/infer", head + given)
    request.add_header("Inference-Header-Content-Length", str(len(head)))
    request.add_header("Content-Type", "application/octet-stream")
    with urllib.request.urlopen(request) as answer:
        content, length = answer.read(), int(answer.headers["Inference-Header-Content-Length"])
    found, start = {}, length
    for output in json.loads(content[:length])["outputs"]:
        end = start + output["parameters"]["binary_data_size"]
        found[output["name"]] = np.frombuffer(content[start:end], np.float32).reshape(output["shape"])
        start = end
    return {name: found[name][0] for name in names}


def main(server, model, path, duration_s):
    if not (math.isfinite(duration_s) and duration_s > 0):
        raise ValueError(f"the duration must be a finite number of seconds > 0; got {duration_s}")
    url = f"{server.rstrip('/')}/v2/models/{model}"
    contract, names, settings, read = described(url)
    features = np.load(path, allow_pickle=False)
    values = checked_features(features, contract, any_length=contract.resampling == "linear")
    if values.ndim != 2:
        raise ValueError(f"one video is asked for, features (T, C); got shape {values.shape}")
    if contract.resample_to is not None:
        values = resample(values, contract.resample_to)
    outputs = infer(url, values[None], read)
    grid = time_grid(contract, duration_s=duration_s)
    rows = decode_outputs(outputs, class_names=names, grid=grid, config=settings)
    found = [{"label": row.label, "score": row.score, "segment": [row.start_s, row.end_s]} for row in rows]
    print(json.dumps({"version": "1.3", "results": {path.stem: found}, "external_data": {}}, ensure_ascii=False))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("server", help="http://HOST:PORT")
    parser.add_argument("features", type=Path)
    parser.add_argument("--duration", type=float, required=True, help="length of the video in seconds")
    parser.add_argument("--model", default="stale-edge-fp32")
    arguments = parser.parse_args()
    try:
        main(arguments.server, arguments.model, arguments.features, arguments.duration)
    except (OSError, ValueError, KeyError, urllib.error.URLError) as error:
        sys.exit(f"localize: {' '.join(str(error).split())}")
