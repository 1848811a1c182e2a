"""One benchmark run: which processes, in whose turn, and what their answers mean."""

import contextlib
import importlib.util
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from stale_edge.benchmarking.compare import SCHEMA
from stale_edge.benchmarking.cpus import choose_cpus, load_average
from stale_edge.benchmarking.jobs import Job
from stale_edge.benchmarking.network import FULL_SIZE, Network
from stale_edge.benchmarking.peers import Peer, built_peers, plan_peers
from stale_edge.benchmarking.plan import Device, RowPlan, plan_rows, without
from stale_edge.benchmarking.protocol import describe_protocol
from stale_edge.benchmarking.rates import Rates, plan_products, product_job
from stale_edge.benchmarking.rounds import Contestant, contestants, run_rounds
from stale_edge.benchmarking.rows import Measured, to_rows
from stale_edge.benchmarking.subject import Subject, bundle_subject, has_torch, network_subject
from stale_edge.benchmarking.throughput import COUNTED_RUNTIMES, RULE, measure_throughput, products_of
from stale_edge.config import BenchConfig, BenchVariant
from stale_edge.errors import ConfigError, StaleEdgeError
from stale_edge.machine import allowed_cpus, machine_card
from stale_edge.progress import Progress, silent

_VARIANTS = get_args(BenchVariant)


