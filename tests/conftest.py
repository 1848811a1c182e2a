"""Fixtures that every room's tests share."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def golden() -> Path:
    """Golden cases that travel with the repository."""
    return ROOT / "tests" / "golden"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the checkout (`../shared/data`, or STALE_EDGE_SHARED); tests that need it skip without it."""
    folder = Path(os.environ.get("STALE_EDGE_SHARED", ROOT.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"real data is not beside this checkout: {folder} does not exist (set STALE_EDGE_SHARED)")
    return folder
