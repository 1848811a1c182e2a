"""Put the commands together and turn errors into one line and an exit code.

Exit codes: 0; 1 for a user's mistake or a bad file; 2 for wrong usage; 3 when parity or verification fails.
"""

import io
import signal
import sys
import warnings
from typing import NoReturn

import typer

from stale_edge.cli import (
    benchmarking,
    bundles,
    configuring,
    converting,
    data,
    demo,
    detecting,
    diagnosing,
    encoder,
    features,
    finding,
    importing,
    scoring,
    serving,
    sharing,
    studying,
    training,
    watching,
)
from stale_edge.errors import StaleEdgeError

PARITY_CODE = 3
_EXTRAS = {
    **dict.fromkeys(("torch", "transformers", "safetensors", "fvcore", "accelerate"), "train"),
    **dict.fromkeys(("onnx", "onnxscript"), "export"),
    **dict.fromkeys(("matplotlib", "jinja2"), "report"),
    **dict.fromkeys(("av", "PIL"), "video"),
    "onnxruntime": "cpu",
    "opentimelineio": "interchange",
    **dict.fromkeys(("starlette", "uvicorn", "prometheus_client", "websockets"), "serve"),
    "ray": "ray",
    "tensorboard": "track",
    "pyarrow": "parquet",
    "tokenizers": "text",
    "huggingface_hub": "hub",
}
"""The extra that installs each package."""

app = typer.Typer(
    name="stale-edge",
    help="Find which action happens when in untrimmed videos, with STALE, on the edge.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Example: [bold]stale-edge demo --out demo[/bold]",
)
demo.register(app)
data.register(app)
training.register(app)
configuring.register(app)
importing.register(app)
bundles.register(app)
encoder.register(app)
features.register(app)
detecting.register(app)
finding.register(app)
converting.register(app)
watching.register(app)
serving.register(app)
sharing.register(app)
benchmarking.register(app)
scoring.register(app)
diagnosing.register(app)
studying.register(app)


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        from stale_edge.version import __version__

        typer.echo(f"stale-edge {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; never shows a traceback for a mistake in the input.

    SIGTERM ends a command like Ctrl-C: it removes its unfinished files and ends with exit code 143.
    """
    signal.signal(signal.SIGTERM, _end)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file name may hold bytes that are not text
    if not sys.warnoptions:  # those of libraries about their own future are not for the user of a command
        for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", category=category)
    try:
        app()
    except StaleEdgeError as error:
        _fail(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        # Modules that need torch import it at their top; without the extra this is not a bug, it must be installed.
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        _fail(f"this command needs {error.name}, which is not installed: pip install 'stale-edge[{extra}]'", 1)
    except MemoryError as error:
        _fail(f"there is not enough memory for this: {error}", 1)
    except OSError as error:
        # Not a bug, but a full disk or a missing permission; the message names the file.
        _fail(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error), 1)


def _end(number: int, frame: object) -> NoReturn:
    del frame
    signal.signal(number, signal.SIG_IGN)  # a second SIGTERM must not interrupt the cleanup
    raise SystemExit(128 + number)


def _fail(message: str, code: int) -> None:
    # A table under the message keeps its lines; all others become one line.
    first, *lines = message.split("\n") if code == PARITY_CODE else [message]
    sys.stderr.write("\n".join([f"error: {' '.join(first.split())}", *lines]) + "\n")
    sys.exit(code)
