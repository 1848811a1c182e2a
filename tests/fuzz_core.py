"""Run the libFuzzer programs of the C++ core, which `make fuzz` builds with Clang, and count their inputs."""

import re
import subprocess
from pathlib import Path

PROGRAMS = Path("build/fuzz-core/csrc/fuzz")
SEEDS = Path("csrc/fuzz/seeds")
FOUND = Path("build/fuzz")
LONGEST = 400
"""Bytes of an input; the targets read fewer."""


def run_core(seconds: float, *, seed: int) -> tuple[int, int]:
    """Fuzz every target for some seconds; print counts, and where the inputs are that end a program.

    Returns:
        Number of inputs, and of programs that ended early.
    """
    programs = [path for target in sorted(SEEDS.iterdir()) if (path := PROGRAMS / f"fuzz_{target.name}").exists()]
    if not programs:
        print("the C++ core is not fuzzed: `make fuzz` builds its programs with clang++, if that is installed")
    total = failed = 0
    for program in programs:
        target = program.name.removeprefix("fuzz_")
        corpus = FOUND / "corpus" / target
        corpus.mkdir(parents=True, exist_ok=True)
        limits = [
            f"-max_total_time={max(1, round(seconds))}",
            f"-max_len={LONGEST}",
            "-timeout=20",
            f"-seed={seed + 1}",
        ]
        options = [*limits, "-print_final_stats=1", f"-artifact_prefix={FOUND}/{target}-"]
        command = [str(program), *options, str(corpus), str(SEEDS / target)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, errors="replace")
        counted = re.search(r"number_of_executed_units:\s*(\d+)", ran.stderr)
        count = int(counted.group(1)) if counted else 0
        total += count
        failed += ran.returncode != 0
        print(f"core, {target}: {count} inputs", flush=True)
        if ran.returncode:
            print(ran.stderr[-2000:], flush=True)
    return total, failed
