"""`bench --peers`: PyTorch's own fast ways to run a detector, timed in turns with the rows; `detect` has none."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stale_edge.benchmarking.jobs import Job
from stale_edge.benchmarking.network_sizes import Network
from stale_edge.benchmarking.processes import JobProcess
from stale_edge.benchmarking.rounds import MeasuredProcess
from stale_edge.benchmarking.row_plan import Device, RowPlan
from stale_edge.config import BenchConfig, Precision
from stale_edge.errors import StaleEdgeError
from stale_edge.progress import Progress

PEERS: tuple[tuple[str, Precision], ...] = (
    ("pytorch", "bf16"),
    ("torch-compile", "fp32"),
    ("torch-compile", "bf16"),
    ("aot-inductor", "fp32"),
    ("aot-inductor", "bf16"),
)


@dataclass(frozen=True)
class Peer:
    """A built peer, or the reason why it was not built."""

    plan: RowPlan
    measured: MeasuredProcess | None
    """Its measuring process; None: it is not measured."""
    about: Mapping[str, float]
    reason: str = ""
    """Reason why it is not measured; empty: it is."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; the row has the times of calls."""
        return {
            "variant": self.plan.variant,
            "device": self.plan.device,
            "runtime": self.plan.runtime,
            "precision": self.plan.precision,
            "length": self.plan.length,
            "compile_seconds": self.about.get("compile_seconds"),
            "mask_difference": self.about.get("mask_difference"),
            "snippets_apart": self.about.get("snippets_apart"),
            "not_measured": self.reason or None,
        }


def plan_peers(config: BenchConfig, devices: Sequence[Device], length: int) -> list[RowPlan]:
    """List the peers' rows of one length: on the CPU, in the requested precisions."""
    if "cpu" not in devices or "detector" not in config.variants:
        return []
    return [
        RowPlan("detector", "cpu", runtime, precision, length)
        for runtime, precision in PEERS
        if not config.precisions or precision in config.precisions
    ]


@contextlib.contextmanager
def built_peers(
    plans: Sequence[RowPlan],
    network: Network | None,
    *,
    config: BenchConfig,
    cpus: Sequence[int],
    progress: Progress,
) -> Iterator[list[Peer]]:
    """Compile, check and warm up peers one by one, in processes that run until the end of the block.

    AOTInductor's file runs in a new process; the result of torch.compile runs only in the process that compiled it.
    A peer that cannot be built stays in the list with the reason.
    """
    with tempfile.TemporaryDirectory(prefix="stale-edge-peers-") as folder, contextlib.ExitStack() as stack:
        peers = []
        for done, plan in enumerate(plans):
            progress(f"T = {plan.length}: compile peers", done, len(plans), plan.name)
            if network is None:
                peers.append(
                    Peer(plan, None, {}, "the sizes of the bundle's network are not known, or torch is missing")
                )
                continue
            job = _job(plan, network, Path(folder) / str(done), config=config, cpus=cpus)
            try:
                peers.append(_build(plan, job, stack))
            except StaleEdgeError as error:
                peers.append(Peer(plan, None, {}, str(error)))
        if plans:
            progress(f"T = {plans[0].length}: compile peers", len(plans), len(plans), "")
        yield peers


def _job(plan: RowPlan, network: Network, scratch: Path, *, config: BenchConfig, cpus: Sequence[int]) -> Job:
    scratch.mkdir()
    return Job(
        variant="detector",
        device="cpu",
        runtime=plan.runtime,
        precision=plan.precision,
        length=plan.length,
        threads=config.threads,
        cpus=tuple(cpus),
        network=network,
        seed=config.seed,
        scratch=str(scratch),
        artifact=str(scratch / "detector.pt2") if plan.runtime == "aot-inductor" else "",
    )


def _build(plan: RowPlan, job: Job, stack: contextlib.ExitStack) -> Peer:
    about: Mapping[str, float] = {}
    if job.artifact:
        with JobProcess(dataclasses.replace(job, variant="compile"), name=plan.name) as compiler:
            compiler.ready()
            about = compiler.about
    with contextlib.ExitStack() as building:
        measured = MeasuredProcess(plan.name, building.enter_context(JobProcess(job, name=plan.name)))
        measured.model_bytes = measured.process.ready()
        measured.warm_up()
        stack.push(building.pop_all())
    return Peer(plan, measured, about or measured.process.about)
