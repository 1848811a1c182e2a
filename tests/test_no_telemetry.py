"""Nothing about a user is collected: ONNX Runtime keeps no device id and no events where this package runs it."""

import os
import subprocess
import sys
from pathlib import Path

import tiny

DETECT = """
import numpy, sys
import stale_edge
found = stale_edge.load_bundle(sys.argv[1]).detect(numpy.zeros((12, 8), numpy.float32), duration_s=20.0)
"""


def _run(home: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with an empty home; ONNX Runtime is silent of itself where a variable names a CI machine."""
    dropped = ("ORT_", "CI", "TF_BUILD", "GITHUB_", "XDG_", "BUILD_", "JENKINS_", "GITLAB_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    environment = {**kept, "HOME": str(home), "USERPROFILE": str(home)}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, check=True
    )


def test_detecting_leaves_no_device_id(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    _run(home, DETECT, str(tiny.write(tmp_path / "bundle")))
    assert not list(home.rglob("*onnxruntime*"))


def test_a_setting_of_the_user_stays(tmp_path: Path) -> None:
    code = "import os, stale_edge; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert _run(tmp_path, code).stdout.strip() == "1"
    mine = "import os; os.environ['ORT_DISABLE_TELEMETRY'] = '0'; " + code
    assert _run(tmp_path, mine).stdout.strip() == "0"
