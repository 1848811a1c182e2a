"""Training in child processes, alone or two at once."""

import os
import socket
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent
# Two processes add the same numbers in another order; Adam turns a difference of 1e-7 in a tiny gradient into more.
TWO_PROCESSES = 2e-4


def run_on_two(script: Path, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a Python file on two processes under torchrun."""
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1"]
    return run_python([*launcher, "--master-port", str(_free_port()), str(script), *arguments])


def run_python(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run Python with the modules of the tests and of this checkout."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, env=environment, timeout=240
    )


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
