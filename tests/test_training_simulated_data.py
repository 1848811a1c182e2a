"""Simulated data sets in the space of a text encoder."""

from pathlib import Path

import numpy as np
import pytest

from stale_edge.bundle import ClassBank
from stale_edge.config import SimulateConfig
from stale_edge.data import check, read_features
from stale_edge.errors import CheckpointError, DataError
from stale_edge.model.small_text import small_text_encoder
from stale_edge.model.text import TextEncoder
from stale_edge.training.simulated_data import simulate_with_encoder

CONFIG = SimulateConfig(n_videos=6, n_classes=4, seed=1)
WIDTH = 24


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    small_text_encoder(folder, dim=WIDTH, hidden_dim=16, n_layers=1, n_heads=2)
    return folder


def test_features_are_as_wide_as_the_embeddings_and_the_encoder_comes_along(encoder: Path, tmp_path: Path) -> None:
    data_set = simulate_with_encoder(tmp_path / "data", text_encoder=str(encoder), config=CONFIG)
    assert data_set.feature_spec.channels == WIDTH
    assert read_features(next((tmp_path / "data" / "features").iterdir())).shape[1] == WIDTH
    copied = TextEncoder.load(tmp_path / "data" / "text_encoder")
    assert copied.fingerprint() == TextEncoder.load(encoder).fingerprint()
    bank = ClassBank.load(tmp_path / "data" / "class_bank.npz")
    assert bank.fingerprint == copied.fingerprint()
    expected = copied.encode(bank.names).detach().numpy()
    np.testing.assert_allclose(bank.embeddings, expected, atol=1e-5)  # float32 noise of another batch
    assert check(tmp_path / "data") == []


def test_a_data_set_that_is_there_is_kept(encoder: Path, tmp_path: Path) -> None:
    simulate_with_encoder(tmp_path, text_encoder=str(encoder), config=CONFIG)
    before = (tmp_path / "annotations.json").read_bytes()
    with pytest.raises(DataError, match="already holds"):
        simulate_with_encoder(tmp_path, text_encoder=str(encoder), config=CONFIG)
    assert (tmp_path / "annotations.json").read_bytes() == before


def test_a_folder_without_an_encoder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="empty"):
        simulate_with_encoder(tmp_path / "data", text_encoder=str(tmp_path / "empty"), config=CONFIG)
    assert not (tmp_path / "data").exists()
