"""`bench --recommend`: the fastest way to run a detector on this machine with good enough detections."""

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stale_edge.benchmarking.benchmark import find_devices, run_benchmark
from stale_edge.benchmarking.decisions import BASELINE, RULE, ComparedRuntime, compare_runtimes
from stale_edge.benchmarking.extras import needs_extra
from stale_edge.benchmarking.network_sizes import FULL_SIZE, Network
from stale_edge.benchmarking.row_plan import plan_rows
from stale_edge.benchmarking.several_networks import NETWORKS_RULE, join_networks
from stale_edge.benchmarking.table import format_ratio, format_seconds
from stale_edge.benchmarking.target import Target, bundle_target, network_target
from stale_edge.bundle import read_bundle
from stale_edge.config import BenchConfig
from stale_edge.config.runtimes import RUNTIMES
from stale_edge.errors import ConfigError
from stale_edge.progress import Progress
from stale_edge.runtime.recommendation import Choice, Recommendation, write_recommendation

COLUMNS = ("T", "fp32", "int8", "recommended", "", "median", "x ref.")
INT8 = ("onnxruntime", "int8")


def run_with_recommendation(
    config: BenchConfig,
    *,
    bundle: Path | None = None,
    data: Path | None = None,
    text_encoder: Path | None = None,
    network: Network = FULL_SIZE,
    progress: Progress,
) -> dict[str, Any]:
    """Compare detections, measure times, and save the choice for this machine where `runtime="auto"` finds it.

    Args:
        config: as in `run_benchmark`; on the CPU. Without runtimes and precisions, everything that runs here is tried
            except fp16, which is not faster than fp32 on a CPU.
        bundle: the bundle to choose for. None: `network` is timed with random weights, and detections are compared on
            small networks that are first trained on simulated data; the choice is not saved, as no bundle could use it.
        data: data set; detections are compared on its validation videos. Required with a bundle, refused without.
        text_encoder, network: as in `run_benchmark`.
        progress: called with (stage, done, total, note).

    Returns:
        The result of `run_benchmark`, with `recommendation`: `rule`, `judged_on`, `runtimes` (one entry per way to run:
        as `ComparedRuntime`), `lengths` (one
        entry per length: `length`, `runtime`, `precision`, `median`, `speedup`, and `fp32_speedup`, `int8_speedup` of
        ONNX Runtime; null where unknown) and `written`, the file of the choice or null.

    Raises:
        ConfigError: a bundle without data, data without a bundle, or as in `run_benchmark`.
        StaleEdgeError: as in `compare_runtimes` and `run_benchmark`.
    """
    if (bundle is None) != (data is None):
        wanted = (
            "needs --data DIR, whose validation videos the bundle is compared on"
            if bundle
            else "takes --data for a bundle"
        )
        raise ConfigError(f"--recommend {wanted}")
    if config.device != "cpu" or "detector" not in config.variants:
        raise ConfigError("--recommend chooses how a detector runs on the CPU: use --device cpu and measure detectors")
    config = dataclasses.replace(config, recommend=True)
    target = network_target(network) if bundle is None else bundle_target(bundle, text_encoder=text_encoder)
    pairs = candidates(config, target)
    if bundle is not None and data is not None:
        compared, compared_on = (
            compare_runtimes(bundle, data, pairs, threads=config.threads, progress=progress),
            str(data),
        )
    else:
        compared, compared_on = _compare_on_simulated(config, pairs, network, progress)
    results = run_benchmark(
        config,
        bundle=bundle,
        text_encoder=text_encoder,
        network=network,
        progress=progress,
    )
    chosen = choose(results["rows"], compared)
    described = {
        "rule": RULE,
        "judged_on": compared_on,
        "runtimes": [one.to_json() for one in compared],
        "lengths": chosen,
        "written": None,
    }
    if bundle is not None and chosen:
        choices = tuple(Choice(one["length"], one["runtime"], one["precision"]) for one in chosen)
        file = write_recommendation(
            read_bundle(bundle), Recommendation(choices), threads=config.threads, reasons=described
        )
        described["written"] = str(file)
    return {**results, "recommendation": described}


