"""The studies that measure: compute efficiency and quantization, on made-up times and one tiny process."""

import dataclasses
import json
from math import prod
from pathlib import Path

import pytest
import torch
from torch import nn

from stale_edge.benchmarking.jobs import Job
from stale_edge.benchmarking.torch_rows.thesis_reference import quantize_as_thesis
from stale_edge.config import ModelConfig
from stale_edge.model.stale.release import ReleaseStale
from stale_edge.study import (
    FinishedRun,
    Run,
    Spread,
    StudyOptions,
    compute_efficiency,
    quantization_tables,
)
from stale_edge.study.public_size import NEVER_USED_SHAPES, NOT_IN_CPU_VARIANT, public_size
from stale_edge.study.quantization import PRECISIONS
from stale_edge.study.quantization_tables import FOLDED, THESIS
from stale_edge.study.timing import LENGTHS, SMALL, chosen_lengths, chosen_network, chosen_seeds, time_jobs

GOLDEN = Path(__file__).resolve().parent / "golden"


def options(**changes: object) -> StudyOptions:
    return dataclasses.replace(StudyOptions(Path("study")), **changes)


# --- lengths, seeds, sizes -------------------------------------------------------------------------------------------


def test_the_full_protocol_is_the_thesis() -> None:
    assert chosen_lengths(options(full=True)) == tuple(range(200, 3001, 200)) == LENGTHS
    assert chosen_seeds(options(full=True), 2) == (0, 100, 200, 300, 400)
    assert chosen_network(options(full=True, scale=0.01)).n_classes == 200


@pytest.mark.parametrize(
    ("scale", "expected"),
    [(1.0, (200, 600, 1000, 1400, 1800, 2200, 2600, 3000)), (0.25, (200, 3000)), (0.05, (200,)), (9.0, LENGTHS)],
)
def test_fewer_lengths_keep_both_ends(scale: float, expected: tuple[int, ...]) -> None:
    assert chosen_lengths(options(scale=scale)) == expected


def test_repeats_replace_the_scale() -> None:
    assert chosen_seeds(options(repeats=3), 1) == (0, 100, 200)
    assert chosen_network(options(scale=0.1)) == SMALL


@pytest.mark.filterwarnings("ignore")
def test_the_public_class_has_the_parameters_of_table_2() -> None:
    """170.7 M; the detector's part is that of the golden state dict."""
    size = public_size(100)
    assert size.all / 1e6 == pytest.approx(170.716, abs=0.001)
    golden = json.loads((GOLDEN / "release_state_dict.json").read_text())
    shapes = {name: tuple(tensor["shape"]) for name, tensor in golden.items() if "running_" not in name}
    assert size.detector == sum(prod(shape) for name, shape in shapes.items() if name not in NEVER_USED_SHAPES)
    in_cpu_variant = {name: s for name, s in NEVER_USED_SHAPES.items() if not name.startswith(NOT_IN_CPU_VARIANT)}
    assert in_cpu_variant == {name: shape for name, shape in shapes.items() if name in NEVER_USED_SHAPES}
    assert size.never > size.text > size.detector


@pytest.mark.filterwarnings("ignore")
def test_int8_of_linear_layers_makes_the_thesis_factor() -> None:
    """2.44 in the thesis; what its int8 file holds beside weights is not counted here."""
    size = public_size(100, cpu_variant=True)
    assert size.bytes(4) / size.bytes(1) == pytest.approx(2.44, rel=0.02)


# --- quantization as the thesis does it ------------------------------------------------------------------------------


@pytest.mark.parametrize(("precision", "width"), [("int8", 1), ("fp16", 2)])
@pytest.mark.filterwarnings("ignore")
def test_what_stands_for_convolutions_stays_fp32(precision: str, width: int) -> None:
    model = ReleaseStale(
        ModelConfig(architecture="release", feature_channels=16, embed_dim=16, temporal_scale=10)
    ).eval()
    quantized = ("temporal.", "adaption.", "masking.mask_projection.")
    low = sum(
        layer.weight.numel()
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and (name.startswith(quantized) or ".feedforward." in name)
    )
    everything = sum(p.numel() for p in model.parameters()) + model.masking.position.numel()
    inputs = torch.randn(1, 10, 16), torch.randn(3, 16)
    with torch.inference_mode():
        before = model(*inputs).embedding
    n_bytes = quantize_as_thesis(model, precision)
    assert n_bytes == 4 * (everything - low) + width * low
    kept = {name for name, layer in model.named_modules() if type(layer) is nn.Linear}
    assert {"localizer.0.linear", "localizer.2", "masking.project"} <= kept
    assert not any("feedforward" in name or name.startswith(("temporal", "adaption")) for name in kept)
    with torch.inference_mode():
        after = model(*inputs).embedding
    assert after.shape == before.shape
    assert 0 < float((after - before).abs().max()) < 0.5


