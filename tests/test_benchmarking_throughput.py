"""Videos per second: counted in a common window, in batches whose outputs equal those of single videos."""

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stale_edge.benchmarking import run_benchmark
from stale_edge.benchmarking import throughput as throughput_module
from stale_edge.benchmarking.batched_calls import Batches
from stale_edge.benchmarking.jobs import Job
from stale_edge.benchmarking.network_sizes import Network
from stale_edge.benchmarking.processes import JobProcess
from stale_edge.benchmarking.row_plan import RowPlan
from stale_edge.benchmarking.table import note_lines, throughput_table
from stale_edge.benchmarking.throughput import SETUPS, Setup, measure_throughput, videos_in_window
from stale_edge.config import BenchConfig, ModelConfig
from stale_edge.errors import ConfigError

LENGTH = 12
TINY = Network(
    ModelConfig(architecture="release", feature_channels=16, embed_dim=16, n_heads=2, temporal_scale=LENGTH), 5, None
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    from stale_edge.benchmarking.torch_rows.made_bundles import make_bundle

    path = tmp_path_factory.mktemp("throughput") / "bundle"
    artifacts = [("onnxruntime", "fp32"), ("onnxruntime", "int8")]
    make_bundle(path, TINY, artifacts, seed=0, progress=lambda *_: None)
    return path


def _plan(runtime: str = "onnxruntime", precision: Any = "fp32", variant: Any = "detector") -> RowPlan:
    return RowPlan(variant, "cpu", runtime, precision, LENGTH)


def _count(plans: list[RowPlan], bundle: Path, **kwargs: Any) -> list[dict[str, Any]]:
    return measure_throughput(plans, bundle, config=BenchConfig(repeats=2), progress=lambda *_: None, **kwargs)


def test_videos_in_a_window_by_hand() -> None:
    # Three calls of four videos; the last one lasts from 12 to 16, and the window ends at 13: a quarter of it counts.
    assert videos_in_window([11.0, 12.0, 16.0], 10.0, 4, start=10.0, seconds=3.0) == 4 + 4 + 1
    assert videos_in_window([11.0, 13.0], 10.0, 1, start=10.0, seconds=3.0) == 2  # ends with the window
    assert videos_in_window([14.0], 12.0, 2, start=10.0, seconds=3.0) == 1  # began late: counts less, by its own fault
    assert videos_in_window([15.0], 14.0, 2, start=10.0, seconds=3.0) == 0


def test_sessions_are_at_work_at_the_same_time(bundle: Path) -> None:
    job = Job("throughput", "cpu", "onnxruntime", "fp32", LENGTH, threads=1, bundle=str(bundle))
    with JobProcess(job, name="one") as one, JobProcess(job, name="two") as two:
        for worker in (one, two):
            assert worker.ready() == (bundle / "detector-fp32.onnx").stat().st_size
            prepared = worker.ask(do="prepare", batch=2, check=True)
            assert prepared["mask_difference"] < 1e-4
            assert len(prepared["seconds"]) == 3
        start = time.monotonic() + 0.1
        for worker in (one, two):
            worker.send(do="window", batch=2, start=start, seconds=0.3)
        answers = [one.receive(), two.receive()]
        assert all(answer["begun"] >= start for answer in answers)
        assert all(answer["ends"] == sorted(answer["ends"]) for answer in answers)
        assert all(answer["ends"][-1] >= start + 0.3 > answer["ends"][-2] for answer in answers)  # and no call more
        assert max(answer["begun"] for answer in answers) < min(answer["ends"][-1] for answer in answers)
        assert one.finish()["peak_rss_bytes"] != 0


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_sessions_stay_on_cpus_of_their_own_while_they_work(bundle: Path, runtime: str) -> None:
    """OpenVINO binds the calling thread for the time of a call: left to itself, of both processes to the same CPU."""
    pytest.importorskip(runtime)
    cpus = sorted(os.sched_getaffinity(0))[-2:]
    with contextlib.ExitStack() as stack:
        workers = []
        for cpu in cpus:
            job = Job("throughput", "cpu", runtime, "fp32", LENGTH, threads=1, cpus=(cpu,), bundle=str(bundle))
            workers.append(stack.enter_context(JobProcess(job, name=f"on CPU {cpu}")))
        for worker in workers:  # built at the same time, as in a measurement
            worker.ready()
        for worker in workers:
            worker.ask(do="prepare", batch=16, check=False)
        start = time.monotonic()
        for worker in workers:
            worker.send(do="window", batch=16, start=start, seconds=0.6)
        seen: list[set[int]] = [set(), set()]
        while time.monotonic() < start + 0.5:
            for worker, used in zip(workers, seen, strict=True):
                for thread in Path(f"/proc/{worker.pid}/task").iterdir():
                    used |= os.sched_getaffinity(int(thread.name))
        for worker in workers:
            worker.receive()
        assert seen == [{cpu} for cpu in cpus]


@pytest.mark.slow
def test_every_setup_is_counted(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput_module, "WINDOW_SECONDS", 0.1)
    monkeypatch.setattr(throughput_module, "allowed_cpus", lambda: [0, 1])
    plans = [_plan(), _plan(precision="int8"), _plan("pytorch"), _plan("torchscript"), _plan(variant="localizer")]
    rows = _count(plans, bundle)
    assert [(r["precision"], r["sessions"], r["threads"], r["batch"]) for r in rows] == [
        (precision, s.sessions, s.threads, s.batch) for precision in ("fp32", "int8") for s in SETUPS
    ]
    assert {row["runtime"] for row in rows} == {"onnxruntime"}  # what detect runs and takes batches
    json.dumps(rows, allow_nan=False)
    for row in rows:
        assert row["not_measured"] is None
        rate, seconds = row["videos_per_second"], row["seconds"]
        assert 0 < rate["min"] <= rate["median"] <= rate["max"]
        # the fastest call bounds what its sessions could have done
        assert rate["max"] <= row["sessions"] * row["batch"] / seconds["min"] * 1.001
        assert row["mask_difference"] <= (1e-4 if row["precision"] == "fp32" else 0.05)
    for base in (rows[0], rows[len(SETUPS)]):
        assert base["ratio"] == 1.0
    assert rows[2]["ratio"] == pytest.approx(
        rows[2]["videos_per_second"]["median"] / rows[0]["videos_per_second"]["median"]
    )


def test_two_cores_need_two(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput_module, "WINDOW_SECONDS", 0.05)
    monkeypatch.setattr(throughput_module, "allowed_cpus", lambda: [0])
    one, threads, sessions = _count([_plan()], bundle, setups=[Setup(1, 1, 1), Setup(1, 2, 1), Setup(2, 1, 1)])
    assert one["videos_per_second"]["median"] > 0
    for row in (threads, sessions):
        assert row["not_measured"] == "needs 2 CPUs, and this process may use 1"
        assert row["videos_per_second"] is row["ratio"] is row["seconds"] is None


class _Detector:
    """Outputs are made of its features; `wrong` answers for the first video alone."""

    channels = 4
    policy = "paper"
    class_axis = 1

    def __init__(self, *, batch: int | None = None, wrong: bool = False) -> None:
        self.fixed_batch = batch
        self.wrong = wrong

    def run(self, features: Any) -> Mapping[str, Any]:
        logits = np.repeat(features.mean(axis=2)[:, None] * 100, 3, axis=1)
        masks = 1 / (1 + np.exp(-features[:, :, :1] * np.ones((1, 1, LENGTH), dtype=np.float32)))
        if self.wrong:
            logits, masks = (np.repeat(x[:1], len(x), axis=0) for x in (logits, masks))
        return {"class_logits": logits, "masks": masks}


def _batches(detector: _Detector) -> Batches:
    batches = Batches.__new__(Batches)
    batches.__dict__ |= {"_detector": detector, "_precision": "fp32", "_length": LENGTH, "_seed": 0}
    return batches


def test_a_batch_that_cannot_be_counted_says_why() -> None:
    fixed = _batches(_Detector(batch=1))
    assert fixed.prepare(4, check=True) == {"refused": "its file takes batches of 1 alone"}
    assert fixed.prepare(1, check=True)["mask_difference"] == 0
    wrong = _batches(_Detector(wrong=True)).prepare(4, check=True)
    assert "a batch of 4: wrong outputs" in wrong["refused"]
    right = _batches(_Detector()).prepare(4, check=True)
    assert (right["mask_difference"], right["snippets_apart"]) == (0, 0)
    assert "mask_difference" not in _batches(_Detector()).prepare(4, check=False)


def test_nothing_to_count_is_an_error() -> None:
    pytest.importorskip("torch")
    config = BenchConfig(lengths=(LENGTH,), runtimes=("pytorch",))
    with pytest.raises(ConfigError, match="--throughput counts detectors on the CPU in onnxruntime and openvino"):
        run_benchmark(dataclasses.replace(config, throughput=True), network=TINY)
    with pytest.raises(ConfigError, match="--peers times detectors on the CPU in fp32 and bf16"):
        run_benchmark(dataclasses.replace(config, runtimes=(), precisions=("int8",), peers=True), network=TINY)


def test_table_of_throughput(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def row(precision: str, setup: Setup, rate: float | None, reason: str | None = None) -> dict[str, Any]:
        return {
            "runtime": "openvino", "precision": precision, "length": 100, "sessions": setup.sessions,
            "threads": setup.threads, "batch": setup.batch, "not_measured": reason,
            "videos_per_second": None if rate is None else {"median": rate, "min": rate, "max": rate},
        }  # fmt: skip

    results = {
        "rows": [
            {
                "variant": variant, "device": "cpu", "runtime": "openvino", "precision": precision, "length": 100,
                "seconds": {"median": seconds},
            }
            for variant, precision, seconds in (("localizer", "fp32", 9.0), ("detector", "fp32", 0.02),
                                                ("detector", "bf16", 0.01))
        ],
        "throughput": {
            "rows": [row("fp32", setup, rate) for setup, rate in zip(SETUPS, (50.0, 60.123, 61, 95, 99), strict=True)]
            + [row("bf16", setup, rate, "why not" if rate is None else None)
               for setup, rate in zip(SETUPS, (100.0, None, 1234.5, 1, 2), strict=True)]
        },
        "recommendation": {"lengths": [{"runtime": "openvino", "precision": "bf16", "length": 100}]},
    }  # fmt: skip
    columns, rows = throughput_table(results)
    assert columns == ["detector", "T", "latency", "batch 1", "batch 4", "batch 16", "2 threads", "2 sessions"]
    assert rows == [
        ["openvino fp32", "100", "20 ms", "50", "60.1", "61", "95", "99"],
        ["openvino bf16 *", "100", "10 ms", "100", "-", "1234", "1", "2"],
    ]
    asked: dict[str, Any] = {}
    for of_row in results["rows"]:  # type: ignore[attr-defined]
        of_row |= {"speedup": None, "utilization": None, "peak_rss_bytes": None, "model_bytes": None}
    results |= {
        "machine": {"cpu": "A", "load_average_before": None, "gpu": None},
        "protocol": {"threads": 1, "pinned_to_cpus": None, "rounds": 3},
        "peers": [
            {"variant": "detector", "runtime": "torch-compile", "precision": "fp32", "length": 100,
             "compile_seconds": 31.234, "not_measured": None},
            {"variant": "detector", "runtime": "aot-inductor", "precision": "fp32", "length": 100,
             "compile_seconds": None, "not_measured": "no compiler"},
        ],
    }  # fmt: skip
    monkeypatch.setattr(
        "stale_edge.benchmarking.run_benchmark", lambda config, **_: asked.update(vars(config)) or results
    )
    code, out, err = run("bench", "--device", "cpu", "--peers", "--throughput")
    assert (code, asked["peers"], asked["throughput"]) == (0, True, True), err
    for words in ("torch-compile fp32, T = 100: compiled in 31.2 s", "T = 100: not measured: no compiler",
                  "videos per second, next to the latency", "T = 100, batch 4: not measured: why not"):  # fmt: skip
        assert words in out
    assert note_lines(results) == [
        "torch-compile fp32, T = 100: compiled in 31.2 s",
        "aot-inductor fp32, T = 100: not measured: no compiler",
        "openvino bf16, T = 100, batch 4: not measured: why not",
    ]
