"""ActionFormer against the public program: raw answers, padding, sizes."""

import warnings
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from actionformer_cases import made_up, read_case

from stale_edge.errors import ConfigError
from stale_edge.model.actionformer import NAMED_SETTINGS, ActionFormer, ActionFormerConfig
from stale_edge.model.actionformer.layers import DropPath
from stale_edge.model.actionformer.padding import padded_length, public_length
from stale_edge.model.folding import fold_detector
from stale_edge.model.layers import UnfoldedConv1d

TOLERANCE = 1e-4
"""Absolute, of logits and offsets; measured differences are below 1e-5."""

SMALL = [
    ("small", 40),
    ("small", 64),
    ("small", 70),
    ("small", 3),
    ("small_activitynet", 64),
    ("small_activitynet", 50),
]


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize(("case", "length"), SMALL)
def test_small_networks_answer_as_the_public_program(golden: Path, case: str, length: int, folded: bool) -> None:
    model, arrays = read_case(golden, case)
    if folded:
        network, model = model, cast(ActionFormer, fold_detector(model))
        assert not any(isinstance(module, DropPath) for module in model.modules())
        assert any(isinstance(module, DropPath) for module in network.modules())
    _compare(model, arrays, f"T{length}", torch.from_numpy(arrays[f"T{length}/features"]))


@pytest.mark.parametrize(("case", "length"), [("thumos_i3d", 500), ("anet_i3d", 192)])
def test_published_networks_answer_as_the_public_program(golden: Path, case: str, length: int) -> None:
    model, arrays = read_case(golden, case)
    features = made_up(int(arrays["seed"]), f"features{length}", (length, model.config.feature_channels))
    np.testing.assert_array_equal(features[:2, :16], arrays[f"T{length}/features_head"])
    _compare(model, arrays, f"T{length}", torch.from_numpy(features))


