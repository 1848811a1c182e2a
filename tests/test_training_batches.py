"""Batches, shares of processes, dropout over the global batch, and the dataset that items come from."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from training_data import write_data_set

from stale_edge.data import open_data_set, resample
from stale_edge.data.dataset import SnippetDataset
from stale_edge.errors import DataError, FeatureContractError
from stale_edge.training.batches import epoch_batches, share_of
from stale_edge.training.dropout import GlobalBatchDropout


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 3), st.integers(1, 5))
def test_an_epoch_sees_every_video_once(n_videos: int, batch_size: int, seed: int, epoch: int) -> None:
    batches = epoch_batches(n_videos, batch_size=batch_size, seed=seed, epoch=epoch)
    assert sorted(video for batch in batches for video in batch) == list(range(n_videos))
    assert all(len(batch) == batch_size for batch in batches[:-1])


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    first = epoch_batches(50, batch_size=50, seed=1, epoch=1)
    torch.randn(7)  # the global generator has no say
    assert epoch_batches(50, batch_size=50, seed=1, epoch=1) == first
    assert epoch_batches(50, batch_size=50, seed=1, epoch=2) != first
    assert epoch_batches(50, batch_size=50, seed=2, epoch=1) != first


@given(st.integers(1, 17), st.integers(1, 6))
def test_shares_cover_a_batch_with_weights_that_sum_to_one(n_videos: int, n_processes: int) -> None:
    batch = tuple(range(100, 100 + n_videos))
    shares = [share_of(batch, rank=rank, n_processes=n_processes) for rank in range(n_processes)]
    counted = [item for share in shares for item, weight in zip(share.items, share.weights, strict=True) if weight > 0]
    assert sorted(counted) == list(batch)
    assert sum(sum(share.weights) for share in shares) == pytest.approx(1)
    for share in shares:
        assert len(share.items) >= (2 if n_processes > 1 else 1), "every process takes part in every step"
        assert [batch[row] for row in share.rows] == list(share.items)


class _Attends(nn.Module):
    """Dropout in every way that the detectors use it: on a batch, on what all videos share, inside attention."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Parameter(torch.randn(1, 3, 8))
        self.dropout = nn.Dropout(0.3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = self.dropout(x).unflatten(-1, (2, 4)).transpose(1, 2)
        bias = torch.zeros(x.shape[0], 1, 1, x.shape[1])
        masked = F.scaled_dot_product_attention(heads, heads, heads, attn_mask=bias, dropout_p=0.2)
        scaled = F.scaled_dot_product_attention(heads, heads, heads, dropout_p=0.2, scale=0.1)
        return (masked + scaled).transpose(1, 2).flatten(2) + self.dropout(self.shared).sum()


@pytest.mark.parametrize("rows", [[0, 2, 4], [1, 3]])
def test_dropout_is_that_of_the_global_batch(rows: list[int]) -> None:
    module, x = _Attends(), torch.randn(5, 6, 8)
    torch.manual_seed(1)
    whole = module(x)
    state = torch.get_rng_state()
    torch.manual_seed(1)
    with GlobalBatchDropout(rows, batch_size=5):
        part = module(x[rows])
    torch.testing.assert_close(part, whole[rows], rtol=0, atol=2e-6)  # attention sums in another order
    assert torch.equal(torch.get_rng_state(), state), "and it draws as many numbers"


def test_no_dropout_in_eval_mode() -> None:
    module, x = nn.Dropout(0.5).eval(), torch.randn(2, 3, 4)
    with GlobalBatchDropout([0, 1], batch_size=4):
        assert torch.equal(module(x), x)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data_set(tmp_path_factory.mktemp("data"), n_videos=4)


def _dataset(root: Path, **settings: int) -> SnippetDataset[str]:
    data_set = open_data_set(root)
    return SnippetDataset(
        data_set,
        data_set.videos("training"),
        n_snippets=7,
        channels=settings.pop("channels", 16),
        make_targets=lambda name, video: f"{name} {video.duration_s:g}",
        **settings,
    )


@pytest.mark.parametrize("cache_bytes", [0, 1 << 20])
def test_items_are_resampled_as_everywhere(root: Path, cache_bytes: int) -> None:
    dataset = _dataset(root, cache_bytes=cache_bytes)
    for _ in range(2):
        item = dataset[1]
        raw = np.load(root / "features" / f"{item.video}.npy")
        np.testing.assert_array_equal(item.features.numpy(), resample(raw, 7))
        assert item.targets.startswith(item.video)
    assert (dataset[1].features is dataset[1].features) == bool(cache_bytes)


def test_another_width_is_refused_with_the_file_named(root: Path) -> None:
    with pytest.raises(FeatureContractError, match=r"video_0\.npy.*16"):
        _dataset(root, channels=12)[0]


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    dataset = _dataset(write_data_set(tmp_path, n_videos=4))
    (tmp_path / "features" / "video_1.npy").unlink()
    with pytest.raises(DataError, match="video_1"):
        dataset[1]
