"""`bench --peers`: PyTorch's own fast ways to run a detector, timed in turns with the rows; `detect` has none."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from stale_edge.benchmarking.jobs import Job
from stale_edge.benchmarking.network_sizes import Network
from stale_edge.benchmarking.processes import JobProcess
from stale_edge.benchmarking.rounds import Measurement
from stale_edge.benchmarking.row_plan import Device, RowPlan
from stale_edge.config import BenchConfig, BenchVariant, Precision
from stale_edge.errors import StaleEdgeError
from stale_edge.progress import Progress

PEERS: tuple[tuple[BenchVariant, str, Precision], ...] = (
    ("as-trained", "torch-compile", "fp32"),
    ("detector", "pytorch", "bf16"),
    ("detector", "torch-compile", "fp32"),
    ("detector", "torch-compile", "bf16"),
    ("detector", "aot-inductor", "fp32"),
    ("detector", "aot-inductor", "bf16"),
)


def plan_peers(config: BenchConfig, devices: Sequence[Device], length: int) -> list[RowPlan]:
    """List the peers' rows of one length: on the CPU, in the requested precisions."""
    if "cpu" not in devices or "detector" not in config.variants:
        return []
    return [
        RowPlan(variant, "cpu", runtime, precision, length)
        for variant, runtime, precision in PEERS
        if variant in config.variants and (not config.precisions or precision in config.precisions)
    ]


@contextlib.contextmanager
def built_peers(
    plans: Sequence[RowPlan],
    network: Network | None,
    *,
    config: BenchConfig,
    cpus: Sequence[int],
    progress: Progress,
) -> Iterator[list[Measurement]]:
    """Compile, check and warm up peers one by one, in processes that run until the end of the block.

    AOTInductor's file runs in a new process; the result of torch.compile runs only in the process that compiled it.
    A peer that cannot be built stays in the list with the reason.
    """
    with tempfile.TemporaryDirectory(prefix="stale-edge-peers-") as folder, contextlib.ExitStack() as stack:
        peers = []
        for done, plan in enumerate(plans):
            progress(f"T = {plan.length}: compile peers", done, len(plans), plan.name)
            if network is None:
                reason = "the sizes of the bundle's network are not known, or torch is missing"
                peers.append(Measurement(plan.name, plan, reason=reason))
                continue
            job = _job(plan, network, Path(folder) / str(done), config=config, cpus=cpus)
            try:
                peers.append(_build(plan, job, stack))
            except StaleEdgeError as error:
                peers.append(Measurement(plan.name, plan, reason=str(error)))
        if plans:
            progress(f"T = {plans[0].length}: compile peers", len(plans), len(plans), "")
        yield peers


def _job(plan: RowPlan, network: Network, scratch: Path, *, config: BenchConfig, cpus: Sequence[int]) -> Job:
    scratch.mkdir()
    return Job(
        **vars(plan),
        threads=config.threads,
        cpus=tuple(cpus),
        network=network,
        seed=config.seed,
        scratch=str(scratch),
        artifact=str(scratch / "detector.pt2") if plan.runtime == "aot-inductor" else "",
    )


def _build(plan: RowPlan, job: Job, stack: contextlib.ExitStack) -> Measurement:
    about: dict[str, float] = {}
    if job.artifact:
        with JobProcess(dataclasses.replace(job, variant="compile"), name=plan.name) as compiler:
            compiler.ready()
            about = compiler.about
    with contextlib.ExitStack() as building:
        process = building.enter_context(JobProcess(job, name=plan.name))
        measured = Measurement(plan.name, plan, process, about=about)
        measured.build()
        measured.warm_up()
        stack.push(building.pop_all())
    return measured
