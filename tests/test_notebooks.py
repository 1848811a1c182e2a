"""The notebooks of the site run from top to bottom; a cell that raises fails the test."""

from pathlib import Path

import nbclient
import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs" / "notebooks").glob("*.ipynb"))
SAID = {
    "from-data-to-detections": ("detector-fp32.onnx", "average mAP on classes it was not trained on", "image/png"),
    "map-and-soft-nms": ("exact                  average mAP 100.0 %",),
}


# Jupyter's own files and an event loop's, in the process of the kernel's client.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_says_what_it_should(path: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = str([output for cell in notebook.cells for output in cell.get("outputs", ())])
    assert all(text in outputs for text in SAID[path.stem]), outputs[:2000]


def test_every_notebook_is_on_the_site() -> None:
    pages = (Path(__file__).parents[1] / "mkdocs.yml").read_text(encoding="utf-8")
    assert [path.stem for path in NOTEBOOKS] == sorted(SAID)
    assert all(f"notebooks/{path.stem}.md" in pages for path in NOTEBOOKS)
