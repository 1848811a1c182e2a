"""Measuring processes and whole runs on a tiny network. No test depends on how long anything takes."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stale_edge.benchmarking import compare_results, run_benchmark, table_rows
from stale_edge.benchmarking.jobs import Job
from stale_edge.benchmarking.network_sizes import Network, TextTower
from stale_edge.benchmarking.processes import JobProcess
from stale_edge.benchmarking.target import Target, bundle_target, network_of, network_target
from stale_edge.benchmarking.workloads import build_workload
from stale_edge.bundle import ClassBank, read_bundle
from stale_edge.config import BenchConfig, Config, ModelConfig, TextConfig, to_dict
from stale_edge.errors import BundleError, ConfigError, StaleEdgeError

pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from stale_edge.benchmarking.torch_rows.counts import detector_macs
from stale_edge.benchmarking.torch_rows.detectors import build_detector
from stale_edge.benchmarking.torch_rows.made_bundles import make_bundle
from stale_edge.benchmarking.torch_rows.text_tower import build_text_tower
from stale_edge.benchmarking.torch_rows.thesis_reference import build_reference

LENGTH = 12
TOWER = TextTower(
    vocabulary=64,
    width=16,
    feedforward=32,
    layers=1,
    heads=2,
    positions=8,
    embed_dim=16,
    prompt_tokens=((4, 3), (6, 2)),
)
TINY = Network(
    ModelConfig(architecture="release", feature_channels=16, embed_dim=16, n_heads=2, temporal_scale=LENGTH), 5, TOWER
)
SCHEMA = {
    "variant", "device", "runtime", "precision", "threads", "length", "repeats", "seconds", "peak_rss_bytes",
    "model_bytes", "gmacs", "gmacs_per_second", "utilization", "speedup", "speedup_as_trained",
}  # fmt: skip


def _silent(stage: str, done: int, total: int, note: str) -> None:
    del stage, done, total, note


def _product(**changes: Any) -> Job:
    values = {"variant": "matrix-product", "device": "cpu", "runtime": "numpy", "precision": "fp32", "length": 16}
    return Job(**(values | {"threads": 1} | changes))  # type: ignore[arg-type]


@pytest.fixture
def worker() -> Iterator[JobProcess]:
    with JobProcess(_product(), name="a product") as worker:
        yield worker


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle made for one length, whose manifest does not give its origin."""
    path = tmp_path_factory.mktemp("bench") / "tiny-bundle"
    make_bundle(path, TINY, [("onnxruntime", "fp32")], seed=0, progress=_silent)
    return path


def test_a_made_bundle_has_one_file_for_all_who_run_it(tmp_path: Path) -> None:
    """OpenVINO runs ONNX Runtime's files, the fp32 one in bf16 too; static int8 takes ranges from random features."""
    pytest.importorskip("openvino")
    path = tmp_path / "bundle"
    asked = [("openvino", p) for p in ("fp32", "bf16", "int8-static", "int8-bf16")] + [("onnxruntime", "int8-static")]
    make_bundle(path, TINY, asked, seed=0, progress=_silent)
    files = {entry.path: entry for entry in read_bundle(path).manifest.detectors}
    assert set(files) == {"detector-fp32.onnx", "detector-int8-static.onnx"}
    assert files["detector-int8-static.onnx"].weights_quantized
    assert set(bundle_target(path).available or ()) == {("onnxruntime", "fp32"), *asked}
    for runtime, precision in asked:
        for variant in ("detector", "localizer"):
            job = _product(variant=variant, runtime=runtime, precision=precision, bundle=str(path), length=LENGTH)
            build_workload(job).call()


def test_a_worker_answers_until_it_is_finished(worker: JobProcess) -> None:
    assert worker.ready() is None  # a product has no model
    seconds, _ = worker.warm_up()
    assert len(seconds) >= 3
    assert [len(worker.trial(calls, refresh=True)) for calls in (1, 4)] == [1, 4]
    peaks = worker.finish()
    assert peaks["peak_device_bytes"] is None
    assert peaks["peak_rss_bytes"] is None or peaks["peak_rss_bytes"] > 10**7  # an interpreter alone has more


