"""torch.export on the CPU, for .pt2 files. torch is imported when the first file is opened."""

from pathlib import Path
from typing import Any

from stale_edge.runtime.torchscript_backend import TorchScriptBackend


class TorchExportBackend(TorchScriptBackend):
    """A backend whose module has the inputs and outputs of a TorchScript detector."""

    RUNTIME = "torch-export"

    @staticmethod
    def _load(torch: Any, path: Path, device: str) -> Any:
        del device  # only the CPU (`config.runtimes`)
        return torch.export.load(str(path)).module()
