"""Masks of the snippets that decoding reads: which they are, and that each is what eq. 8 says."""

import numpy as np
import pytest

from stale_edge.config import DecodeConfig
from stale_edge.decoding import decode_arrays, masks_of, voting_snippets

WIDTH = 3


def _networks(T: int, *, seed: int = 0, width: int = WIDTH) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    n = width + 1
    networks = rng.normal(0, 0.7, (T, n * (2 * width + 4))).astype(np.float32)
    features = rng.normal(0, 1, (width + 2, T)).astype(np.float32)
    features[width] = np.linspace(-4, 4, T)
    features[width + 1] = 1
    return networks, features


def _mask(networks: np.ndarray, features: np.ndarray, i: int) -> np.ndarray:
    """Equation 8 for snippet i, layer by layer in float64."""
    width = len(features) - 2
    n = width + 1
    w1, slope, b1, w2, w3 = np.split(networks[i].astype(np.float64), np.cumsum([n * width, n, n, n * n]))
    channels, position = features[:width].astype(np.float64), features[width].astype(np.float64)
    hidden = w1.reshape(n, width) @ channels + slope[:, None] * (position - position[i]) + b1[:, None]
    hidden = np.maximum(w2.reshape(n, n) @ np.maximum(hidden, 0), 0)
    return 1 / (1 + np.exp(-(w3 @ hidden)))


@pytest.mark.parametrize("T", [1, 2, 63, 64, 65, 200])
def test_each_mask_is_what_its_network_says(T: int) -> None:
    networks, features = _networks(T, seed=T)
    snippets = sorted({0, T // 2, T - 1})
    masks = masks_of(snippets, networks=networks, features=features)
    assert masks.shape == (T, T)
    assert masks.dtype == np.float32
    for i in range(T):
        wanted = _mask(networks, features, i) if i in snippets else np.zeros(T)
        np.testing.assert_allclose(masks[i], wanted, atol=2e-6)


def test_saturated_networks_stay_between_zero_and_one() -> None:
    networks, features = _networks(40, seed=3)
    masks = masks_of(range(40), networks=networks * 1e4, features=features)
    assert np.isfinite(masks).all()
    assert masks.min() >= 0
    assert masks.max() <= 1
    assert {0.0, 1.0} <= set(np.round(masks, 6).ravel().tolist())


def test_what_is_no_number_is_not_hidden() -> None:
    networks, features = _networks(5)
    networks[2, -1] = np.nan
    masks = masks_of([1, 2], networks=networks, features=features)
    assert np.isfinite(masks[1]).all()
    assert np.isnan(masks[2]).all()


@pytest.mark.parametrize("config", [DecodeConfig(), DecodeConfig(top_snippets=4), DecodeConfig(class_threshold=0.0)])
@pytest.mark.parametrize("seed", range(5))
def test_decoding_reads_no_other_mask(config: DecodeConfig, seed: int) -> None:
    rng = np.random.default_rng(seed)
    T = 50
    logits = rng.normal(0, 2, (7, T)).astype(np.float32)
    masks = rng.uniform(0, 1, (T, T)).astype(np.float32)
    voting = voting_snippets(logits, config=config)
    assert voting == sorted(set(voting))
    assert 0 < len(voting) <= config.top_snippets
    few = np.zeros_like(masks)
    few[voting] = masks[voting]
    for got, wanted in zip(
        decode_arrays(logits, few, config=config), decode_arrays(logits, masks, config=config), strict=True
    ):
        np.testing.assert_array_equal(got, wanted)
    assert len(decode_arrays(logits, masks, config=config).scores) > 0
    assert len(decode_arrays(logits, masks - few, config=config).scores) == 0  # and these it does read


def test_nobody_votes_where_background_is_sure() -> None:
    logits = np.zeros((4, 6), np.float32)
    logits[-1] = 20
    assert voting_snippets(logits, config=DecodeConfig()) == []
    assert not masks_of([], networks=_networks(6)[0], features=_networks(6)[1]).any()


def test_what_does_not_fit_is_refused() -> None:
    networks, features = _networks(6)
    with pytest.raises(
        ValueError, match=r"networks must have shape \(6, 40\) for features of 3 channels; got \(5, 40\)"
    ):
        masks_of([0], networks=networks[:5], features=features)
    with pytest.raises(ValueError, match=r"rows must be snippets in \[0, 6\); rows\[1\] is 6"):
        masks_of([0, 6], networks=networks, features=features)
    with pytest.raises(ValueError, match=r"rows must be snippets in \[0, 6\); rows\[0\] is -1"):
        masks_of([-1], networks=networks, features=features)
    with pytest.raises(ValueError, match=r"features must have shape \(width \+ 2, T\)"):
        masks_of([0], networks=networks, features=features[:2])
    with pytest.raises(ValueError, match=r"class_logits must have shape \(K \+ 1, T\)"):
        voting_snippets(np.zeros((1, 3), np.float32), config=DecodeConfig())
    with pytest.raises(ValueError, match="class_logits row 1, snippet 2 is nan"):
        voting_snippets(np.array([[0, 0, 0], [0, 0, np.nan]], np.float32), config=DecodeConfig())
