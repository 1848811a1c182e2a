"""Time and memory of the paper architecture's detector with many classes.

    python bench/many_classes.py --json bench/results/many-classes.json

Random weights of full size, T = 200, one thread, each row in a process of its own. `own`: `load_bundle`, where what
depends on the bundle's own classes alone is computed once, in parts. `others`: the same with another vocabulary, which
the first call prepares. `plain`: the file in a plain session, which computes all of it again in every call.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROWS = (
    ("onnxruntime", "fp32", "own"),
    ("onnxruntime", "int8", "own"),
    ("openvino", "fp32", "own"),
    ("onnxruntime", "fp32", "others"),
    ("onnxruntime", "fp32", "plain"),
)
PAIRS = [("onnxruntime", "fp32"), ("onnxruntime", "int8")]


def measure(bundle: Path, row: tuple[str, str, str], *, length: int, repeats: int) -> dict[str, Any]:
    """Open a detector and run it on one video again and again; memory is this process' own peak."""
    from stale_edge.benchmarking.cpus import peak_rss_bytes

    runtime, precision, classes = row
    started = time.perf_counter()
    network, n_classes = (plain if classes == "plain" else opened)(bundle, row, length)
    open_s = time.perf_counter() - started
    seconds, cpu_seconds = [], []
    for _ in range(repeats + 1):
        worked = time.process_time()
        seconds.append(network())
        cpu_seconds.append(time.process_time() - worked)
    first_s, *seconds = seconds
    return {
        "runtime": runtime,
        "precision": precision,
        "classes": classes,
        "n_classes": n_classes,
        "open_s": open_s,
        "first_s": first_s,
        "seconds": {"median": statistics.median(seconds), "min": min(seconds), "max": max(seconds)},
        "cpu_seconds": statistics.median(cpu_seconds[1:]),
        "peak_rss_bytes": peak_rss_bytes(),
    }


def opened(bundle: Path, row: tuple[str, str, str], length: int) -> tuple[Callable[[], float], int]:
    """Open a bundle as `detect` does; each call gives the seconds in the network."""
    from stale_edge.benchmarking.synthetic import random_features
    from stale_edge.runtime import load_bundle

    runtime, precision, classes = row
    localizer = load_bundle(bundle, runtime=runtime, precision=precision)
    bank = localizer.class_bank
    if classes == "others":
        bank = bank.select(bank.names[::-1])
    features = random_features(length, localizer.feature_contract.channels, seed=1)
    return (
        lambda: localizer.measure(features, duration_s=100.0, class_bank=bank).timings.detector_s,
        len(bank),
    )


def plain(bundle: Path, row: tuple[str, str, str], length: int) -> tuple[Callable[[], float], int]:
    """Open the file of a precision in ONNX Runtime as it is."""
    import onnxruntime

    from stale_edge.benchmarking.synthetic import random_features
    from stale_edge.bundle import read_bundle

    opened = read_bundle(bundle)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    file = bundle / opened.detector(runtime="onnxruntime", precision=row[1]).path
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    features = random_features(length, opened.manifest.feature_contract.channels, seed=1)
    embeddings = opened.class_bank.embeddings

    def call() -> float:
        started = time.perf_counter()
        session.run(None, {"features": features[None], "class_embeddings": embeddings})
        return time.perf_counter() - started

    return call, len(embeddings)


def main() -> None:
    """Make the bundles, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--classes", type=int, nargs="+", default=[200, 10_000])
    parser.add_argument("--length", type=int, default=200, help="T")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--work", type=Path, help="folder for the bundles, kept; default: a temporary one")
    parser.add_argument("--child", nargs=3, metavar=("RUNTIME", "PRECISION", "CLASSES"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        row = measure(given.work, tuple(given.child), length=given.length, repeats=given.repeats)
        given.json.write_text(json.dumps(row), encoding="utf-8")
        return
    from stale_edge.benchmarking.cpus import load_average
    from stale_edge.machine import machine_card

    card = machine_card() | {"load_average_before": load_average()}
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for n_classes in given.classes:
            bundle = (given.work or Path(scratch)) / f"paper-{n_classes}"
            if not bundle.exists():
                make(bundle, n_classes)
            for row in ROWS:
                answer = Path(scratch, "row.json")
                options = ["--work", bundle, "--length", given.length, "--repeats", given.repeats, "--json", answer]
                command = [sys.executable, __file__, *map(str, options), "--child", *row]
                subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
                rows.append(json.loads(answer.read_text(encoding="utf-8")))
                print(rows[-1], flush=True)
    record = {
        "schema": "stale-edge-many-classes/1",
        "machine": card | {"load_average_after": load_average()},
        "length": given.length,
        "protocol": f"one thread; median of {given.repeats} calls after one; memory is the process' peak; "
        "cpu_seconds: processor time of a call with its post-processing",
        "rows": rows,
    }
    given.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def make(bundle: Path, n_classes: int) -> None:
    """Write a bundle of full size with random weights and class embeddings."""
    from stale_edge.benchmarking.network_sizes import Network
    from stale_edge.benchmarking.torch_rows.made_bundles import make_bundle
    from stale_edge.config import ModelConfig
    from stale_edge.progress import silent

    network = Network(ModelConfig(architecture="paper"), n_classes)
    make_bundle(bundle, network, PAIRS, seed=0, progress=silent)


if __name__ == "__main__":
    main()