def test_a_killed_worker_is_a_clear_error(worker: JobProcess) -> None:
    worker.ready()
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(StaleEdgeError, match="measured a product died with signal 9; was memory short"):
        worker.trial(1, refresh=True)


def test_a_crash_names_its_cause() -> None:
    with (
        JobProcess(_product(length=-1), name="a product") as worker,
        pytest.raises(StaleEdgeError, match="exit status 1: ValueError: negative dimensions"),
    ):
        worker.ready()


def test_a_refused_job_says_why(tmp_path: Path) -> None:
    job = _product(variant="detector", runtime="onnxruntime", bundle=str(tmp_path / "nothing"))
    with (
        JobProcess(job, name="the row") as worker,
        pytest.raises(StaleEdgeError, match=r"the row cannot be measured: .*nothing"),
    ):
        worker.ready()


def test_workers_are_ended_with_their_block() -> None:
    with pytest.raises(KeyError), JobProcess(_product(), name="a product") as worker:
        raise KeyError
    with pytest.raises(ProcessLookupError):
        os.kill(worker.pid, 0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux pins processes")
def test_a_worker_stays_on_its_cpus() -> None:
    cpu = max(os.sched_getaffinity(0))
    with JobProcess(_product(cpus=(cpu,)), name="a product") as worker:
        worker.ready()
        threads = [int(thread.name) for thread in Path(f"/proc/{worker.pid}/task").iterdir()]
        assert [os.sched_getaffinity(thread) for thread in threads] == [{cpu}] * len(threads)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere the peak is that of getrusage")
def test_peak_memory_is_the_workers_own() -> None:
    ballast = np.ones(400_000_000, dtype=np.uint8)  # held by this process when it starts the worker
    with JobProcess(_product(), name="a product") as worker:
        worker.ready()
        peak = worker.finish()["peak_rss_bytes"]
    assert peak is not None
    assert peak < ballast.nbytes // 2


def test_a_bundle_is_measured_without_torch(bundle: Path) -> None:
    script = """
import json, sys
from stale_edge.benchmarking.jobs import Job
from stale_edge.benchmarking.workloads import build_workload
from stale_edge.config import from_dict
for job in json.loads(sys.argv[1]):
    build_workload(from_dict(Job, job)).call()
found = {"torch", "transformers", "fvcore"} & set(sys.modules)
sys.exit(f"imported: {found}" if found else 0)
"""
    jobs = [
        _product(variant=variant, runtime=runtime, bundle=str(bundle), length=LENGTH, n_classes=5)
        for variant, runtime in (("detector", "onnxruntime"), ("localizer", "onnxruntime"), ("postprocess", "core"))
    ]
    command = [sys.executable, "-c", script, json.dumps([to_dict(job) for job in jobs])]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_reference_is_tower_then_detector() -> None:
    """The timed call gives what text tower and detector give one after the other: nothing is left out of it."""
    import torch

    forward, model_bytes = build_reference(TINY, seed=3)
    detector = build_detector(TINY, seed=3)
    tower, prompts = build_text_tower(TOWER, 5, seed=3)
    features = torch.randn(1, LENGTH, 16)
    with torch.inference_mode():
        timed: Any = forward(features)
        embeddings = tower(*prompts)
        torch.testing.assert_close(timed.class_logits, detector(features, embeddings).class_logits)
    assert embeddings.shape == (5, 16)
    assert prompts[0].shape == (5, 6)
    n_weights = sum(p.numel() for p in [*detector.parameters(), *detector.buffers(), *tower.parameters()])
    n_positions = TOWER.positions  # a buffer of int64
    assert model_bytes == 4 * n_weights + 8 * n_positions


def _check(results: dict[str, Any], config: BenchConfig) -> None:
    assert set(results) == {"schema", "machine", "protocol", "rows"}
    assert results["schema"] == "stale-edge-bench/1"
    json.dumps(results, allow_nan=False)
    for row in results["rows"]:
        assert set(row) == SCHEMA
        assert set(row["seconds"]) == {"median", "p90", "min", "max", "std"}
        assert 0 < row["seconds"]["min"] <= row["seconds"]["median"] <= row["seconds"]["p90"] <= row["seconds"]["max"]
        assert (row["threads"], row["repeats"]) == (config.threads, config.repeats)
        assert row["peak_rss_bytes"] > 10**7
    for name in ("calls_per_trial", "median_interval_seconds", "peak_device_bytes"):
        assert len(results["protocol"][name]) == len(results["rows"])
    assert len(table_rows(results)) == len(results["rows"])


def test_run_on_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stale_edge.benchmarking.benchmark.load_average", lambda: [3.0, 2.0, 1.0])
    config = BenchConfig(
        lengths=(LENGTH,),
        repeats=2,
        peak_tmacs=1.0,
        variants=("reference", "as-trained", "detector", "text"),
        runtimes=("onnxruntime",),
        precisions=("fp32", "fp16", "int8"),
    )
    seen: list[tuple[str, int, int]] = []
    results = run_benchmark(
        config, network=TINY, progress=lambda stage, done, total, _: seen.append((stage, done, total))
    )
    _check(results, config)
    reference, eager, plain, fp32, fp16, int8, text = results["rows"]
    assert [row["variant"] for row in results["rows"]] == [
        "reference",
        "as-trained",
        "as-trained",
        *["detector"] * 3,
        "text",
    ]
    assert [row["runtime"] for row in (eager, plain)] == ["pytorch", "onnxruntime"]
    assert (eager["speedup_as_trained"], reference["speedup"]) == (1.0, 1.0)
    assert fp32["speedup_as_trained"] == pytest.approx(eager["seconds"]["median"] / fp32["seconds"]["median"])
    assert eager["gmacs"] == plain["gmacs"] == pytest.approx(detector_macs(TINY, LENGTH, folded=False) / 1e9)
    assert [row["precision"] for row in (fp32, fp16, int8)] == ["fp32", "fp16", "int8"]
    assert fp32["speedup"] == pytest.approx(reference["seconds"]["median"] / fp32["seconds"]["median"])
    whole, folded = (detector_macs(TINY, LENGTH, folded=folded) / 1e9 for folded in (False, True))
    assert reference["gmacs"] == pytest.approx(text["gmacs"] + whole)
    assert 0 < fp32["gmacs"] == int8["gmacs"] < folded < whole  # what only foreground needs is not run, so not counted
    assert fp32["gmacs_per_second"] == pytest.approx(fp32["gmacs"] / fp32["seconds"]["median"])
    assert fp32["utilization"] == pytest.approx(fp32["gmacs_per_second"] / 1000)  # of 1 tera MACs a second
    assert reference["model_bytes"] > text["model_bytes"] > 0
    assert "fp16 on a CPU" in results["protocol"]["notes"]
    assert "load 3.00" in results["protocol"]["notes"]["load"]
    assert results["machine"]["load_average_after"] == [3.0, 2.0, 1.0]
    assert ("T = 12: measure", 14, 14) in seen
    assert compare_results(results, results).slower == ()


def test_run_on_a_bundle(bundle: Path) -> None:
    pytest.importorskip("openvino")
    config = BenchConfig(repeats=1)
    results = run_benchmark(config, bundle=bundle)
    _check(results, config)
    assert [(row["variant"], row["runtime"]) for row in results["rows"]] == [
        ("detector", "onnxruntime"),
        *[("detector", "openvino")] * 2,  # fp32 and bf16, of the same file
        ("localizer", "onnxruntime"),
        ("postprocess", "core"),
    ]
    assert {row["length"] for row in results["rows"]} == {LENGTH}  # what the bundle takes, without being asked
    detector = results["rows"][0]
    assert detector["model_bytes"] == (bundle / "detector-fp32.onnx").stat().st_size
    assert detector["gmacs"] is detector["speedup"] is detector["utilization"] is None
    assert results["protocol"]["reference"].startswith("not measured: the bundle's manifest does not hold the config")
    rates = results["protocol"]["utilization"]["gmacs_per_second"]["cpu fp32"]
    assert rates.keys() >= {"numpy", "torch", "onnxruntime", "openvino"}
    assert results["protocol"]["utilization"]["held_against"]["cpu fp32"]["gmacs_per_second"] == max(rates.values())


def test_a_bundle_for_one_length_refuses_others(bundle: Path) -> None:
    with pytest.raises(
        ConfigError, match=f"made for T = {LENGTH} snippets alone; got --lengths 12,50: use --lengths 12"
    ):
        run_benchmark(BenchConfig(lengths=(LENGTH, 50)), bundle=bundle)
    with pytest.raises(ConfigError, match="there is onnxruntime fp32"):
        run_benchmark(BenchConfig(precisions=("int8",)), bundle=bundle)
    with pytest.raises(ConfigError, match="this process may use"):
        run_benchmark(BenchConfig(threads=10_000), bundle=bundle)


def test_targets_without_torch(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stale_edge.benchmarking.target.has_torch", lambda: False)
    with pytest.raises(StaleEdgeError, match=r"name a bundle, or pip install \"stale-edge\[train,export\]\""):
        network_target()
    target = bundle_target(bundle)
    assert target.available == (("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"))
    assert target.no_reference == "torch is not installed; a reference is a PyTorch network"
    assert target.n_classes == len(read_bundle(bundle).class_bank) == 5


def test_the_network_of_a_bundle_is_read_from_its_manifest(bundle: Path, tmp_path: Path) -> None:
    from stale_edge.model import TextEncoder, small_text_encoder
    from stale_edge.model.text_sizes import text_tower_sizes

    bank = ClassBank(("dive", "long jump"), np.ones((2, 16), dtype=np.float32), "any")
    manifest = dataclasses.replace(
        read_bundle(bundle).manifest, provenance={"config": to_dict(Config(model=TINY.model))}
    )
    network, reason = network_of(manifest, bank, text_encoder=None)
    assert network == Network(TINY.model, 2, None)
    assert "does not state the sizes of the text encoder of its classes (D = 16)" in reason
    wide = ClassBank(("dive",), np.ones((1, 512), dtype=np.float32), "any")
    released = dataclasses.replace(manifest, architecture="release")
    paper = dataclasses.replace(manifest, architecture="paper")
    assert network_of(released, wide, text_encoder=None)[0] == Network(TINY.model, 1, TextTower())
    assert network_of(paper, wide, text_encoder=None)[0] == Network(TINY.model, 1, None)  # not CLIP's, nobody knows
    small_text_encoder(tmp_path / "text", dim=16, hidden_dim=8, n_layers=3, n_heads=2)
    network, reason = network_of(manifest, bank, text_encoder=tmp_path / "text")
    assert network is not None
    tower = network.text
    assert tower is not None
    assert (tower.width, tower.feedforward, tower.layers, tower.heads, tower.embed_dim) == (8, 32, 3, 2, 16)
    # start and end of text, eight contexts, a token for every letter
    assert tower.prompt_tokens == ((2 + 8 + 4, 1), (2 + 8 + 8, 1))
    assert reason == ""
    encoder = TextEncoder.load(tmp_path / "text", n_contexts=8)
    stated = json.loads(json.dumps(text_tower_sizes(encoder, bank.names)))
    own = dataclasses.replace(paper, provenance={**manifest.provenance, "text_encoder": stated})
    assert network_of(own, bank, text_encoder=None) == (network, "")
    assert network_of(own, wide, text_encoder=None)[0] == dataclasses.replace(network, n_classes=1)  # also at D = 512
    del stated["heads"]
    with pytest.raises(BundleError, match=r"provenance\.text_encoder in the bundle's manifest: .* heads missing"):
        network_of(own, bank, text_encoder=None)
    contract = dataclasses.replace(manifest.feature_contract, length=None, resample_to=40)
    target = Target("", network, 2, "release", bundle, dataclasses.replace(manifest, feature_contract=contract))
    assert target.lengths(()) == (100, 200)
    assert target.localizer_length(7) == 40  # features of any length are resampled first
    assert bundle_target(bundle).localizer_length(LENGTH) == LENGTH
    free = Config(model=dataclasses.replace(TINY.model, text=TextConfig(encoder="none")))
    _, reason = network_of(dataclasses.replace(manifest, provenance={"config": to_dict(free)}), bank, text_encoder=None)
    assert "no text encoder made them" in reason
