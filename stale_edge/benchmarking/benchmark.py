"""One benchmark run: starts the processes, measures them in turns, and makes the result."""

import contextlib
import importlib.util
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from stale_edge.benchmarking.cpus import choose_cpus, load_average
from stale_edge.benchmarking.extras import NEEDS_TORCH, has_torch, needs_extra
from stale_edge.benchmarking.jobs import Job
from stale_edge.benchmarking.network_sizes import FULL_SIZE, Network
from stale_edge.benchmarking.peers import built_peers, plan_peers
from stale_edge.benchmarking.protocol import describe_protocol
from stale_edge.benchmarking.rates import Rates, plan_products
from stale_edge.benchmarking.result_rows import peer_row, to_rows
from stale_edge.benchmarking.rounds import Measurement, run_rounds, warmed_up
from stale_edge.benchmarking.row_plan import Device, RowPlan, plan_rows, without
from stale_edge.benchmarking.run_comparison import SCHEMA
from stale_edge.benchmarking.synthetic import PLAUSIBLE
from stale_edge.benchmarking.target import Target, bundle_target, network_target
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
    progress: Progress = silent,
) -> dict[str, Any]:
    """Measure time, memory and work of every variant at every length, and describe machine and protocol.

    Args:
        config: device, threads, lengths, variants, runtimes, precisions, rounds, and optional measurements.
        bundle: measure its artifacts; torch is then needed only for PyTorch rows. None: make `network` with PyTorch,
            export it for each length to a temporary folder, and measure that.
        text_encoder: folder of the text encoder of the bundle, so that its reference has the right size. None: a bundle
            with D = 512 is assumed to come from CLIP's ViT-B; others are measured without a reference.
        network: sizes of the network that is measured without a bundle.
        progress: called with (stage, done, total, note).

    Returns:
        JSON values: `schema`, `machine`, `protocol`, and `rows` of `variant`, `device`, `runtime`, `precision`,
        `threads`, `length`, `repeats`, `seconds` (`median`, `p90`, `min`, `max`, `std`), `peak_rss_bytes`,
        `model_bytes`, `gmacs`, `gmacs_per_second`, `utilization`, `speedup` over the reference and
        `speedup_as_trained` over PyTorch eager on the network as trained. Unknown values are null: post-processing has
        no model and no products, and without a row to compare with there is no speedup.
        With `config.peers` also `peers`, one entry per peer and length: `variant`, `device`, `runtime`, `precision`,
        `length`, `compile_seconds` (cold; null for eager), `mask_difference` and `snippets_apart` from the trained
        detector in eager fp32, and `not_measured`, the reason why `rows` lacks it, or null.
        With `config.throughput` also `throughput`: the `rule`, and `rows` as `measure_throughput` returns them.

    Raises:
        ConfigError: a length, runtime, precision or number of threads that cannot be measured.
        StaleEdgeError: CUDA is requested without a CUDA device, a package or file is missing, or a process died.
    """
    devices = find_devices(config.device)
    if config.threads > len(allowed_cpus()):
        raise ConfigError(f"--threads {config.threads}: this process may use {len(allowed_cpus())} CPUs")
    target = bundle_target(bundle, text_encoder=text_encoder) if bundle is not None else network_target(network)
    plans, peer_plans = _plan_all(config, target, devices)
    planned = [plan for of_length in (plans, peer_plans) for rows in of_length.values() for plan in rows]
    kinds = [(plan.device, plan.precision) for plan in planned if plan.variant != "postprocess"]
    cpus = choose_cpus(config.threads)
    machine, begun = machine_card() | {"load_average_before": load_average()}, time.monotonic()
    clock = datetime.now(UTC).isoformat(timespec="seconds")
    products = plan_products(kinds) if config.peak_tmacs is None and kinds else []
    jobs = [
        (p.name, Job(**vars(p), threads=config.threads, cpus=tuple(cpus or ()), seed=config.seed)) for p in products
    ]
    measured: list[Measurement] = []
    tried: list[Measurement] = []
    counted: list[dict[str, Any]] = []
    with warmed_up(jobs, progress=progress, stage="warm up matrix products") as product_group:
        run = _Run(config, target, tuple(cpus or ()), product_group, progress)
        for length, rows in plans.items():
            with run.bundle_for(rows, length) as made:
                with built_peers(
                    peer_plans[length], target.network_at(length), config=config, cpus=run.cpus, progress=progress
                ) as built:
                    measured += run.measure(rows, length, bundle=made, peers=built)
                tried += built
                if config.throughput:
                    counted += measure_throughput(rows, made, config=config, progress=progress)
    rates = Rates(product_group, peak_tmacs=config.peak_tmacs)
    results: dict[str, Any] = {
        "schema": SCHEMA,
        "machine": machine | {"load_average_after": load_average(), "gpu": _gpu_name(devices)},
        "protocol": describe_protocol(
            config, target, measured, cpus=cpus, load_average_before=machine["load_average_before"]
        )
        | {
            "started_utc": clock,
            "network": _network_json(target, next(iter(plans))),
            "took_seconds": round(time.monotonic() - begun, 1),
            "utilization": rates.to_json(kinds) if products or config.peak_tmacs else None,
        },
        "rows": to_rows(measured, config=config, rates=rates),
    }
    if config.peers:
        results["peers"] = [peer_row(peer) for peer in tried]
    if config.throughput:
        results["throughput"] = {"rule": RULE, "rows": counted}
    return results


