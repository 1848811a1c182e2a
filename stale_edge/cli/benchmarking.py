"""`stale-edge bench`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from stale_edge.cli.encoding import PreprocessingOption, SkipSimilarOption, check_encoding_options
from stale_edge.cli.output import JsonOption, console, progress_bar, split_names, table, write_bytes, write_json
from stale_edge.cli.whole_path import bench_video

if TYPE_CHECKING:
    from stale_edge.config import Preprocessing


class Device(StrEnum):
    """Device to measure on."""

    cpu = "cpu"
    cuda = "cuda"
    all = "all"


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(
        "bench", epilog="Example: [bold]stale-edge bench --device cpu --lengths 100,200 --repeats 3 --json -[/bold]"
    )(bench)


def bench(
    bundle: Annotated[Path | None, typer.Argument(help="Bundle; without one, a full-size network.")] = None,
    device: Annotated[
        Device | None, typer.Option(help="cpu, cuda, or all that this machine has; --video needs none.")
    ] = None,
    video: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Measure the whole path from this video to its detections, on the CPU."),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="For --video: encoder folder, random-vit-b-16 or random-vit-b-32; default: the bundle's own."
        ),
    ] = None,
    preprocessing: PreprocessingOption = None,
    skip_similar: SkipSimilarOption = None,
    architecture: Annotated[
        str | None,
        typer.Option(help="Without a bundle: measure the full size of this architecture; default: release."),
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="One of an architecture's published sizes, such as activitynet-i3d.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads, pinned.")] = 1,
    lengths: Annotated[
        str, typer.Option(help="Video lengths in snippets: a,b,c or start:stop:step; default: 100,200.")
    ] = "",
    precisions: Annotated[
        str | None, typer.Option(help="Comma-separated: fp32, fp16, bf16, int8, int8-static, int8-bf16.")
    ] = None,
    runtimes: Annotated[
        str | None, typer.Option(help="Comma-separated: pytorch, onnxruntime, openvino, torchscript.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Trials per row, taken in turns.")] = 5,
    peak_tmacs: Annotated[
        float | None, typer.Option(help="Divide by this many tera MACs per second instead of the measured rate.")
    ] = None,
    json_path: JsonOption = None,
    plot: Annotated[Path | None, typer.Option(help="Write the latency curve to this PNG.")] = None,
    recommend: Annotated[
        bool,
        typer.Option(
            "--recommend",
            help="Try every runtime and precision, keep those with the same detections, and store the fastest for this "
            "machine (detect --runtime auto).",
        ),
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(help="For --recommend: data set whose validation videos are used to compare runtimes."),
    ] = None,
    peers: Annotated[
        bool,
        typer.Option(
            "--peers",
            help="Also time PyTorch bf16, torch.compile and AOTInductor; needs a C++ compiler; half a minute each.",
        ),
    ] = False,
    throughput: Annotated[
        bool,
        typer.Option(
            "--throughput", help="Also count videos per second: in batches, on two threads, in two processes."
        ),
    ] = False,
    compare: Annotated[Path | None, typer.Option(help="Show what became slower since this earlier JSON.")] = None,
    record: Annotated[
        bool, typer.Option("--record", help="A run that others will cite: begin only on an idle machine.")
    ] = False,
) -> None:
    """Measure time, memory and MACs per video length, each row in a process of its own, in turns."""
    from stale_edge.benchmarking import compare_results, parse_lengths, read_results, run_benchmark
    from stale_edge.benchmarking.cpus import require_idle
    from stale_edge.benchmarking.network_sizes import FULL_SIZE, full_size
    from stale_edge.benchmarking.recommend import (
        COLUMNS as RECOMMENDED,
    )
    from stale_edge.benchmarking.recommend import recommendation_lines, recommendation_rows, run_with_recommendation
    from stale_edge.benchmarking.table import (
        COLUMNS,
        machine_line,
        note_lines,
        table_rows,
        throughput_table,
    )
    from stale_edge.config import BenchConfig, from_dict
    from stale_edge.errors import ConfigError

    if record:
        require_idle()
    if video is not None:
        from stale_edge.benchmarking.whole_path import WholePath
        from stale_edge.machine import allowed_cpus

        check_encoding_options(preprocessing, skip_similar)
        path = WholePath(
            video,
            Path(),
            bundle,
            threads=(threads,) if threads > 1 else tuple(sorted({1, len(allowed_cpus())})),
            runtimes=tuple(split_names(runtimes or "")),
            precisions=tuple(split_names(precisions or "")),
            preprocessing=cast("Preprocessing", preprocessing or "exact"),
            skip_similar=skip_similar,
            repeats=repeats,
        )
        bench_video(path, encoder, recommend=recommend, json_path=json_path)
        return
    if device is None:
        raise typer.BadParameter("give cpu, cuda or all; or --video FILE", param_hint="--device")
    if encoder is not None or preprocessing is not None or skip_similar is not None:
        raise typer.BadParameter("belongs to --video", param_hint="--encoder, --preprocessing, --skip-similar")
    chosen = {
        "device": device.value,
        "threads": threads,
        "runtimes": split_names(runtimes or ""),
        "precisions": split_names(precisions or ""),
        "repeats": repeats,
        "peak_tmacs": peak_tmacs,
        "peers": peers,
        "throughput": throughput,
    }
    if architecture is not None and bundle is not None:
        raise typer.BadParameter("a bundle has its own; leave one of the two out", param_hint="--architecture")
    if size is not None and architecture is None:
        raise typer.BadParameter("is one of an architecture's sizes: name it by --architecture", param_hint="--size")
    network = FULL_SIZE if architecture is None else full_size(architecture, size)
    if data is not None and not recommend:
        raise typer.BadParameter("is read by --recommend alone", param_hint="--data")
    try:
        config = from_dict(BenchConfig, {**chosen, "lengths": parse_lengths(lengths) if lengths else ()})
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from error
    earlier = read_results(compare) if compare is not None else None
    with progress_bar() as progress:
        if recommend:
            results = run_with_recommendation(
                config,
                bundle=bundle,
                data=data,
                network=network,
                progress=progress,
            )
        else:
            results = run_benchmark(config, bundle=bundle, network=network, progress=progress)
    comparison = compare_results(earlier, results) if earlier is not None else None
    if comparison is not None:
        results = {**results, "comparison": comparison.to_json()}
    write_json(results, json_path)
    out = console(json_path)
    out.print(machine_line(results), markup=False)
    out.print(table("", list(COLUMNS), table_rows(results)))
    if recommend:
        chosen = results["recommendation"]
        out.print("\n".join(recommendation_lines(chosen)), markup=False)
        out.print(table("times faster than PyTorch eager as trained", list(RECOMMENDED), recommendation_rows(chosen)))
    if throughput:
        out.print(table("videos per second, next to the latency of one", *throughput_table(results)))
    for line in note_lines(results):
        out.print(line, markup=False)
    if comparison is not None:
        out.print(comparison.to_text(), markup=False)
    if plot is not None:
        from stale_edge.report.figures import latency_curve

        write_bytes(plot, latency_curve(results))
