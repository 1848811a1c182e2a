"""torch.compile and AOTInductor in a benchmark: outputs are checked before timing, and a missing row gives a reason."""

import shutil
from typing import Any

import numpy as np
import pytest

from stale_edge.benchmarking import compare_results, run_benchmark, table_rows
from stale_edge.benchmarking.network_sizes import Network
from stale_edge.benchmarking.output_check import Agreement, class_axis, compare_outputs
from stale_edge.benchmarking.peers import PEERS, plan_peers
from stale_edge.benchmarking.table import COLUMNS, note_lines
from stale_edge.bundle import TensorSpec
from stale_edge.config import BenchConfig, ModelConfig
from stale_edge.errors import StaleEdgeError

LENGTH = 12
TINY = Network(
    ModelConfig(architecture="release", feature_channels=16, embed_dim=16, n_heads=2, temporal_scale=LENGTH), 5, None
)


def _outputs(*, batch: int = 1) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "class_logits": rng.uniform(-10, 10, (batch, 6, LENGTH)).astype(np.float32),
        "masks": rng.random((batch, LENGTH, LENGTH), dtype=np.float32),
    }


def test_agreement_by_hand() -> None:
    expected, got = _outputs(), _outputs()
    settings = {"axis": 1, "what": "x"}
    assert compare_outputs(expected, got, precision="fp32", **settings) == Agreement(0.0, 0.0)
    got["masks"][0, 3, 4] += 0.03
    got["class_logits"][0, :, 5] += 12
    found = compare_outputs(expected, got, precision="bf16", **settings)
    assert found.mask_difference == pytest.approx(0.03, abs=1e-6)
    assert found.snippets_apart == pytest.approx(1 / LENGTH)  # one gate of twelve may flip in low precision
    with pytest.raises(StaleEdgeError, match=r"x: wrong outputs: masks differ by 0.03 \(allowed: 0.0001\) and 8.3%"):
        compare_outputs(expected, got, precision="fp32", **settings)


def test_agreement_of_points() -> None:
    rng = np.random.default_rng(0)
    logits, offsets = rng.uniform(-10, 10, (2, 20, 3)), rng.uniform(0, 50, (2, 20, 2))
    moved = logits.copy()
    moved[1, 4, 2] += 5  # one of 40 points
    found = compare_outputs(
        {"class_logits": logits, "offsets": offsets},
        {"class_logits": moved, "offsets": offsets + 1},
        axis=2,
        precision="int8",
        what="x",
    )
    assert found.snippets_apart == 1 / 40
    assert found.mask_difference == pytest.approx(1 / offsets.max())


def test_the_class_axis_is_where_the_contract_says() -> None:
    points, snippets = ("B", "P", "K"), ("B", "K+1", "T")
    assert [class_axis([TensorSpec("class_logits", "float32", shape)]) for shape in (points, snippets)] == [2, 1]
    with pytest.raises(StaleEdgeError, match="this detector has none"):
        class_axis([TensorSpec("masks", "float32", ("B", "T", "T"))])


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_another_networks_outputs_are_refused_in_every_precision(precision: str) -> None:
    expected = _outputs()
    logits, masks = expected["class_logits"], expected["masks"]
    settings = {"axis": 1, "precision": precision, "what": "x"}
    with pytest.raises(StaleEdgeError, match="have other class logits"):
        compare_outputs(expected, {"class_logits": logits[:, ::-1], "masks": masks}, **settings)
    with pytest.raises(StaleEdgeError, match="wrong outputs"):
        compare_outputs(expected, {"class_logits": logits, "masks": 1 - masks}, **settings)
    with pytest.raises(StaleEdgeError, match="masks must be finite"):
        compare_outputs(expected, {"class_logits": logits, "masks": masks * np.nan}, **settings)
    with pytest.raises(StaleEdgeError, match=r"shapes .*expected .*\(1, 6, 12\), 'masks': \(1, 12, 12\)"):
        compare_outputs(expected, {"class_logits": logits, "masks": masks[:, :-1]}, **settings)