def find_devices(wanted: str) -> tuple[Device, ...]:
    """Return the devices to measure.

    Raises:
        StaleEdgeError: CUDA is requested, but PyTorch can use no CUDA device.
    """
    if wanted == "cpu":
        return ("cpu",)
    found = False
    if has_torch():
        from stale_edge.benchmarking.torch_rows.cuda import has_cuda

        found = has_cuda()
    if wanted == "cuda" and not found:
        cause = "PyTorch sees no CUDA device" if has_torch() else "PyTorch, which drives it, is not installed"
        raise StaleEdgeError(f"--device cuda: {cause}; use --device cpu, or all for whatever there is")
    if wanted == "cuda":
        return ("cuda",)
    return ("cpu", "cuda") if found else ("cpu",)


def _plan_all(
    config: BenchConfig, target: Target, devices: Sequence[Device]
) -> tuple[dict[int, list[RowPlan]], dict[int, list[RowPlan]]]:
    """List the rows and the peers' rows of every length."""
    lengths = target.lengths(config.lengths)
    plans = {length: _plan(config, target, devices, length) for length in lengths}
    peers = {length: plan_peers(config, devices, length) if config.peers else [] for length in lengths}
    if config.peers and not any(peers.values()):
        raise ConfigError(
            "--peers times detectors on the CPU in fp32 and bf16: use --device cpu and one of these precisions"
        )
    if config.throughput and not any(products_of(rows) for rows in plans.values()):
        raise ConfigError(
            f"--throughput counts detectors on the CPU in {' and '.join(COUNTED_RUNTIMES)}: "
            "use --device cpu and one of these runtimes"
        )
    return plans, peers


def _plan(config: BenchConfig, target: Target, devices: Sequence[Device], length: int) -> list[RowPlan]:
    rows = [row for device in devices for row in plan_rows(config, device, length, available=target.available)]
    if target.no_reference:
        rows = without(rows, "reference")
    if target.network is None or target.network.text is None:
        rows = without(rows, "text")
    if target.network is None or not has_torch():
        rows = without(rows, "as-trained")
    if target.policy not in PLAUSIBLE:
        rows = without(rows, "postprocess")
    if not rows:
        raise ConfigError(
            f"nothing is left to measure of {target.title}: {target.no_reference or 'choose more --variants'}"
        )
    return rows


