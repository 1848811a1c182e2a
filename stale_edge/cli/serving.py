"""`stale-edge serve`: a bundle behind HTTP and WebSocket."""

from pathlib import Path
from typing import Annotated

import typer

from stale_edge.cli.devices import DeviceName, DeviceOption, print_providers


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command("serve", epilog="Example: [bold]stale-edge serve bundle --port 8080[/bold]")(serve)


def serve(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0: all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free one.")] = 8080,
    runtime: Annotated[str, typer.Option(help="Runtime of the detector, as in detect.")] = "onnxruntime",
    precision: Annotated[str, typer.Option(help="Precision of the detector, as in detect.")] = "fp32",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of the network.")] = 1,
    device: DeviceOption = DeviceName.cpu,
    queue: Annotated[int, typer.Option(min=1, help="Requests that may wait; further ones get status 429.")] = 64,
    batch: Annotated[int, typer.Option(min=1, help="Videos of equal T in one call of the network.")] = 8,
    most_mb: Annotated[int, typer.Option(min=1, help="Size of a body in MB; larger ones get status 413.")] = 256,
) -> None:
    """Serve a bundle: /v1/detect (npy, JSON, video), /v1/stream (WebSocket), KServe v2, /healthz, /metrics.

    /openapi.json describes it. Each request is one line of JSON on standard error. SIGTERM and Ctrl-C finish what
    waits.
    There is no authentication: on other addresses than 127.0.0.1 put a proxy in front.
    """
    import logging

    import uvicorn

    from stale_edge.serving.service import ServeSettings, Service
    from stale_edge.serving.web import make_app

    settings = ServeSettings(
        bundle,
        runtime=runtime,
        precision=precision,
        threads=threads,
        device=device.value,
        most_waiting=queue,
        most_together=batch,
        most_bytes=most_mb * 1_000_000,
    )
    service = Service(settings)
    print_providers(device, [service.localizer.provider])
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    config = uvicorn.Config(
        make_app(service), host=host, port=port, log_level="warning", access_log=False, ws_max_size=settings.most_bytes
    )
    typer.echo(f"{bundle}: http://{host}:{port}", err=True)
    uvicorn.Server(config).run()