def test_peers_are_planned_on_the_cpu_in_the_precisions_asked_for() -> None:
    plans = plan_peers(BenchConfig(), ("cpu", "cuda"), 100)
    assert [(plan.variant, plan.runtime, plan.precision) for plan in plans] == list(PEERS)
    assert {(plan.device, plan.length) for plan in plans} == {("cpu", 100)}
    fp32 = plan_peers(BenchConfig(precisions=("fp32", "int8")), ("cpu",), 100)
    assert [(plan.variant, plan.runtime) for plan in fp32] == [
        ("as-trained", "torch-compile"),
        ("detector", "torch-compile"),
        ("detector", "aot-inductor"),
    ]
    assert plan_peers(BenchConfig(), ("cuda",), 100) == []
    assert plan_peers(BenchConfig(variants=("postprocess",)), ("cpu",), 100) == []


def _run(*, precision: str) -> dict[str, Any]:
    pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    config = BenchConfig(
        lengths=(LENGTH,),
        repeats=1,
        peak_tmacs=1.0,
        variants=("detector", "postprocess"),
        runtimes=("onnxruntime", "pytorch"),
        precisions=(precision, "fp32"),  # type: ignore[arg-type]
        peers=True,
    )
    return run_benchmark(config, network=TINY)


@pytest.mark.slow
def test_without_a_compiler_the_rest_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nowhere/g++")
    results = _run(precision="bf16")
    assert [f"{row['variant']} {row['runtime']} {row['precision']}" for row in results["rows"]] == [
        "detector pytorch fp32",
        "detector onnxruntime fp32",
        "detector pytorch bf16",  # eager needs no compiler
        "postprocess core fp32",
    ]
    failed = [peer for peer in results["peers"] if peer["not_measured"]]
    assert [(peer["variant"], peer["runtime"], peer["precision"]) for peer in failed] == [
        peer for peer in PEERS if peer[0] == "detector" and peer[1] != "pytorch"
    ]
    assert all("compiler" in peer["not_measured"] for peer in failed)
    assert all(peer["compile_seconds"] is peer["mask_difference"] is None for peer in failed)
    rows = table_rows(results)
    assert rows[-1] == ["detector aot-inductor bf16", "12", "not measured", *["-"] * (len(COLUMNS) - 3)]
    assert len(rows) == len(results["rows"]) + len(failed)
    assert len(note_lines(results)) == len(failed)
    assert note_lines(results)[0].startswith("torch-compile fp32, T = 12: not measured: ")
    assert compare_results(results, results).slower == ()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch's compilers need a C++ compiler")
def test_compiled_peers_take_turns_with_the_rows() -> None:
    results = _run(precision="fp32")
    assert [row["runtime"] for row in results["rows"]] == [
        "pytorch",
        "onnxruntime",
        "torch-compile",
        "aot-inductor",
        "core",
    ]
    eager, _, compiled, ahead, _ = results["rows"]
    assert 0 < compiled["gmacs"] == ahead["gmacs"] < eager["gmacs"]  # what only foreground needs is compiled away
    assert ahead["model_bytes"] > compiled["model_bytes"] == eager["model_bytes"] > 0  # a package has code as well
    for peer in results["peers"]:
        assert peer["not_measured"] is None
        assert peer["compile_seconds"] > 0.5  # cold: a C++ compiler ran
        assert peer["mask_difference"] < 1e-4
        assert peer["snippets_apart"] == 0
    assert "compiled for one length" in results["protocol"]["notes"]["peers"]
    assert [line.split(":")[0] for line in note_lines(results)] == [
        "torch-compile fp32, T = 12",
        "aot-inductor fp32, T = 12",
    ]


def test_a_network_of_unknown_sizes_has_no_peers() -> None:
    from stale_edge.benchmarking.peers import built_peers

    config = BenchConfig(lengths=(LENGTH,))
    plans = plan_peers(config, ("cpu",), LENGTH)
    with built_peers(plans, None, config=config, cpus=(), progress=lambda *_: None) as peers:
        assert [peer.running for peer in peers] == [None] * len(PEERS)
        assert all("not known" in peer.reason for peer in peers)
