"""Record the C++ core's benchmarks: core.py BUILD --json bench/results/NAME.json

    cmake -S . -B build/bench -G Ninja -DSTALE_EDGE_TESTS=OFF -DSTALE_EDGE_BENCH=ON && cmake --build build/bench
    python bench/core.py build/bench --json bench/results/intel-avx512-vnni-core.json

Runs `bench_soft_nms` and `bench_decode`, prints what they print, and stores their Markdown tables. They measure
processor time.
"""

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any

from stale_edge.benchmarking.cpus import load_average
from stale_edge.machine import machine_card

PROGRAMS = {"soft_nms": "bench_soft_nms", "post_processing": "bench_decode"}


def main() -> None:
    """Run, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    given = parser.parse_args()
    record: dict[str, Any] = {"schema": "stale-edge-core/1", "machine": machine_card() | {"load": load_average()}}
    for name, program in PROGRAMS.items():
        printed = subprocess.run([given.build / program], check=True, capture_output=True, text=True).stdout
        print(printed)
        record[name] = markdown_rows(printed)
    given.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def markdown_rows(text: str) -> list[list[str]]:
    """Read the cells of a Markdown table, its head first.

    Raises:
        ValueError: there is none.
    """
    lines = [line for line in text.splitlines() if line.startswith("|")]
    if len(lines) < 3:
        raise ValueError(f"expected a Markdown table of a head, a rule and rows; got {text[:200]!r}")
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in (lines[0], *lines[2:])]


if __name__ == "__main__":
    main()