def _compare(model: ActionFormer, arrays: dict[str, np.ndarray], case: str, features: torch.Tensor) -> None:
    with torch.no_grad():
        output = model(features[None], model.class_bank())
    length = padded_length(model.config, len(features))
    assert output.valid.shape == (1, 2 * length - length // model.config.unit)
    start = 0
    for level in range(model.config.n_levels):
        n_valid = -(-len(features) // 2**level)
        found = slice(start, start + n_valid)
        np.testing.assert_allclose(
            output.class_logits[0, found], arrays[f"{case}/logits{level}"][:n_valid], atol=TOLERANCE, rtol=0
        )
        np.testing.assert_allclose(
            output.offsets[0, found], arrays[f"{case}/offsets{level}"][:n_valid], atol=TOLERANCE, rtol=0
        )
        inside = np.zeros(length // 2**level)
        inside[:n_valid] = 1
        np.testing.assert_array_equal(output.valid[0, start : start + len(inside)], inside)
        start += len(inside)


@pytest.mark.parametrize(
    ("name", "n_parameters"),
    [("thumos-i3d", 29_251_612), ("activitynet-i3d", 8_123_145), ("activitynet-tsp", 6_943_497)],
)
def test_published_networks_have_the_published_size(name: str, n_parameters: int) -> None:
    with torch.device("meta"):
        model = ActionFormer(NAMED_SETTINGS[name])
    assert sum(parameter.numel() for parameter in model.parameters()) == n_parameters


@pytest.mark.parametrize("name", sorted(NAMED_SETTINGS))
def test_nearly_all_weights_stand_in_linear_layers(name: str) -> None:
    with torch.device("meta"):
        model = ActionFormer(NAMED_SETTINGS[name])
    linear = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear))
    assert linear >= 0.98 * sum(parameter.numel() for parameter in model.parameters())
    assert not [m for m in model.modules() if isinstance(m, torch.nn.Conv1d)]
    assert [m for m in model.modules() if isinstance(m, UnfoldedConv1d)]


@pytest.mark.parametrize(
    ("n_snippets", "length", "public"),
    [
        (1, 64, 2304),  # one spare point on every level, not 2,304
        (100, 160, 2304),
        (500, 544, 2304),
        (2272, 2304, 2304),  # the last length with a spare point inside the public padding
        (2273, 2304, 2304),  # none: the public length, whose last points see no padding
        (2304, 2304, 2304),
        (2305, 2368, 2880),
        (2880, 2880, 2880),
    ],
)
def test_padding_is_no_longer_than_needed(n_snippets: int, length: int, public: int) -> None:
    config = NAMED_SETTINGS["thumos-i3d"]
    assert (padded_length(config, n_snippets), public_length(config, n_snippets)) == (length, public)


def test_a_batch_answers_as_its_videos_alone(golden: Path) -> None:
    model, _ = read_case(golden, "small")
    features = torch.from_numpy(made_up(5, "batch", (3, 50, 12)))
    valid = (torch.arange(50)[None, :] < torch.tensor([50, 50, 17])[:, None]).float()
    with torch.no_grad():
        together = model(features, model.class_bank(), valid)
        for video, length in enumerate((50, 50, 17)):
            alone = model(features[video : video + 1, :length], model.class_bank())
            kept = together.valid[video] > 0
            for found, expected in zip(together, alone, strict=True):
                torch.testing.assert_close(found[video][kept], expected[0][alone.valid[0] > 0], atol=1e-5, rtol=0)


def test_classes_can_be_chosen_by_their_rows(golden: Path) -> None:
    model, arrays = read_case(golden, "small")
    features = torch.from_numpy(arrays["T40/features"])[None]
    with torch.no_grad():
        all_classes = model(features, model.class_bank()).class_logits
        chosen = model(features, model.class_bank()[[2, 0]]).class_logits
    torch.testing.assert_close(chosen, all_classes[:, :, [2, 0]], atol=1e-5, rtol=0)


def test_positions_stretch_where_that_is_allowed(golden: Path) -> None:
    model, _ = read_case(golden, "small_activitynet")
    positions = model.positions
    assert positions is not None
    torch.testing.assert_close(positions(64, 50), positions.table)
    torch.testing.assert_close(positions(24, 10), positions.table[:24])
    # 65 snippets: 80 in the public program, which stretches the table to that, and 80 here; 66 to 80 as well.
    table = positions.table.T[None]
    stretched = torch.nn.functional.interpolate(table, size=80, mode="linear", align_corners=False)[0].T
    torch.testing.assert_close(positions(80, 65), stretched, atol=1e-6, rtol=0)
    torch.testing.assert_close(positions(72, 66), stretched[:72], atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="at most 64 snippets"):
        model.train()(torch.zeros(1, 65, 12), model.class_bank())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"windows": (4,) * 6}, "odd"),
        ({"windows": (19,) * 5}, "one window for each of the 6 levels"),
        ({"max_length": 2300}, "a multiple of 576"),
        ({"neck_dim": 256}, "pyramid_dim = 512 where the neck is 'identity'"),
        ({"windows": (19, 19, 19, 19, 19, -1), "relative_positions": True}, "no fixed distances"),
        ({"ranges": ((4.0, 4.0),) * 6}, "least < greatest"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ActionFormerConfig(**change)  # type: ignore[arg-type]


def test_a_traced_network_takes_lengths_it_was_not_traced_at() -> None:
    torch.manual_seed(0)
    config = ActionFormerConfig(
        n_classes=3, feature_channels=12, pyramid_dim=16, neck_dim=16, head_dim=16, n_heads=2, n_stem_blocks=1,
        windows=(5, 3), ranges=((0.0, 4.0), (4.0, 1e4)), max_length=24,
    )  # fmt: skip
    model = ActionFormer(config).eval()
    rows = model.class_bank()
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(model, (torch.randn(2, 37, 12), rows))
        for n_snippets in (1, 23, 24, 25, 100):
            features = torch.randn(3, n_snippets, 12)
            for found, expected in zip(traced(features, rows), model(features, rows), strict=True):
                torch.testing.assert_close(found, expected, atol=0, rtol=0)
