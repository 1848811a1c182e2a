"""Training in each precision: confident wrong masks keep their gradient, and steps that fp16 skips are counted."""

from pathlib import Path
from typing import Any

import pytest
import torch
from training_data import CHANNELS, small_config, write_data_set

from stale_edge.config import ModelConfig, TrainConfig
from stale_edge.model import build_model
from stale_edge.model.stale.losses import completeness_loss, mask_loss
from stale_edge.model.stale.output import StaleLogits
from stale_edge.model.targets import BatchTargets
from stale_edge.training import loop, optimization, train

B, K, T = 2, 3, 8
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CONFIDENT = 12.0
"""Logit whose sigmoid is 1 in both half precisions."""


def _logits(architecture: str, dtype: torch.dtype) -> StaleLogits:
    """Run a network in a precision; every mask and foreground logit of the paper's network is near `CONFIDENT`."""
    torch.manual_seed(0)
    model: Any = build_model(
        ModelConfig(
            architecture=architecture, feature_channels=CHANNELS, embed_dim=CHANNELS, temporal_scale=T, n_heads=2
        )
    ).eval()
    if architecture == "paper":
        with torch.no_grad():
            model.localizer.controller[4].bias[-1:].fill_(CONFIDENT)
            model.masking.query_weights[2].bias.fill_(CONFIDENT)
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(B, T, CHANNELS, generator=generator)
    classes = torch.randn(K, CHANNELS, generator=generator)
    with torch.autocast("cpu", dtype, enabled=dtype is not torch.float32):
        return StaleLogits(*model.logits(features, classes))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("architecture", ["paper", "release"])
def test_logits_reach_the_losses_in_float32(architecture: str, precision: str) -> None:
    outputs = _logits(architecture, PRECISIONS[precision])
    assert outputs.mask_logits.dtype == outputs.foreground_logits.dtype == torch.float32


@pytest.mark.parametrize("precision", PRECISIONS)
def test_confident_wrong_masks_have_the_gradient_of_float32(precision: str) -> None:
    """With a sigmoid in half precision the loss was NaN in fp16, and the gradient 0 in bf16."""
    outputs = _logits("paper", PRECISIONS[precision])
    for logits in (outputs.mask_logits, outputs.foreground_logits):
        assert float(logits.detach().min()) > 8, "this test must start from saturated scores"
        logits.retain_grad()
    background = BatchTargets(torch.full((B, T), K), torch.zeros(B, T, T))
    masks = mask_loss(outputs.mask_logits, background.masks, background.labels, dice_weight=0.4)
    foreground = completeness_loss(outputs.foreground_logits, background, n_classes=K)
    assert masks.isfinite().all()
    (masks.sum() + foreground.sum()).backward()
    # Both are means of softplus(logit), whose slope is 1 here.
    assert outputs.mask_logits.grad is not None
    assert outputs.foreground_logits.grad is not None
    assert (outputs.mask_logits.grad * T * T).flatten().tolist() == pytest.approx([1.0] * (B * T * T), rel=1e-3)
    assert (outputs.foreground_logits.grad * T).flatten().tolist() == pytest.approx([1.0] * (B * T), rel=1e-3)
    assert masks.tolist() == pytest.approx(outputs.mask_logits.detach().mean(dim=(1, 2)).tolist(), rel=1e-4)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_run_in_each_precision_is_finite_and_counts_its_steps(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the CPU `train` refuses fp16, which is slow there; the arithmetic is that of a GPU's autocast."""
    dtype = None if precision == "fp32" else PRECISIONS[precision]
    monkeypatch.setattr(loop, "mixed_precision", lambda *_: dtype)
    if precision == "fp16":  # the first scale overflows
        scaler = torch.amp.GradScaler
        monkeypatch.setattr(torch.amp, "GradScaler", lambda *a, **k: scaler(*a, **k, init_scale=2.0**40))
    result = train(small_config(), write_data_set(tmp_path / "data"), tmp_path / "run")
    skipped = [record["skipped_steps"] for record in result.records]
    assert all(record["loss"] == record["loss"] for record in result.records)
    if precision != "fp16":
        assert skipped == [0] * len(skipped)
        assert not any("skipped" in note for note in result.notes)
        return
    assert skipped[0] > 0
    assert any(f"{sum(skipped)} steps were skipped" in note for note in result.notes)


def test_a_run_of_a_cpu_goes_on_with_a_gradient_scaler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`precision=auto` is fp32 on a CPU, without a scaler; where it is fp16 the state to resume from has none."""
    data, run = write_data_set(tmp_path / "data"), tmp_path / "run"
    write_state = loop.RunFolder.write_state

    def stop_after_first(folder: Any, state: Any) -> None:
        write_state(folder, state)
        if state.epoch == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop.RunFolder, "write_state", stop_after_first)
    with pytest.raises(KeyboardInterrupt):
        train(small_config(), data, run)
    monkeypatch.setattr(loop, "mixed_precision", lambda *_: torch.float16)
    resumed = train(small_config(), data, run, resume=True)
    assert resumed.epochs == small_config().train.epochs


@pytest.mark.parametrize(
    ("instructions", "width", "precision", "chosen"),
    [
        (["avx512f", "amx_bf16"], 512, "auto", torch.bfloat16),
        (["avx512f", "avx512_bf16"], 512, "auto", None),  # not measured
        (["avx512f", "amx_bf16"], 64, "auto", None),
        (["avx512f", "amx_bf16"], 512, "fp32", None),
        (None, 512, "auto", None),
        (["avx2"], 512, "bf16", torch.bfloat16),
    ],
)
def test_auto_takes_bf16_on_a_cpu_that_has_units_for_it(instructions, width, precision, chosen, monkeypatch) -> None:
    monkeypatch.setattr(optimization, "instruction_sets", lambda: instructions)
    config, device = TrainConfig(precision=precision), torch.device("cpu")
    mixed = optimization.mixed_precision(config, device, ModelConfig(embed_dim=width))
    assert mixed is chosen
    said = optimization.precision_note(config, mixed, device)
    assert bool(said) == (precision == "auto" and chosen is not None)
