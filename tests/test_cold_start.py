"""The imports of each command. bench/cold_start.py measures the time, these tests check its cause."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny

NEVER = {
    *("torch", "transformers", "safetensors", "tokenizers", "fvcore", "accelerate"),
    *("onnx", "onnxscript", "openvino", "av", "PIL", "cv2", "matplotlib", "jinja2", "h5py", "pyarrow", "ray"),
    *("pandas", "scipy", "sklearn", "IPython"),
}
"""What detecting in features with ONNX Runtime does not need: extras, and what comes with them."""
ONLY_FOR_HELP = {"typer.rich_utils", "rich.markdown", "rich.traceback", "markdown_it", "pygments"}
"""typer's formatted help and errors: half of what `--help` imports, by time."""
ONLY_FOR_WORK = {"numpy", "onnxruntime", "rich.progress", "stale_edge.runtime", "stale_edge.bundle"}


def _imported(*arguments: str) -> set[str]:
    """Run a command in a process of its own; the modules it had imported at its end."""
    script = (
        "import json, sys\nfrom stale_edge.cli import main\n"
        f"sys.argv = ['stale-edge', *{list(arguments)!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "sys.stderr.write('\\n' + json.dumps(sorted(sys.modules)))\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return set(json.loads(result.stderr.splitlines()[-1]))


@pytest.mark.parametrize("output_format", ["json", "csv", "srt"])
def test_detect_imports_what_it_needs(output_format: str, tmp_path: Path) -> None:
    bundle = tiny.write(tmp_path / "bundle")
    np.save(tmp_path / "features.npy", tiny.features(40))
    features = str(tmp_path / "features.npy")
    found = _imported("detect", str(bundle), features, "--duration", "30", "--format", output_format)
    assert "onnxruntime" in found
    assert not found & (NEVER | ONLY_FOR_HELP)


@pytest.mark.parametrize("command", [[], ["detect"], ["bench"], ["train"]], ids=" ".join)
def test_help_imports_neither_numpy_nor_a_runtime(command: list[str]) -> None:
    assert not _imported(*command, "--help") & (NEVER | ONLY_FOR_WORK)


def test_evaluating_a_bundle_imports_no_training(tmp_path: Path) -> None:
    bundle = tiny.write(tmp_path / "bundle")
    data = tmp_path / "data"
    (data / "features").mkdir(parents=True)
    np.save(data / "features" / "v_1.npy", tiny.features(40))
    action = {"label": tiny.NAMES[0], "segment": [2.0, 8.0]}
    database = {"v_1": {"duration": 30.0, "subset": "validation", "annotations": [action]}}
    text = json.dumps({"version": "1.3", "taxonomy": [], "database": database})
    (data / "annotations.json").write_text(text, encoding="utf-8")
    found = _imported("evaluate", str(bundle), "--data", str(data))
    assert "stale_edge.runtime.evaluate" in found
    assert not found & NEVER
