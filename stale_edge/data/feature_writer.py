"""Writing a feature file row by row, in constant memory, whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stale_edge.bundle.files import naming, sync_folder
from stale_edge.bundle.locks import beside
from stale_edge.segments import FloatArray


class FeatureWriter:
    """A `.npy` file being written; created by `write_features`."""

    def __init__(self, temporary: Path, channels: int) -> None:
        self.n_snippets = 0
        self._channels = channels
        self._file = temporary.open("xb")
        self._header()

    def add(self, features: FloatArray) -> None:
        """Append snippets (n, C).

        Raises:
            ValueError: the width is not C.
        """
        if features.ndim != 2 or features.shape[1] != self._channels:
            raise ValueError(f"features must have shape (n, {self._channels}); got {features.shape}")
        self._file.write(np.ascontiguousarray(features, dtype=np.float32).tobytes())
        self.n_snippets += len(features)

    def close(self) -> None:
        """Write the number of snippets and flush everything to the disk."""
        self._file.seek(0)
        self._header()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def abandon(self) -> None:
        """Close an unfinished file."""
        self._file.close()

    def _header(self) -> None:
        # numpy leaves room for the first axis to grow, so that the header's length does not depend on it.
        shape = (self.n_snippets, self._channels)
        header = {"descr": np.dtype(np.float32).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)


@contextlib.contextmanager
def write_features(path: Path, *, channels: int) -> Iterator[FeatureWriter]:
    """Write the features of one video to an `.npy` file; if the block raises or is killed, an existing file stays.

    Args:
        path: the file; its folder must exist.
        channels: C.

    Raises:
        OSError: the file cannot be written.
    """
    temporary = beside(path)
    try:
        with naming(path):
            writer = FeatureWriter(temporary, channels)
            try:
                yield writer
            except BaseException:
                writer.abandon()
                raise
            writer.close()
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
