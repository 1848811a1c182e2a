"""Check and record what needs a GPU: gpu.py --out DIR [--device cuda] [--quick].

On a machine with an NVIDIA GPU, where `pip install 'stale-edge[gpu,train,export]'` was run: parity and time of the
full-size networks in every precision, TorchScript and a CUDA graph; training in fp32, bf16 and fp16 and a resumed run;
a bundle through ONNX Runtime's providers; `stale-edge bench`. Nothing is downloaded. `--device cpu --quick` rehearses
every step on a CPU (bench/README.md), where times mean nothing.

Writes DIR/machine.json, parity.json, training.json, bundle.json, bench-*.json; exits with 1 if a step failed.
"""

import argparse
import copy
import json
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from stale_edge import load_bundle
from stale_edge.benchmarking.network_sizes import full_size
from stale_edge.benchmarking.torch_rows.detectors import InPrecision, build_detector
from stale_edge.cli.app import app
from stale_edge.config import SimulateConfig, load_config
from stale_edge.exporting.export import export_checkpoint
from stale_edge.exporting.graph.torchscript import trace_torchscript
from stale_edge.machine import machine_card
from stale_edge.model import small_text_encoder
from stale_edge.model.architectures import ARCHITECTURES
from stale_edge.model.folding import fold_detector
from stale_edge.model.stale.losses import mask_loss
from stale_edge.training import loop, train
from stale_edge.training.simulated_data import simulate_with_encoder

Call = Callable[[], Sequence[Tensor]]
NAMES = ("class_logits", "masks", "foreground")
WARM_UP, CALLS = 5, 30
WIDTH = 64
"""C and D of the trained network."""


