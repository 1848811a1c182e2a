"""Time the text tower, the cold call, gradients and anomaly mode; count the weights that quantization changes."""

import json
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np
import torch
from figures import spread
from made_data import CHANNELS, config_for
from measure_quantization import measure_quantization
from torch import Tensor

from stale_edge.benchmarking import run_benchmark
from stale_edge.config import BenchConfig, LossConfig
from stale_edge.data import DataSet, resample
from stale_edge.model.stale.objective import StaleObjective
from stale_edge.model.stale.release import ReleaseStale
from stale_edge.model.targets import assign_targets, stack_targets
from stale_edge.training.step import TrainingModel

COLD = """
import sys, time
import torch
from stale_edge.benchmarking.network_sizes import FULL_SIZE
from stale_edge.benchmarking.torch_rows.thesis_reference import build_reference
from stale_edge.benchmarking.synthetic import random_features
torch.set_num_threads(1)
forward, _ = build_reference(FULL_SIZE.at(int(sys.argv[1])), seed=0)
features = torch.from_numpy(random_features(int(sys.argv[1]), 512, seed=0))[None]
def call():  # processor time of the one thread: what others do on the machine disturbs it less
    began = time.process_time()
    forward(features)
    return time.process_time() - began
with_gradients = [call() for _ in range(4)]
with torch.inference_mode():
    without = [call() for _ in range(4)]
print(*with_gradients, *without)
"""


def measure_time(data: DataSet, *, length: int, processes: int) -> dict[str, Any]:
    """Measure the time that the thesis' method adds, on a full-size network with random weights, one thread."""
    variants = BenchConfig(
        lengths=(length,), variants=("reference", "detector", "text"), runtimes=("pytorch",), precisions=("fp32",),
        repeats=3,
    )  # fmt: skip
    rows = run_benchmark(variants)["rows"]
    seconds = {row["variant"]: row["seconds"]["median"] for row in rows}
    found: dict[str, Any] = {
        "length": length,
        "seconds": seconds,
        "share of the text tower": 1 - seconds["detector"] / seconds["reference"],
    }
    calls = []
    for _ in range(processes):
        command = [sys.executable, "-c", COLD, str(length)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        calls.append([float(word) for word in output.split()[-8:]])
    cold = [call[0] for call in calls]
    warm = [statistics.median(call[1:4]) for call in calls]
    without = [statistics.median(call[5:8]) for call in calls]
    found["cold call with gradients"] = spread(cold)
    found["warm call with gradients"] = spread(warm)
    found["warm call without gradients"] = spread(without)
    found["anomaly mode"] = _anomaly_mode(data)
    found["quantization"] = measure_quantization(length)
    print(json.dumps(found, indent=1), flush=True)
    return found


def _anomaly_mode(data: DataSet) -> dict[str, float]:
    """Time a training step of the public network with and without torch's anomaly mode (stale_train.py:117)."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = config_for(epochs=1, seed=0, architecture="release").model
    names, videos = data.class_names, data.videos("training")[:16]

    class Classes(torch.nn.Module):
        def forward(self) -> Tensor:
            return torch.ones(len(names), CHANNELS)

    objective = StaleObjective(config, LossConfig())
    model = TrainingModel(ReleaseStale(config), Classes(), objective).train()
    features = torch.stack([torch.from_numpy(np.asarray(resample(data.load(video), 100))) for video in videos])
    entries = [data.annotations.videos[video] for video in videos]
    targets = stack_targets(
        [assign_targets(e.actions, vocabulary=names, duration_s=e.duration_s, n_snippets=100) for e in entries]
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def step() -> float:
        began = time.perf_counter()
        objective.total(model(features, targets)).mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return time.perf_counter() - began

    step(), step()
    times: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(10):
        for anomaly in (False, True):
            with torch.autograd.set_detect_anomaly(anomaly, check_nan=True):
                times[anomaly].append(step())
    return {"step_s": statistics.median(times[False]), "step_with_anomaly_mode_s": statistics.median(times[True])}
