"""`stale-edge watch`: detect in live videos or features, one line of JSON per event."""

import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from stale_edge.cli.devices import DeviceName, DeviceOption, print_providers
from stale_edge.cli.encoding import (
    EncoderPrecisionOption,
    EncoderRuntimeOption,
    PreprocessingOption,
    SkipSimilarOption,
    check_encoder_choice,
    check_encoding_options,
)
from stale_edge.cli.windows import OverlapOption, check_window_options

if TYPE_CHECKING:
    from stale_edge.config import Preprocessing
    from stale_edge.runtime.live.sources import Peekable


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("watch", epilog="Example: [bold]stale-edge watch bundle holiday.mp4 --window 100 --speed 4[/bold]")(
        watch
    )


def watch(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A video or feature file, read as if live; - for a pipe (a video, or an .npy stream of rows); or a "
            "camera or URL that PyAV can open.",
        ),
    ],
    encoder: Annotated[Path | None, typer.Option(help="Encoder folder for videos; default: the bundle's own.")] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Class names to look for: a file, one per line, or name,name,…; default: the bundle's."
        ),
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(
            metavar="SNIPPETS",
            min=2,
            help="Number of snippets in one network call; a segment is final at most this long after its end. Default: "
            "the length to which the bundle resamples, or 100.",
        ),
    ] = None,
    overlap: OverlapOption = None,
    speed: Annotated[
        float,
        typer.Option(
            min=0,
            help="Reading speed of a file, as a multiple of real time; 0: as fast as possible, nothing is skipped.",
        ),
    ] = 1.0,
    min_score: Annotated[float, typer.Option(min=0, max=1, help="Leave out segments that score less.")] = 0.0,
    tentative: Annotated[bool, typer.Option(help="Also print segments that may still change.")] = True,
    waiting: Annotated[
        int,
        typer.Option(min=1, help="Most snippets in the queue; if it is full, the oldest is skipped, or see --wait."),
    ] = 8,
    skip: Annotated[
        bool | None,
        typer.Option(
            "--skip/--wait",
            help="If the queue is full: skip snippets, or let the source wait; default: wait for pipes and --speed 0.",
        ),
    ] = None,
    snippet: Annotated[
        float | None, typer.Option(help="Seconds of video per snippet of features, if the bundle does not give it.")
    ] = None,
    input_format: Annotated[
        str | None, typer.Option(help="FFmpeg's name of the format, such as v4l2 for a camera.")
    ] = None,
    runtime: Annotated[str, typer.Option(help="Runtime of the detector, as in detect.")] = "onnxruntime",
    precision: Annotated[str, typer.Option(help="Precision of the detector: fp32, fp16 or int8.")] = "fp32",
    encoder_precision: EncoderPrecisionOption = "fp32",
    encoder_runtime: EncoderRuntimeOption = "onnxruntime",
    preprocessing: PreprocessingOption = None,
    skip_similar: SkipSimilarOption = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    device: DeviceOption = DeviceName.cpu,
) -> None:
    """Detect actions while they happen: JSON lines with tentative segments at once, and final segments once.

    Ctrl-C ends the stream in order: tentative segments become final.
    """
    from stale_edge.runtime.detect_settings import class_list
    from stale_edge.runtime.live import WatchSettings, open_live
    from stale_edge.runtime.live import watch as watch_source
    from stale_edge.runtime.loading import load_bundle
    from stale_edge.runtime.text_encoder import choose_classes
    from stale_edge.runtime.video_reader import VideoReader

    if snippet is not None and not 0 < snippet < float("inf"):
        raise typer.BadParameter("must be a finite number of seconds > 0", param_hint="--snippet")
    if speed == float("inf"):
        raise typer.BadParameter("must be finite; 0 is as fast as it comes", param_hint="--speed")
    localizer = load_bundle(bundle, runtime=runtime, precision=precision, threads=threads, device=device.value)
    print_providers(device, [localizer.provider])
    contract = localizer.feature_contract
    snippets = window or contract.resample_to or 100
    check_window_options(snippets, overlap)
    bank = (
        localizer.class_bank
        if classes is None
        else choose_classes(bundle, localizer.class_bank, class_list(classes))[0]
    )
    check_encoding_options(preprocessing, skip_similar)
    check_encoder_choice(encoder_runtime, encoder_precision)
    if preprocessing is not None:
        contract = replace(contract, preprocessing=cast("Preprocessing", preprocessing))
    reader = VideoReader(
        bundle,
        contract,
        encoder=encoder,
        precision=encoder_precision,
        threads=threads,
        runtime=encoder_runtime,
        skip_similar=skip_similar,
        live=True,
        device=device.value,
    )
    if encoder_runtime == "auto":
        reader = reader.recommended([])
    opened = open_live(
        source,
        reader,
        snippet_s=snippet,
        input_format=input_format,
        pipe=cast("Peekable", sys.stdin.buffer) if source == "-" else None,
    )
    settings = WatchSettings(
        window=snippets,
        overlap=overlap,
        class_bank=bank,
        tentative=tentative,
        min_score=min_score,
        waiting=waiting,
        skip=skip,
        speed=speed,
    )
    with _stop_on_signals() as stop:
        for event in watch_source(localizer, opened, settings, stop=stop):
            sys.stdout.write(json.dumps(event, ensure_ascii=False, allow_nan=False) + "\n")
            sys.stdout.flush()


@contextmanager
def _stop_on_signals() -> Iterator[threading.Event]:
    """Let SIGINT and SIGTERM end the stream in order; a second one ends the process."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    try:
        for number in before:
            signal.signal(number, handle)
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
