"""Compare OpenVINO's runs of an encoder's files with its tower: the same check that the files pass in ONNX Runtime."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stale_edge.bundle.encoder_folder import EncoderManifest
from stale_edge.config.runtimes import PRECISIONS, RUNTIMES
from stale_edge.errors import BundleError, MissingExtraError
from stale_edge.exporting.parity.encoder_parity import (
    EncoderData,
    compare_encoder,
    encoder_parity_json,
    encoder_parity_text,
)
from stale_edge.exporting.parity.result import Parity
from stale_edge.progress import Progress
from stale_edge.runtime.encoder_engines import EncoderRun
from stale_edge.runtime.visual_encoder import VisualEncoder
from stale_edge.segments import FloatArray

RUNTIME = "openvino"


@dataclass(frozen=True)
class ComparedEngine:
    """One precision in OpenVINO. parity: None if this machine cannot run it, then `reason` says why."""

    precision: str
    parity: Parity | None
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `passed` is null where nothing was compared."""
        compared = {"passed": None, "failures": []} if self.parity is None else encoder_parity_json(self.parity)
        return {**compared, "runtime": RUNTIME, "precision": self.precision, "reason": self.reason}

    def to_text(self) -> str:
        """Describe the comparison in one line."""
        if self.parity is None:
            return f"{RUNTIME} {self.precision}: not compared: {self.reason}"
        refused = f"; refused: {'; '.join(self.parity.failures)}" if self.parity.failures else ""
        return f"{RUNTIME} {self.precision}, {encoder_parity_text(self.parity)}{refused}"


def compare_engines(
    manifest: EncoderManifest,
    folder: Path,
    precisions: Sequence[str],
    data: EncoderData,
    wanted: FloatArray,
    *,
    progress: Progress,
) -> tuple[ComparedEngine, ...]:
    """Run the files of a folder with OpenVINO in every precision that it has, and compare with the tower.

    Args:
        manifest: names the files.
        precisions: asked for; others are left out.
        wanted: (N, C), the tower's features.

    Returns:
        One entry per precision that OpenVINO runs; none where it is not installed.

    Raises:
        MissingExtraError: a precision was asked for that only OpenVINO runs, and it is not installed.
    """
    possible = [precision for precision in precisions if precision in RUNTIMES[RUNTIME].precisions]
    if importlib.util.find_spec("openvino") is None:
        only = [precision for precision in possible if precision not in RUNTIMES["onnxruntime"].precisions]
        if only:
            raise MissingExtraError(
                f'precision {", ".join(only)} is run by OpenVINO alone: pip install "stale-edge[openvino]", or leave '
                "it out of --precisions"
            )
        return ()
    entries = {entry.precision: entry for entry in manifest.files}
    compared = []
    for done, precision in enumerate(possible):
        progress("compare OpenVINO", done, len(possible), precision)
        path = folder / entries[PRECISIONS[precision].file].path
        try:
            encoder = VisualEncoder(manifest, path, EncoderRun(RUNTIME, precision))
        except BundleError as error:
            compared.append(ComparedEngine(precision, None, str(error)))
            continue
        parity = compare_encoder(data, wanted, encoder.embed, file=path.name, precision=precision)
        compared.append(ComparedEngine(precision, parity))
    progress("compare OpenVINO", len(possible), len(possible), "")
    return tuple(compared)
