"""Optional packages: check that they are installed, and raise an error if not."""

import contextlib
import importlib.util
from collections.abc import Iterator

from stale_edge.errors import MissingExtraError

NEEDS_TORCH = (
    "a network without a bundle, and every PyTorch row, needs torch, which is not installed: name a bundle, or "
    'pip install "stale-edge[train,export]"'
)


def has_torch() -> bool:
    """Check whether torch is installed, without importing it."""
    return importlib.util.find_spec("torch") is not None


@contextlib.contextmanager
def needs_extra(reason: str) -> Iterator[None]:
    """Turn a failed import inside the block into a one-line error that names the package to install.

    Raises:
        MissingExtraError: an import failed; the message is `reason`.
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(reason) from error