def test_fp32_is_left_alone() -> None:
    layer = nn.Linear(3, 2)
    assert quantize_as_thesis(layer, "fp32") == 4 * 8
    assert type(layer) is nn.Linear


# --- measuring -------------------------------------------------------------------------------------------------------


def test_jobs_are_measured_in_processes() -> None:
    """One product of small matrices; the rate it is held against is the given one."""
    job = Job("matrix-product", "cpu", "numpy", "fp32", length=64, threads=1)
    (row,) = time_jobs({"product": job}, peak_tmacs=2.0, seed=0, progress=lambda *_: None, rounds=2).values()
    assert 0 < row["seconds"]["min"] <= row["seconds"]["median"]
    assert row["peak_macs_per_second"] == 2e12
    assert row["peak_bytes"] is None or row["peak_bytes"] > 10**6


# --- summing up ------------------------------------------------------------------------------------------------------


def timed(kind: dict[str, object], rows: dict[str, float], **result: object) -> FinishedRun:
    made = {
        name: {
            "seconds": {"median": seconds},
            "model_bytes": 4_000_000,
            "peak_bytes": 10**9,
            "peak_macs_per_second": 1e12,
        }
        for name, seconds in rows.items()
    }
    return FinishedRun(Run("x", {"kind": "time", **kind}), {"rows": made, **result}, 1.0)


def test_utilization_is_work_over_time_over_the_peak() -> None:
    macs = {"reference": 5 * 10**11, "detector": 10**11, "text": 4 * 10**11}
    runs = [
        timed({"device": "cpu", "length": 200, "seed": seed}, {"reference": s, "detector": 0.5}, macs=macs)
        for seed, s in ((0, 1.0), (100, 2.0))
    ]
    detector, reference = compute_efficiency.inference_rows(runs)
    assert reference["seconds"] == Spread(1.5, pytest.approx(0.7071, abs=1e-4), 2)
    assert reference["gmacs"] == Spread(500.0, 0.0, 2)
    assert reference["utilization"].mean == pytest.approx((50 + 25) / 2)  # type: ignore[union-attr]
    assert detector["utilization"] == Spread(pytest.approx(20.0), 0.0, 2)
    titles = [panel.title for panel in compute_efficiency.panels([detector, reference])]
    assert titles == ["forward pass", "utilization", "work", "memory"]


def test_what_the_thesis_prints_of_the_gpu_stands_beside() -> None:
    by_length = {row["length"]: row for row in compute_efficiency.published_rows()}
    assert by_length[200]["seconds"] == 0.080
    assert by_length[3000]["seconds"] == 0.101
    assert by_length[1400]["utilization"] == 14.0


@pytest.mark.filterwarnings("ignore")
def test_factors_are_means_over_lengths() -> None:
    runs = []
    for length, slow, fast in ((200, 3.0, 1.0), (3000, 8.0, 4.0)):
        rows = {f"cpu; {THESIS}; {p}": (fast if p == "int8" else slow) for p in PRECISIONS}
        rows |= {f"cpu; {FOLDED}; {p}": 0.1 for p in PRECISIONS}
        runs.append(timed({"length": length, "seed": 0, "devices": ["cpu"]}, rows))
    seconds = quantization_tables.by_row(runs, lambda row: row["seconds"]["median"])
    factors = {str(row["what"]): row for row in quantization_tables.factor_rows(seconds, {}, {})}
    own = factors["fp32 / int8, text tower inside: time"]
    assert own["own"] == Spread(2.5, pytest.approx(0.7071, abs=1e-4), 2)
    assert own["published"] == 2.73
    assert factors["folding and int8 together: time"]["own"].mean == pytest.approx((30 + 80) / 2)  # type: ignore[union-attr]
    gpu = factors["int8 on the CPU / fp32 on the GPU, text tower inside: time"]
    assert gpu["own"] is None  # there is no GPU, and nothing stands in for it
    assert gpu["published"] == 14.15


def test_the_change_in_map_is_against_the_trained_network() -> None:
    result = {
        "torch fp32": 20.0,
        f"cpu; {FOLDED}; int8": {"average_mAP": 19.5, "bytes": 10**6},
        f"cpu; {THESIS}; int8": {"average_mAP": 20.5, "bytes": 2 * 10**6},
    }
    folded, thesis = quantization_tables.accuracy_rows([result])
    assert folded["change"] == Spread(-0.5, None, 1)
    assert thesis["change"] == Spread(0.5, None, 1)
    assert thesis["megabytes"] == 2.0
