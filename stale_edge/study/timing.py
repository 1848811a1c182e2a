"""Measure times for a study, with the processes, warm-up and turns of the benchmark."""

import dataclasses
import importlib.util
from collections.abc import Mapping
from typing import Any

from stale_edge.benchmarking.benchmark import find_devices
from stale_edge.benchmarking.cpus import choose_cpus
from stale_edge.benchmarking.jobs import Job
from stale_edge.benchmarking.network_sizes import FULL_SIZE, Network, TextTower
from stale_edge.benchmarking.rates import Rates, plan_products
from stale_edge.benchmarking.rounds import run_rounds, warmed_up
from stale_edge.benchmarking.row_plan import Device
from stale_edge.benchmarking.statistics import summarize
from stale_edge.config import ModelConfig, Precision
from stale_edge.progress import Progress
from stale_edge.study.study import StudyOptions

LENGTHS = tuple(range(200, 3001, 200))
"""Video lengths of the thesis, section 4.3, in snippets."""
DEFAULT_N_LENGTHS = 8
N_SEEDS = 5
SEED_STEP = 100
"""The thesis repeats five times; its seed is the number of the experiment times 100."""
ROUNDS = 3
SMALL_SCALE = 0.2
"""Below this `--scale`, a small network is measured in place of the full-size one."""
SMALL = Network(
    ModelConfig(architecture="release", feature_channels=64, embed_dim=64),
    n_classes=20,
    text=TextTower(vocabulary=512, width=64, feedforward=128, layers=2, heads=4, embed_dim=64),
)


def chosen_lengths(options: StudyOptions) -> tuple[int, ...]:
    """Take all lengths of the thesis, or as many as the scale allows, spread evenly with both ends."""
    n = min(options.count(DEFAULT_N_LENGTHS, len(LENGTHS)), len(LENGTHS))
    if n == 1:
        return LENGTHS[:1]
    return tuple(LENGTHS[round(i * (len(LENGTHS) - 1) / (n - 1))] for i in range(n))


def chosen_seeds(options: StudyOptions, default: int) -> tuple[int, ...]:
    """Take the thesis' five seeds with `full`, else as many as the scale allows."""
    return tuple(SEED_STEP * number for number in range(options.n_repeats(default, N_SEEDS)))


def chosen_network(options: StudyOptions) -> Network:
    """Take the network that the thesis timed, or a small one for a small scale."""
    return FULL_SIZE if options.full or options.scale >= SMALL_SCALE else SMALL


def describe_network(network: Network) -> str:
    """Describe the measured network for a caption."""
    if network == FULL_SIZE:
        return (
            "the public network at full size (CLIP ViT-B/32's text tower, 200 classes), random weights, on which time "
            "does not depend"
        )
    return (
        f"a small stand-in for the public network (D = {network.model.embed_dim}, {network.n_classes} classes), for "
        "trying the study out; its times say nothing of STALE"
    )


def chosen_devices() -> tuple[Device, ...]:
    """The CPU, and CUDA where PyTorch finds it."""
    return find_devices("all")


def time_jobs(
    jobs: Mapping[str, Job], *, peak_tmacs: float | None, seed: int, progress: Progress, rounds: int = ROUNDS
) -> dict[str, dict[str, Any]]:
    """Measure jobs in turns, each in a process of its own, by the protocol of `stale-edge bench`.

    Args:
        jobs: by name; pinned here, so their `cpus` do not matter.
        peak_tmacs: rate that utilization divides by, in 1e12 multiply-accumulates a second; None: matrix products take
            turns with the jobs, and the fastest of the job's device and precision counts.
        seed: seed of the order of turns.
        progress: called with (stage, done, total, note).
        rounds: trials of each job.

    Returns:
        By name: `seconds` {median, p90, min, max, std}, `model_bytes`, `peak_bytes` (of the device's memory on CUDA,
        else of the whole process), `peak_macs_per_second`.

    Raises:
        StaleEdgeError: a process died or refused its job.
    """
    cpus = tuple(choose_cpus(1) or ())
    kinds = [(job.device, job.precision) for job in jobs.values()]
    products = [] if peak_tmacs is not None else plan_products(kinds)
    group = [(name, dataclasses.replace(job, cpus=cpus)) for name, job in jobs.items()]
    group += [(product.name, Job(**vars(product), threads=1, cpus=cpus, seed=seed)) for product in products]
    with warmed_up(group, progress=progress, stage="warm up") as processes:
        run_rounds(processes, rounds, seed=seed, progress=progress, stage="measure")
        for process in processes:
            process.finish()
    rates = Rates(processes[len(jobs) :], peak_tmacs=peak_tmacs)
    return {
        name: {
            "seconds": dict(summarize(process.seconds)),
            "model_bytes": process.model_bytes,
            "peak_bytes": process.about["peak_device_bytes" if job.device == "cuda" else "peak_rss_bytes"],
            "peak_macs_per_second": rates(job.device, job.precision),
        }
        for (name, job), process in zip(jobs.items(), processes, strict=False)
    }


def pytorch_job(variant: Any, network: Network, *, device: Device, length: int, precision: Precision, seed: int) -> Job:
    """Describe a process in which PyTorch runs the network, `reference` with its text tower or `detector` without."""
    return Job(
        variant=variant,
        device=device,
        runtime="pytorch",
        precision=precision,
        length=length,
        threads=1,
        network=network.at(length),
        n_classes=network.n_classes,
        seed=seed,
    )


def network_macs(network: Network, length: int) -> dict[str, int] | None:
    """Count the multiply-accumulates of the forward pass, with the text tower and without.

    Returns:
        `reference`, `detector` (folded, as it is deployed) and `text`; None: fvcore is not installed.
    """
    if importlib.util.find_spec("fvcore") is None or network.text is None:
        return None
    import torch

    from stale_edge.benchmarking.torch_rows.counts import detector_macs, text_macs
    from stale_edge.benchmarking.torch_rows.detectors import build_detector
    from stale_edge.benchmarking.torch_rows.macs import count_macs

    model = network.at(length).model
    inputs = torch.zeros(1, length, model.feature_channels), torch.ones(network.n_classes, model.embed_dim)
    text = text_macs(network.text, network.n_classes)
    whole = count_macs(build_detector(network.at(length), seed=0), inputs)
    return {"reference": text + whole, "detector": detector_macs(network, length), "text": text}
