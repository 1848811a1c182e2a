"""What the benchmark measures."""

import typing
from dataclasses import dataclass
from typing import Literal

from stale_edge.config.checks import require
from stale_edge.config.runtimes import Precision

BenchDevice = Literal["cpu", "cuda", "all"]
BenchVariant = Literal["reference", "as-trained", "detector", "text", "localizer", "postprocess"]
"""`reference` is what the public program runs for each video. `as-trained` is what a sensible user would run without
this kit: the network as it was trained, not folded, with class embeddings computed once."""
BenchRuntime = Literal["pytorch", "onnxruntime", "openvino", "torchscript"]


@dataclass(frozen=True)
class BenchConfig:
    """What `stale-edge bench` measures, and how often."""

    device: BenchDevice = "cpu"
    """`all`: the CPU, and a CUDA device where there is one."""
    threads: int = 1
    """CPU threads of every measured process, >= 1, each pinned to a core of its own where the system allows it."""
    lengths: tuple[int, ...] = ()
    """T in snippets, each >= 1; empty: 100 and 200, or the length of a bundle that takes only one."""
    variants: tuple[BenchVariant, ...] = typing.get_args(BenchVariant)
    """Which parts are measured; without `reference` there is no speedup."""
    runtimes: tuple[BenchRuntime, ...] = ()
    """Runtimes of the detector and localizer rows; empty: those that are sensible on the device."""
    precisions: tuple[Precision, ...] = ()
    """Precisions of the detector and localizer rows; empty: those that are sensible on the device."""
    repeats: int = 5
    """Number of rounds, >= 1; each round runs one trial of every row."""
    recommend: bool = False
    """Measure the detector with everything that runs here, not only what is sensible by default."""
    peers: bool = False
    """Also time the folded detector in PyTorch bf16, torch.compile and AOTInductor, on the CPU."""
    throughput: bool = False
    """Also count videos per second of the detectors in ONNX Runtime and OpenVINO, in batches and several processes."""
    peak_tmacs: float | None = None
    """Rate that utilization divides by, in 1e12 multiply-accumulates a second, > 0; None: the rate measured here."""
    seed: int = 0
    """Seed of weights, inputs and the order of turns."""

    def __post_init__(self) -> None:
        require(self.device in typing.get_args(BenchDevice), "bench.device", self.device, "cpu, cuda or all")
        for name in ("threads", "repeats"):
            require(getattr(self, name) >= 1, f"bench.{name}", getattr(self, name), "an integer >= 1")
        require(all(length >= 1 for length in self.lengths), "bench.lengths", self.lengths, "integers >= 1")
        require(len(set(self.lengths)) == len(self.lengths), "bench.lengths", self.lengths, "lengths that all differ")
        require(len(self.variants) > 0, "bench.variants", self.variants, "at least one variant")
        for name, allowed in (("variants", BenchVariant), ("runtimes", BenchRuntime), ("precisions", Precision)):
            require(
                set(getattr(self, name)) <= set(typing.get_args(allowed)),
                f"bench.{name}",
                getattr(self, name),
                f"some of {', '.join(typing.get_args(allowed))}",
            )
        require(
            self.peak_tmacs is None or 0 < self.peak_tmacs < float("inf"),
            "bench.peak_tmacs",
            self.peak_tmacs,
            "a number > 0, or nothing",
        )