@dataclass(frozen=True)
class _Run:
    """The state shared by all lengths of a run."""

    config: BenchConfig
    target: Target
    cpus: tuple[int, ...]
    products: Sequence[Measurement]
    """Matrix products; they take turns with the rows."""
    progress: Progress

    def measure(
        self, plans: Sequence[RowPlan], length: int, *, bundle: Path, peers: Sequence[Measurement]
    ) -> list[Measurement]:
        """Measure the rows and the peers of one length in turns."""
        at = f"T = {length}"
        jobs = [(plan.name, self._job(plan, bundle)) for plan in plans]
        with warmed_up(jobs, progress=self.progress, stage=f"{at}: warm up") as group:
            rows = [*group, *(peer for peer in peers if not peer.reason)]
            rows.sort(key=lambda row: (row.plan.device, _VARIANTS.index(row.plan.variant)))
            run_rounds(
                [*rows, *self.products],
                self.config.repeats,
                seed=self.config.seed,
                progress=self.progress,
                stage=f"{at}: measure",
            )
            for row in rows:
                row.finish()
        macs = _macs(self.target, [row.plan for row in rows], length)
        for row in rows:
            row.macs = macs.get(_work(row.plan))
        return rows

    @contextlib.contextmanager
    def bundle_for(self, plans: Sequence[RowPlan], length: int) -> Iterator[Path]:
        """Return the bundle whose files the rows run: the target's, or a temporary one."""
        if self.target.bundle is not None:
            yield self.target.bundle
            return
        network = self.target.network_at(length)
        if network is None:
            raise ValueError("a target has a network or a bundle; this one has neither")
        artifacts = dict.fromkeys(
            (plan.runtime, plan.precision)
            for plan in plans
            if plan.variant != "as-trained" and plan.runtime not in ("pytorch", "core")
        )
        with tempfile.TemporaryDirectory(prefix="stale-edge-bench-") as folder:
            path = Path(folder) / "bundle"
            if artifacts or any(plan.runtime == "core" for plan in plans):
                with needs_extra(NEEDS_TORCH):
                    from stale_edge.benchmarking.torch_rows.made_bundles import make_bundle
                make_bundle(path, network, list(artifacts), seed=self.config.seed, progress=self.progress)
            yield path

    def _job(self, plan: RowPlan, bundle: Path) -> Job:
        of_pytorch = plan.runtime == "pytorch" or plan.variant == "as-trained"
        return Job(
            **vars(plan),
            threads=self.config.threads,
            cpus=self.cpus,
            network=self.target.network_at(plan.length) if of_pytorch else None,
            bundle="" if of_pytorch else str(bundle),
            n_classes=self.target.n_classes,
            seed=self.config.seed,
        )


def _network_json(target: Target, length: int) -> dict[str, Any] | None:
    """Describe the measured network; None where the bundle does not name one, or torch is missing."""
    network = target.network_at(length)
    if network is None:
        return None
    from stale_edge.benchmarking.torch_rows.counts import describe_network

    return describe_network(network)


def _macs(target: Target, plans: Sequence[RowPlan], length: int) -> Mapping[str, int]:
    """Count the multiply-accumulates of the rows, by `_work`; empty if there is no network to count."""
    variants = {plan.variant for plan in plans} - {"postprocess"}
    if target.network is None or not variants or importlib.util.find_spec("fvcore") is None:
        return {}
    from stale_edge.benchmarking.torch_rows.counts import detector_macs, text_macs

    counts: dict[str, int] = {}
    for work in dict.fromkeys(_work(plan) for plan in plans if plan.variant in ("detector", "localizer")):
        variant, _, whole = work.partition(" ")
        at = length if variant == "detector" else target.localizer_length(length)
        counts[work] = detector_macs(target.network, at, whole=bool(whole))
    if target.network.text is not None and {"reference", "text"} & variants:
        counts["text"] = text_macs(target.network.text, target.n_classes)
    if "as-trained" in variants:
        counts["as-trained"] = detector_macs(target.network, length, folded=False)
    if "reference" in variants:
        again = counts["text"] if target.network.text_per_video else 0
        counts["reference"] = again + detector_macs(target.network, length, folded=False)
    return counts


def _work(plan: RowPlan) -> str:
    """Name the work of a row; most rows skip the nodes that only `foreground` needs, "whole" rows cannot."""
    whole = plan.variant in ("detector", "localizer") and plan.runtime in ("pytorch", "torchscript")
    return f"{plan.variant} whole" if whole else plan.variant


def _gpu_name(devices: Sequence[Device]) -> str | None:
    if "cuda" not in devices:
        return None
    from stale_edge.benchmarking.torch_rows.cuda import cuda_name

    return cuda_name()
