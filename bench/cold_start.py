"""Time processes from their start to their end: cold_start.py BUNDLE [--repeats 11] [--json FILE].

Compares `stale-edge --help` and `stale-edge detect` on a feature file with a bare interpreter and with one that imports
numpy and onnxruntime, which every runtime of a bundle needs. All take turns, in a new random order each round. Prints a
Markdown table of medians. Bytecode and files are cached, as from the second start on.
"""

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from stale_edge.benchmarking.cpus import load_average
from stale_edge.machine import machine_card

BASE = "import numpy, onnxruntime"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    load = load_average()
    contract = json.loads((arguments.bundle / "manifest.json").read_text(encoding="utf-8"))["feature_contract"]
    with tempfile.TemporaryDirectory() as work:
        features = Path(work, "features.npy")
        shape = (contract["length"] or 200, contract["channels"])
        np.save(features, np.random.default_rng(0).standard_normal(shape, dtype=np.float32))
        program = str(Path(sys.executable).with_name("stale-edge"))
        detect = [
            "detect",
            str(arguments.bundle),
            str(features),
            "--duration",
            "100",
            "--out",
            str(Path(work, "out.json")),
        ]
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            f'python -c "{BASE}"': [sys.executable, "-c", BASE],
            "stale-edge --help": [program, "--help"],
            f"stale-edge detect, T = {shape[0]}": [program, *detect],
            "the same, int8": [program, *detect, "--precision", "int8"],
        }
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = str(Path(work, "bytecode"))
        wall_s, cpu_s = measure(commands, environment, arguments.repeats)
    base = f'python -c "{BASE}"'
    rows = {
        name: {
            "seconds": statistics.median(wall_s[name]),
            "cpu_seconds": statistics.median(cpu_s[name]),
            "ratio": statistics.median(a / b for a, b in zip(cpu_s[name], cpu_s[base], strict=True)),
        }
        for name in commands
    }
    print("| process | seconds | processor seconds | to the second row |\n|---|---|---|---|")
    for name, row in rows.items():
        print(f"| `{name}` | {row['seconds']:.3f} | {row['cpu_seconds']:.3f} | {row['ratio']:.2f} x |")
    if arguments.json:
        machine = machine_card() | {"load_average_before": load}
        record = {"schema": "stale-edge-cold-start/1", "machine": machine, "repeats": arguments.repeats, "rows": rows}
        arguments.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def measure(
    commands: dict[str, list[str]], environment: dict[str, str], repeats: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Run each command once untimed, then `repeats` times; gives wall and processor seconds by name."""
    wall_s: dict[str, list[float]] = {name: [] for name in commands}
    cpu_s: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(-1, repeats):
        for name in random.sample(list(commands), len(commands)):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            start = time.perf_counter()
            subprocess.run(commands[name], env=environment, check=True, capture_output=True)
            end = time.perf_counter()
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            if turn >= 0:
                wall_s[name].append(end - start)
                cpu_s[name].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return wall_s, cpu_s


if __name__ == "__main__":
    main()