def candidates(config: BenchConfig, target: Target) -> list[tuple[str, str]]:
    """List the bundle's (runtime, precision) pairs that a run will time.

    Raises:
        ConfigError: there is none.
    """
    find_devices(config.device)
    rows = plan_rows(config, "cpu", 1, available=target.available)
    pairs: list[tuple[str, str]] = [
        (row.runtime, row.precision) for row in rows if row.variant == "detector" and row.runtime in RUNTIMES
    ]
    if not pairs:
        raise ConfigError("--recommend has nothing to choose from: of --runtimes, PyTorch runs no bundle")
    return pairs


def choose(rows: Sequence[Mapping[str, Any]], compared: Sequence[ComparedRuntime]) -> list[dict[str, Any]]:
    """Choose the fastest kept pair for every length, by the median of its detector row; all have the same decoding."""
    kept = {one.pair for one in compared if one.kept}
    chosen = []
    for length in dict.fromkeys(row["length"] for row in rows):
        by_pair = {
            (row["runtime"], row["precision"]): row
            for row in rows
            if row["variant"] == "detector" and row["length"] == length and row["device"] == "cpu"
        }
        best = min((by_pair[pair] for pair in by_pair if pair in kept), key=_median, default=None)
        if best is None:
            continue
        chosen.append(
            {
                "length": length,
                "runtime": best["runtime"],
                "precision": best["precision"],
                "median": _median(best),
                "speedup": best["speedup"],
                "speedup_as_trained": best["speedup_as_trained"],
                "fp32_speedup": by_pair[BASELINE]["speedup"] if BASELINE in by_pair else None,
                "int8_speedup": by_pair[INT8]["speedup"] if INT8 in by_pair else None,
            }
        )
    return chosen


def recommendation_lines(recommendation: Mapping[str, Any]) -> list[str]:
    """List the kept and the refused pairs with the reasons, one per line."""
    lines = [f"compared on {recommendation['judged_on']}", f"kept: {recommendation['rule']}"]
    for one in recommendation["runtimes"]:
        kept = "kept" if one["kept"] else "REFUSED"
        lines.append(f"  {one['runtime']} {one['precision']}: {kept}: {one['reason']}")
    if not recommendation["lengths"]:
        lines.append("nothing that was measured may be recommended")
    if recommendation["written"]:
        lines.append(f"kept for this machine (detect --runtime auto): {recommendation['written']}")
    return lines


def recommendation_rows(recommendation: Mapping[str, Any]) -> list[list[str]]:
    """Format `COLUMNS` for every length: how many times faster than eager PyTorch ONNX Runtime and the choice are."""
    return [
        [
            str(one["length"]),
            _over_eager(one, one["fp32_speedup"]),
            _over_eager(one, one["int8_speedup"]),
            format_ratio(one["speedup_as_trained"]),
            f"{one['runtime']} {one['precision']}",
            format_seconds(one["median"]),
            format_ratio(one["speedup"]),
        ]
        for one in recommendation["lengths"]
    ]


def _over_eager(chosen: Mapping[str, Any], speedup: float | None) -> str:
    """Turn a speedup over the reference into one over eager PyTorch; a dash where one of them was not measured."""
    eager, reference = chosen["speedup_as_trained"], chosen["speedup"]
    return format_ratio(speedup * eager / reference if speedup and eager and reference else None)


def _compare_on_simulated(
    config: BenchConfig, pairs: Sequence[tuple[str, str]], network: Network, progress: Progress
) -> tuple[list[ComparedRuntime], str]:
    with needs_extra(
        "without a bundle, --recommend trains a small network to compare decisions on: name a bundle, or "
        'pip install "stale-edge[train,export]"'
    ):
        from stale_edge.benchmarking.torch_rows.trained_network import SEEDS, describe, make_trained_bundle

    made = list(dict.fromkeys([BASELINE, *pairs]))
    by_network = []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory(prefix="stale-edge-recommend-") as folder:
            bundle = make_trained_bundle(
                Path(folder), made, architecture=network.model.architecture, seed=seed, progress=progress
            )
            by_network.append(
                compare_runtimes(bundle, Path(folder) / "data", pairs, threads=config.threads, progress=progress)
            )
    return join_networks(by_network), f"{describe(network.model.architecture)}; {NETWORKS_RULE}"


def _median(row: Mapping[str, Any]) -> float:
    return float(row["seconds"]["median"])