def run_benchmark(
    config: BenchConfig,
    *,
    bundle: Path | None = None,
    text_encoder: Path | None = None,
    network: Network = FULL_SIZE,
    peers: bool = False,
    throughput: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Measure time, memory and work of every variant at every length, and say on what machine and how.

    Args:
        config: device, threads, lengths, variants, runtimes, precisions, rounds.
        bundle: measure its artifacts; torch is then needed only for PyTorch rows. None: make `network` with PyTorch,
            export it for each length to a temporary folder, and measure that.
        text_encoder: folder of the text encoder of the bundle, so that its reference has the right size. None: a bundle
            with D = 512 is taken to come from CLIP's ViT-B, others are measured without a reference.
        network: sizes of what is measured without a bundle.
        peers: also time the folded detector in PyTorch bf16, torch.compile and AOTInductor, on the CPU.
        throughput: also count the videos per second of the detectors in ONNX Runtime and OpenVINO, by
            `throughput.SETUPS`.
        progress: called with (stage, done, total, note).

    Returns:
        JSON values: `schema`, `machine`, `protocol`, and `rows` of `variant`, `device`, `runtime`, `precision`,
        `threads`, `length`, `repeats`, `seconds` (`median`, `p90`, `min`, `max`, `std`), `peak_rss_bytes`,
        `model_bytes`, `gmacs`, `gmacs_per_second`, `utilization`, `speedup`. What cannot be known is null: post-
        processing has no model and no products, and without a reference there is no speedup.
        With `peers` also `peers`, one entry a peer and length: `variant`, `device`, `runtime`, `precision`, `length`,
        `compile_seconds` (cold; null for eager), `mask_difference` and `snippets_apart` from the trained detector in
        eager fp32, and `not_measured`, the reason why `rows` lacks it, or null.
        With `throughput` also `throughput`: the `rule`, and `rows` as `measure_throughput` returns them.

    Raises:
        ConfigError: a length, runtime, precision or number of threads that cannot be measured.
        StaleEdgeError: no CUDA device where one is asked for, a package or file is missing, or a process died.
    """
    devices = find_devices(config.device)
    if config.threads > len(allowed_cpus()):
        raise ConfigError(f"--threads {config.threads}: this process may use {len(allowed_cpus())} CPUs")
    subject = bundle_subject(bundle, text_encoder=text_encoder) if bundle is not None else network_subject(network)
    lengths = subject.lengths(config.lengths)
    plans = {length: _plan(config, subject, devices, length) for length in lengths}
    peer_plans = {length: plan_peers(config, devices, length) if peers else [] for length in lengths}
    if peers and not any(peer_plans.values()):
        raise ConfigError(
            "--peers times detectors on the CPU in fp32 and bf16: use --device cpu and one of these precisions"
        )
    if throughput and not any(products_of(rows) for rows in plans.values()):
        raise ConfigError(
            f"--throughput counts detectors on the CPU in {' and '.join(COUNTED_RUNTIMES)}: "
            "use --device cpu and one of these runtimes"
        )
    planned = [plan for of_length in (plans, peer_plans) for rows in of_length.values() for plan in rows]
    kinds = [(plan.device, plan.precision) for plan in planned if plan.variant != "postprocess"]
    cpus = choose_cpus(config.threads)
    machine, started = machine_card() | {"load_average_before": load_average()}, time.monotonic()
    clock = datetime.now(UTC).isoformat(timespec="seconds")
    products = plan_products(kinds) if config.peak_tmacs is None and kinds else []
    jobs = [(p.name, product_job(p, threads=config.threads, cpus=cpus or (), seed=config.seed)) for p in products]
    measured: list[Measured] = []
    tried: list[Peer] = []
    counted: list[dict[str, Any]] = []
    with contestants(jobs, progress=progress, stage="warm up matrix products") as product_group:
        for length in lengths:
            network_at = subject.network_at(length)
            with _bundle_for(subject, network_at, plans[length], seed=config.seed, progress=progress) as made:
                with built_peers(
                    peer_plans[length], network_at, config=config, cpus=cpus or (), progress=progress
                ) as built:
                    measured += _measure_length(
                        config, subject, plans[length], length, cpus, made, built, product_group, progress
                    )
                tried += built
                if throughput:
                    counted += measure_throughput(plans[length], made, config=config, progress=progress)
    rates = Rates(list(zip(products, product_group, strict=True)), peak_tmacs=config.peak_tmacs)
    results: dict[str, Any] = {
        "schema": SCHEMA,
        "machine": machine | {"load_average_after": load_average(), "gpu": _gpu_name(devices)},
        "protocol": describe_protocol(
            config, subject, measured, cpus=cpus, load_average_before=machine["load_average_before"]
        )
        | {
            "started_utc": clock,
            "took_seconds": round(time.monotonic() - started, 1),
            "utilization": rates.to_json(kinds) if products or config.peak_tmacs else None,
        },
        "rows": to_rows(measured, config=config, rates=rates),
    }
    if peers:
        results["peers"] = [peer.to_json() for peer in tried]
    if throughput:
        results["throughput"] = {"rule": RULE, "rows": counted}
    return results


def find_devices(wanted: str) -> tuple[Device, ...]:
    """Return the devices to measure.

    Raises:
        StaleEdgeError: CUDA is asked for, and there is none that PyTorch can use.
    """
    if wanted == "cpu":
        return ("cpu",)
    found = False
    if has_torch():
        import torch

        found = torch.cuda.is_available()
    if wanted == "cuda" and not found:
        cause = "PyTorch sees no CUDA device" if has_torch() else "PyTorch, which drives it, is not installed"
        raise StaleEdgeError(f"--device cuda: {cause}; use --device cpu, or all for whatever there is")
    if wanted == "cuda":
        return ("cuda",)
    return ("cpu", "cuda") if found else ("cpu",)


def _plan(config: BenchConfig, subject: Subject, devices: Sequence[Device], length: int) -> list[RowPlan]:
    rows = [row for device in devices for row in plan_rows(config, device, length, available=subject.available)]
    if subject.no_reference:
        rows = without(rows, "reference")
    if subject.network is None or subject.network.text is None:
        rows = without(rows, "text")
    if not rows:
        raise ConfigError(
            f"nothing is left to measure of {subject.title}: {subject.no_reference or 'choose more --variants'}"
        )
    return rows


def _measure_length(
    config: BenchConfig,
    subject: Subject,
    plans: Sequence[RowPlan],
    length: int,
    cpus: Sequence[int] | None,
    bundle: Path,
    peers: Sequence[Peer],
    product_group: Sequence[Contestant],
    progress: Progress,
) -> list[Measured]:
    network, at = subject.network_at(length), f"T = {length}"
    jobs = [
        (
            plan.name,
            Job(
                variant=plan.variant,
                device=plan.device,
                runtime=plan.runtime,
                precision=plan.precision,
                length=length,
                threads=config.threads,
                cpus=tuple(cpus or ()),
                network=network if plan.runtime == "pytorch" else None,
                bundle="" if plan.runtime == "pytorch" else str(bundle),
                n_classes=subject.n_classes,
                seed=config.seed,
            ),
        )
        for plan in plans
    ]
    with contestants(jobs, progress=progress, stage=f"{at}: warm up") as group:
        entries = list(zip(plans, group, strict=True))
        entries += [(peer.plan, peer.contestant) for peer in peers if peer.contestant is not None]
        entries.sort(key=lambda entry: (entry[0].device, _VARIANTS.index(entry[0].variant)))
        everyone = [contestant for _, contestant in entries]
        run_rounds(
            [*everyone, *product_group], config.repeats, seed=config.seed, progress=progress, stage=f"{at}: measure"
        )
        peaks = [contestant.worker.finish() for contestant in everyone]
    macs = _macs(subject, [plan for plan, _ in entries], length)
    return [
        Measured(plan, contestant, peak["peak_rss_bytes"], peak["peak_device_bytes"], macs.get(_work(plan)))
        for (plan, contestant), peak in zip(entries, peaks, strict=True)
    ]


@contextlib.contextmanager
def _bundle_for(
    subject: Subject, network: Network | None, plans: Sequence[RowPlan], *, seed: int, progress: Progress
) -> Iterator[Path]:
    """Give the bundle whose artifacts the rows run: the subject's own, or one made for this length, for a while."""
    if subject.bundle is not None:
        yield subject.bundle
        return
    if network is None:
        raise ValueError("a subject has a network or a bundle; this one has neither")
    from stale_edge.benchmarking.artifacts import make_bundle

    artifacts = dict.fromkeys((p.runtime, p.precision) for p in plans if p.runtime not in ("pytorch", "core"))
    with tempfile.TemporaryDirectory(prefix="stale-edge-bench-") as folder:
        path = Path(folder) / "bundle"
        if artifacts or any(plan.runtime == "core" for plan in plans):
            make_bundle(path, network, list(artifacts), seed=seed, progress=progress)
        yield path


def _macs(subject: Subject, plans: Sequence[RowPlan], length: int) -> Mapping[str, int]:
    """Count the work of the rows, by `_work`; empty where there is no network to count."""
    variants = {plan.variant for plan in plans} - {"postprocess"}
    if subject.network is None or not variants or importlib.util.find_spec("fvcore") is None:
        return {}
    from stale_edge.benchmarking.artifacts import detector_macs, text_macs

    counts: dict[str, int] = {}
    for work in dict.fromkeys(_work(plan) for plan in plans if plan.variant in ("detector", "localizer")):
        variant, _, whole = work.partition(" ")
        seen = length if variant == "detector" else subject.localizer_length(length)
        counts[work] = detector_macs(subject.network, seen, whole=bool(whole))
    if subject.network.text is not None and {"reference", "text"} & variants:
        counts["text"] = text_macs(subject.network.text, subject.n_classes)
    if "reference" in variants and "text" in counts:
        counts["reference"] = counts["text"] + detector_macs(subject.network, length, folded=False)
    return counts


def _work(plan: RowPlan) -> str:
    """Name what a row computes: most drop what only `foreground` needs, others cannot."""
    whole = plan.variant in ("detector", "localizer") and plan.runtime in ("pytorch", "torchscript")
    return f"{plan.variant} whole" if whole else plan.variant


def _gpu_name(devices: Sequence[Device]) -> str | None:
    if "cuda" not in devices:
        return None
    import torch

    return str(torch.cuda.get_device_name())
