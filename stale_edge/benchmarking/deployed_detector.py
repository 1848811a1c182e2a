"""A bundle's detector, opened as in `detect`, inside the measuring process."""

from pathlib import Path

import numpy as np

from stale_edge.benchmarking.jobs import Job
from stale_edge.benchmarking.output_check import class_axis
from stale_edge.bundle import read_bundle
from stale_edge.config import DecodeConfig, DecodeSettings
from stale_edge.config.runtimes import file_for
from stale_edge.runtime.backends import open_backend
from stale_edge.runtime.decoded_outputs import complete_masks, decoded_outputs
from stale_edge.runtime.devices import Processor
from stale_edge.segments import FloatArray


class DeployedDetector:
    """Runs a detector with the bundle's own classes, and returns the outputs that decoding reads.

    If decoding reads only the masks of snippets that vote for a class, masks are made for the largest possible number
    of votes, evenly spread over the video: with the random weights of a benchmark, no snippet votes reliably.

    Args:
        job: bundle, runtime, precision and threads.

    Raises:
        StaleEdgeError: an artifact or a package that the job needs is missing.
    """

    def __init__(self, job: Job) -> None:
        bundle, (files, stored) = read_bundle(Path(job.bundle)), file_for(job.runtime, job.precision)
        entry = bundle.detector(runtime=files, precision=stored)
        file = bundle.checked_path(entry)
        self._decode = bundle.manifest.decode
        self._backend = open_backend(
            file,
            runtime=job.runtime,
            precision=job.precision,
            processor=Processor(job.threads),
            outputs=decoded_outputs(file, [spec.name for spec in entry.outputs], self._decode),
            class_embeddings=bundle.class_bank.embeddings,
        )
        self._embeddings = bundle.class_bank.embeddings
        self.class_axis = class_axis(entry.outputs)
        self.channels = bundle.manifest.feature_contract.channels
        self.model_bytes = entry.bytes

    @property
    def fixed_batch(self) -> int | None:
        """Fixed number of videos per call, if the file has one; None: any number."""
        inputs = self._backend.inputs or ()
        fixed = next((spec.shape[0] for spec in inputs if spec.name == "features"), None)
        return fixed if isinstance(fixed, int) else None

    def run(self, features: FloatArray) -> dict[str, FloatArray]:
        """Run features (B, T, C) float32; returns the outputs that the decode policy reads, by name."""
        outputs = self._backend.run(features, self._embeddings)
        return complete_masks(outputs, self._decode, snippets=most_voting(features.shape[1], self._decode))


def most_voting(length: int, config: DecodeSettings) -> list[int]:
    """List the largest possible number of voting snippets out of T = `length`, evenly spread."""
    if not isinstance(config, DecodeConfig):
        return []  # the other policies read no masks
    return [int(snippet) for snippet in np.linspace(0, length - 1, min(length, config.top_snippets))]