class Steps:
    """Runs the steps; one that fails is recorded, and the others go on."""

    def __init__(self, device: str, out: Path, quick: bool) -> None:
        self.device, self.out, self.quick = device, out, quick
        self.failed: list[str] = []

    def run(self, name: str, step: Callable[["Steps"], Any]) -> None:
        started = time.perf_counter()
        print(f"== {name}", flush=True)
        try:
            result = step(self)
        except Exception:  # recorded and printed; the next step may still tell something
            traceback.print_exc()
            self.failed.append(name)
            return
        (self.out / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
        print(f"   {time.perf_counter() - started:.0f} s", flush=True)


def machine(steps: Steps) -> dict[str, Any]:
    """Describe the machine, its GPU and CUDA."""
    card: dict[str, Any] = {**machine_card(), "torch_cuda": torch.version.cuda}
    if steps.device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        card["gpu"] = {
            "name": properties.name,
            "memory_bytes": properties.total_memory,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "cudnn": torch.backends.cudnn.version(),
            "bf16": torch.cuda.is_bf16_supported(),
        }
    return card


def parity(steps: Steps) -> list[dict[str, Any]]:
    """Compare each way to run a full-size network with float32 on the CPU, and time it."""
    rows = []
    for architecture in ("paper",) if steps.quick else ("release", "paper"):
        for length in (100,) if steps.quick else (100, 1000, 3000):
            network = full_size(architecture).at(length)
            detector = build_detector(network, seed=0).eval()
            generator = torch.Generator().manual_seed(1)
            features = torch.randn(1, length, network.model.feature_channels, generator=generator)
            classes = torch.randn(network.n_classes, network.model.embed_dim, generator=generator)
            with torch.inference_mode():
                expected = _outputs(detector(features, classes))
            inputs = features.to(steps.device), classes.to(steps.device)
            for variant, make in _variants(detector, inputs, steps.device).items():
                row = {"architecture": architecture, "length": length, "variant": variant}
                with torch.inference_mode():
                    row |= _measure(make, expected, steps.device)
                rows.append(row)
                print(row, flush=True)
    return rows


def _variants(detector: nn.Module, inputs: tuple[Tensor, Tensor], device: str) -> dict[str, Callable[[], Call]]:
    def eager(module: nn.Module) -> Call:
        return lambda: _outputs(module(*inputs))

    def folded() -> nn.Module:
        return fold_detector(copy.deepcopy(detector)).to(device)  # folding shares weights

    def tf32() -> Call:
        torch.set_float32_matmul_precision("high")
        return eager(folded())

    def script() -> Call:
        traced = trace_torchscript(fold_detector(copy.deepcopy(detector)), precision="fp32").to(device)
        return lambda: traced(*inputs)

    made: dict[str, Callable[[], Call]] = {
        "fp32": lambda: eager(folded()),
        "fp16": lambda: eager(InPrecision(folded(), torch.float16)),
        "bf16": lambda: eager(InPrecision(folded(), torch.bfloat16)),
        "torchscript fp32": script,
    }
    if device == "cuda":
        made["tf32"] = tf32
        made["cuda graph fp32"] = lambda: _graphed(folded(), inputs)
        made["cuda graph fp16"] = lambda: _graphed(InPrecision(folded(), torch.float16), inputs)
    return made


def _graphed(module: nn.Module, inputs: tuple[Tensor, Tensor]) -> Call:
    """Record one call as a CUDA graph; the call copies the inputs and replays it."""
    held = tuple(tensor.clone() for tensor in inputs)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            module(*held)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = _outputs(module(*held))

    def call() -> Sequence[Tensor]:
        for place, value in zip(held, inputs, strict=True):
            place.copy_(value)
        graph.replay()
        return outputs

    return call


def _outputs(output: Any) -> tuple[Tensor, ...]:
    return tuple(getattr(output, name) for name in NAMES) if hasattr(output, "masks") else tuple(output)[: len(NAMES)]


def _measure(make: Callable[[], Call], expected: Sequence[Tensor], device: str) -> dict[str, Any]:
    try:
        call = make()
        got = [tensor.float().cpu() for tensor in call()]
    except (RuntimeError, NotImplementedError) as error:
        return {"error": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}
    finally:
        torch.set_float32_matmul_precision("highest")
    row: dict[str, Any] = {
        f"{name}_max_difference": float((ours - theirs).abs().max())
        for name, ours, theirs in zip(NAMES, got, expected, strict=True)
    }
    row["finite"] = all(bool(tensor.isfinite().all()) for tensor in got)
    row["flipped_snippets"] = int(((got[2] > 0.5) != (expected[2] > 0.5)).sum())
    row["median_s"] = _median_seconds(call, device)
    return row


def _median_seconds(call: Call, device: str) -> float:
    warm_up, calls = (WARM_UP, CALLS) if device == "cuda" else (1, 1)
    for _ in range(warm_up):
        call()
    times = []
    for _ in range(calls):
        if device == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def training(steps: Steps) -> dict[str, Any]:
    """Train in each precision, resume a run, and take the gradient of a confident wrong mask."""
    dtypes = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
    result: dict[str, Any] = {}
    epochs = 2 if steps.quick else 4

    def run(name: str, precision: str, n_epochs: int, *, resume: bool = False) -> list[dict[str, Any]]:
        config = load_config(
            None, (*_settings(steps), f"train.epochs={n_epochs}", "train.precision=auto"), architectures=ARCHITECTURES
        )
        # On a CPU `train` refuses fp16; the rehearsal takes the same way through autocast.
        with mock.patch.object(loop, "mixed_precision", return_value=dtypes[precision]):
            records = train(config, steps.out / "data", steps.out / "runs" / name, resume=resume).records
        result[name] = [{key: record[key] for key in ("loss", "skipped_steps", "seconds")} for record in records]
        return result[name]

    for precision in dtypes:
        run(precision, precision, epochs)
    run("resumed", "bf16", epochs // 2)
    whole, resumed = result["bf16"], run("resumed", "bf16", epochs, resume=True)
    result["resumed_equals_whole"] = [a["loss"] for a in whole] == [b["loss"] for b in resumed]
    logits = torch.full((1, 4, 4), 12.0, device=steps.device, requires_grad=True)
    background = torch.zeros(1, 4, 4, device=steps.device)
    labels = torch.full((1, 4), 8, device=steps.device)
    mask_loss(logits, background, labels, dice_weight=0.4).sum().backward()
    result["gradient_of_a_wrong_mask"] = float(logits.grad.sum()) if logits.grad is not None else None
    return result


def _settings(steps: Steps) -> tuple[str, ...]:
    return (
        "train.batch_size=16",
        f"train.device={steps.device}",
        "train.validate_every=0",
        *(f"model.{name}={WIDTH}" for name in ("feature_channels", "embed_dim", "feedforward_dim")),
    )


def bundle(steps: Steps) -> list[dict[str, Any]]:
    """Export the trained network, and compare every runtime and provider with ONNX Runtime on the CPU."""
    folder = steps.out / "bundle"
    export_checkpoint(
        steps.out / "runs" / "fp32" / "last", folder, formats=("onnx", "torchscript"), precisions=("fp32", "fp16")
    )
    expected = load_bundle(folder)
    channels = expected.feature_contract.channels
    features = np.random.default_rng(0).standard_normal((1, 100, channels), dtype=np.float32)
    wanted = expected.forward(features)
    devices = ("cuda", "tensorrt") if steps.device == "cuda" else ("cpu", "auto")
    rows = []
    for device in devices:
        for runtime in ("onnxruntime", "torchscript"):
            if runtime == "torchscript" and device == "tensorrt":
                continue
            row: dict[str, Any] = {"device": device, "runtime": runtime}
            try:
                localizer = load_bundle(folder, runtime=runtime, device=device)
                got = localizer.forward(features)
                row |= {f"{name}_max_difference": float(np.abs(got[name] - wanted[name]).max()) for name in NAMES}
                row["provider"] = localizer.provider
                row["median_s"] = _median_seconds(lambda call=localizer: call.forward(features), "cpu")  # type: ignore[misc]
            except Exception as error:  # for example a build without TensorRT
                row["error"] = f"{type(error).__name__}: {str(error)[:200]}"
            rows.append(row)
            print(row, flush=True)
    if all("error" in row for row in rows):
        raise RuntimeError("no runtime ran the bundle")
    return rows


def bench(steps: Steps, architecture: str) -> dict[str, Any]:
    """Run `stale-edge bench` on the device."""
    path = steps.out / f"rows-{architecture}.json"
    command = ["bench", "--device", steps.device, "--architecture", architecture, "--json", str(path)]
    command += ["--lengths", "100" if steps.quick else "100,1000,3000", "--repeats", "1" if steps.quick else "3"]
    if steps.device == "cpu":
        command += ["--runtimes", "torchscript"]
    app(command, standalone_mode=False)
    return dict(json.loads(path.read_text()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for the results; default: a temporary one")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="one architecture, T = 100, two epochs, no bench rows")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit(f"error: torch {torch.__version__} sees no GPU here; rehearse with --device cpu --quick")
    out = arguments.out or Path(tempfile.mkdtemp(prefix="stale-edge-gpu-"))
    out.mkdir(parents=True, exist_ok=True)
    steps = Steps(arguments.device, out, arguments.quick)
    n_videos = 24 if arguments.quick else 96
    small_text_encoder(out / "text_encoder", dim=WIDTH, seed=0)
    simulate_with_encoder(
        out / "data", text_encoder=str(out / "text_encoder"), config=SimulateConfig(n_videos=n_videos, n_classes=4)
    )
    steps.run("machine", machine)
    steps.run("parity", parity)
    steps.run("training", training)
    steps.run("bundle", bundle)
    for architecture in () if arguments.quick else ("release", "paper"):
        steps.run(f"bench-{architecture}", lambda s, a=architecture: bench(s, a))  # type: ignore[misc]
    print(f"results: {out}")
    if steps.failed:
        sys.exit(f"error: {', '.join(steps.failed)} failed; see above")


if __name__ == "__main__":
    main()
