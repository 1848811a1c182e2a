"""ActionFormer as a bundle: exported for any length, quantized, found by the runtime without torch."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from actionformer_cases import made_up

import stale_edge
from stale_edge.benchmarking import run_benchmark
from stale_edge.config import BenchConfig, Config, FeatureSpec, PointsConfig, Resampling, TrainConfig
from stale_edge.errors import ConfigError
from stale_edge.exporting import export_checkpoint
from stale_edge.model import load_checkpoint, write_checkpoint
from stale_edge.model.actionformer import ActionFormer, ActionFormerConfig
from stale_edge.model.actionformer.objective_settings import PointObjectiveConfig
from stale_edge.model.rows import row_bank

pytestmark = pytest.mark.slow

LENGTHS = (1, 3, 16, 23, 24, 25, 48, 100, 333)
"""None is the traced one. 23 and 24 snippets have no spare point in the public padding, 1, 3 and 25 have one."""


CONFIG = ActionFormerConfig(
    n_classes=3, feature_channels=12, pyramid_dim=16, neck_dim=16, head_dim=16, n_heads=2, n_stem_blocks=1,
    windows=(5, 3), ranges=((0.0, 4.0), (4.0, 1e4)), max_length=24, absolute_positions=True,
)  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network whose outputs depend on all of its blocks."""
    return write_network(tmp_path_factory.mktemp("actionformer") / "checkpoint", CONFIG)


def write_network(path: Path, config: ActionFormerConfig) -> Path:
    """Write a checkpoint with random weights."""
    torch.manual_seed(0)
    model = ActionFormer(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("_path.scale"):
                parameter.fill_(1.0)
    write_checkpoint(
        path,
        model=model,
        config=Config(config, TrainConfig(), PointObjectiveConfig(), PointsConfig(n_levels=2)),
        feature_spec=FeatureSpec(encoder="test", channels=12, fps=10.0, stride=4, num_frames=8),
        class_bank=row_bank(model, ("run", "jump", "swim")),
        text_encoder=None,
    )
    return path


@pytest.fixture(scope="module")
def bundle(checkpoint: Path) -> Path:
    path = checkpoint.parent / "bundle"
    export_checkpoint(checkpoint, path, formats=("onnx",), precisions=("fp32", "int8"))
    return path


def test_it_answers_as_the_network_at_lengths_it_was_not_traced_at(checkpoint: Path, bundle: Path) -> None:
    model, localizer = load_checkpoint(checkpoint), stale_edge.load_bundle(bundle)
    assert isinstance(model, ActionFormer)
    for n_snippets in LENGTHS:
        features = made_up(3, f"export{n_snippets}", (3, n_snippets, 12))
        found = localizer.forward(features)
        with torch.no_grad():
            expected = model(torch.from_numpy(features), model.class_bank())
        assert list(found) == ["class_logits", "offsets", "valid"]
        for name, values in found.items():
            np.testing.assert_allclose(values, getattr(expected, name), atol=1e-4, rtol=0, err_msg=f"T = {n_snippets}")


@pytest.mark.parametrize("resampling", ["none", "linear"])
def test_positions_that_may_not_be_stretched_are_not_exported(tmp_path: Path, resampling: Resampling) -> None:
    """A graph cannot refuse a video longer than the table of 24 rows; videos are resampled to 100 snippets."""
    path = write_network(tmp_path / "strict", replace(CONFIG, interpolate_positions=False, resampling=resampling))
    with pytest.raises(ConfigError, match="more than 24 snippets are refused, and an exported file cannot"):
        export_checkpoint(path, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_every_weight_that_is_a_matrix_is_quantized(bundle: Path) -> None:
    manifest = stale_edge.load_bundle(bundle).manifest
    entry = next(file for file in manifest.files if file.precision == "int8")
    model = load_checkpoint(bundle.parent / "checkpoint")
    assert isinstance(model, ActionFormer)
    linear = sum(module.weight.numel() for module in model.modules() if isinstance(module, torch.nn.Linear))
    rows = model.class_head.rows.linear.weight.numel()  # an input of the graph
    assert entry.weights_quantized == entry.weights_total == linear - rows


def test_it_detects_on_its_grid_of_frames_with_classes_chosen(bundle: Path) -> None:
    localizer = stale_edge.load_bundle(bundle)
    features = made_up(3, "detect", (40, 12))
    everything = localizer.detect(features, duration_s=16.8)
    assert {found.label for found in everything} == {"run", "jump", "swim"}
    assert all(0 <= found.start_s < found.end_s <= 16.8 for found in everything)
    swims = localizer.detect(features, duration_s=16.8, class_bank=["swim"])
    expected = [found for found in everything if found.label == "swim"]
    assert [found.label for found in swims[: len(expected)]] == ["swim"] * len(expected)
    np.testing.assert_allclose([found[1:] for found in swims[:5]], [found[1:] for found in expected[:5]], atol=1e-4)


def test_a_bundle_is_timed_beside_the_public_padding(bundle: Path) -> None:
    config = BenchConfig(
        lengths=(5,),
        repeats=1,
        peak_tmacs=1.0,
        variants=("reference", "detector"),
        runtimes=("onnxruntime",),
        precisions=("fp32",),
    )
    results = run_benchmark(config, bundle=bundle)
    assert results["protocol"]["network"]["architecture"] == "actionformer"
    assert "as the public program of actionformer runs it" in results["protocol"]["reference"]
    reference, detector = results["rows"]
    # Padded to 24 snippets, and to 8; attention is in two blocks of 32 in both.
    assert reference["gmacs"] > 1.5 * detector["gmacs"]
