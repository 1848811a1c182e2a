"""`stale-edge export`, `verify`, `inspect` and `classes`: commands that make, check or edit a bundle."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stale_edge.cli.description import describe_in_lines
from stale_edge.cli.output import JsonOption, console, progress_bar, split_names, write_json

if TYPE_CHECKING:
    from stale_edge.model.training_free.prompts import Prompts


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("export", epilog="Example: [bold]stale-edge export run/best --out bundle --data data[/bold]")(export)
    app.command("verify", epilog="Example: [bold]stale-edge verify bundle[/bold]")(verify)
    app.command("inspect", epilog="Example: [bold]stale-edge inspect bundle --json -[/bold]")(inspect)
    group = typer.Typer(
        no_args_is_help=True,
        help="List, add or remove the classes a bundle looks for.",
        epilog="Example: [bold]stale-edge classes list bundle[/bold]",
    )
    group.command("list", epilog="Example: [bold]stale-edge classes list bundle[/bold]")(list_)
    group.command("add", epilog='Example: [bold]stale-edge classes add bundle "pole vault" "juggling"[/bold]')(add)
    group.command("remove", epilog='Example: [bold]stale-edge classes remove bundle "pole vault"[/bold]')(remove)
    app.add_typer(group, name="classes")


def export(
    checkpoint: Annotated[
        str, typer.Argument(help="Checkpoint folder; with --arch training-free a CLIP: hub name or local folder.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Bundle folder to write.")],
    arch: Annotated[
        str | None, typer.Option(help="training-free: a detector without weights, made of a CLIP; needs --classes.")
    ] = None,
    background: Annotated[
        Path | None,
        typer.Option(help="With --arch training-free: prompts that name no action, one per line; default: a list."),
    ] = None,
    formats: Annotated[str, typer.Option(help="Comma-separated: onnx, torchscript, pt2, triton.")] = "onnx,torchscript",
    precisions: Annotated[str, typer.Option(help="Comma-separated: fp32, fp16, int8, int8-static.")] = "fp32,fp16,int8",
    classes: Annotated[Path | None, typer.Option(help="File with class names, one per line.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Data set: files are compared on its validation videos; int8 ranges come from other videos."),
    ] = None,
    layer_report: Annotated[
        bool,
        typer.Option("--report", help="Check int8 layer by layer; keep in float32 the layers that change decisions."),
    ] = False,
    text_encoder: Annotated[
        bool,
        typer.Option(help="Include the text encoder, so that the bundle takes new classes (CLIP ViT-B/32: 254 MB)."),
    ] = True,
    encoder: Annotated[
        Path | None,
        typer.Option(help="Visual encoder folder to include, so that the bundle takes videos."),
    ] = None,
    keep_passing: Annotated[
        bool,
        typer.Option("--keep-passing", help="Write the files that pass the parity check and name the others."),
    ] = False,
    json_path: JsonOption = None,
) -> None:
    """Turn a checkpoint into a bundle; a file whose decisions differ is not written (exit code 3)."""
    from stale_edge.exporting import export_checkpoint
    from stale_edge.exporting.artifact_formats import select_formats

    chosen: dict[str, Any] = {"formats": split_names(formats), "precisions": split_names(precisions)}
    try:
        select_formats(**chosen)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    chosen |= {"data": data, "layer_report": layer_report, "keep_passing": keep_passing}
    if arch is not None:
        prompts = _prompts(arch, classes, text_encoder=text_encoder, background=background)
    elif background is not None:
        raise typer.BadParameter("is for --arch training-free; leave it out", param_hint="--background")
    with progress_bar() as progress:
        if arch is None:
            report = export_checkpoint(
                checkpoint,
                out,
                **chosen,
                classes=classes,
                text_encoder=text_encoder,
                encoder=encoder,
                progress=progress,
            )
        else:
            from stale_edge.data import read_split
            from stale_edge.exporting.clip_to_bundle import export_training_free

            names = read_split(classes)  # type: ignore[arg-type]
            report = export_training_free(
                checkpoint, out, classes=names, encoder=encoder, prompts=prompts, progress=progress, **chosen
            )
    write_json(report.to_json(), json_path)
    console(json_path).print(report.summary(), markup=False)


def _prompts(arch: str, classes: Path | None, *, text_encoder: bool, background: Path | None) -> "Prompts":
    """Check the options of --arch training-free, and read the background prompts."""
    from stale_edge.model.training_free.prompts import Prompts, read_prompts

    if arch != "training-free":
        raise typer.BadParameter(
            f"must be training-free; got {arch}; a checkpoint names its own architecture", param_hint="--arch"
        )
    if classes is None:
        raise typer.BadParameter("is needed with --arch training-free: a file of names", param_hint="--classes")
    if not text_encoder:
        raise typer.BadParameter("cannot be left out with --arch training-free", param_hint="--no-text-encoder")
    return Prompts() if background is None else Prompts(background=read_prompts(background))


def verify(
    bundle: Annotated[Path, typer.Argument(help="Bundle, or folder of a visual encoder.")],
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="For bundles from elsewhere: limit sizes; refuse foreign operators and external weights."
        ),
    ] = False,
    json_path: JsonOption = None,
) -> None:
    """Check every byte of a bundle or visual encoder against its manifest; exit 3 if one differs."""
    from stale_edge.bundle import verify_bundle
    from stale_edge.bundle.encoder_folder import ENCODER_FORMAT, is_encoder, verify_encoder
    from stale_edge.bundle.strict import verify_strictly

    if is_encoder(bundle):
        if strict:
            raise typer.BadParameter(
                "is for bundles; an encoder inside a bundle is checked with it", param_hint="--strict"
            )
        verified: Any = verify_encoder(bundle)
        format_name = ENCODER_FORMAT
    else:
        verified = verify_strictly(bundle) if strict else verify_bundle(bundle)
        format_name = verified.manifest.format
    files = [{"path": entry.path, "bytes": entry.bytes, "sha256": entry.sha256} for entry in verified.manifest.files]
    write_json({"bundle": str(bundle), "format": format_name, "verified": True, "files": files}, json_path)
    console(json_path).print(f"{bundle}: {len(files)} files verified, {format_name}", markup=False)


def inspect(
    folder: Annotated[Path, typer.Argument(help="Bundle, visual encoder or checkpoint folder.")],
    json_path: JsonOption = None,
) -> None:
    """Show what a bundle holds (files, feature contract, classes, parity), or a checkpoint (parameters by block)."""
    if (folder / "config.json").is_file() and not (folder / "manifest.json").is_file():
        from stale_edge.model.parameters import describe_checkpoint

        description = describe_checkpoint(folder)
    else:
        from stale_edge.bundle import describe_bundle
        from stale_edge.bundle.encoder_folder import describe_encoder, is_encoder

        description = describe_encoder(folder) if is_encoder(folder) else describe_bundle(folder)
    write_json(description, json_path)
    out = console(json_path)
    for line in describe_in_lines(description):
        out.print(line, markup=False)


def list_(bundle: Annotated[Path, typer.Argument(help="Bundle folder.")], json_path: JsonOption = None) -> None:
    """List the class names, in the order of the class bank."""
    from stale_edge.bundle import read_bundle

    names = list(read_bundle(bundle).class_bank.names)
    write_json({"bundle": str(bundle), "classes": names}, json_path)
    out = console(json_path)
    for name in names:
        out.print(name, markup=False)


def add(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Class names to add.")],
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Class bank (.npz) that has the embeddings, or a checkpoint with a text encoder; default: the "
            "bundle's own text encoder.",
        ),
    ] = None,
    json_path: JsonOption = None,
) -> None:
    """Add classes, one row of the class bank for each; no export, no retraining."""
    from stale_edge.bundle import ClassBank, add_classes, read_bundle
    from stale_edge.errors import BundleError

    opened = read_bundle(bundle)
    opened.class_bank.check_open(names)
    if source is None and opened.manifest.of_role("text_encoder"):
        from stale_edge.runtime import load_text_encoder

        bank = load_text_encoder(bundle).encode(names)
    elif source is None:
        raise BundleError(
            f"{bundle} holds class embeddings but no text encoder, so it cannot embed {', '.join(names)} itself; "
            "give --from with a class bank (.npz) that has them, or with the checkpoint the bundle was made from"
        )
    elif source.suffix == ".npz":
        bank = ClassBank.load(source).select(names)
    else:
        from stale_edge.model.checkpoint import encode_classes, read_checkpoint

        bank = encode_classes(read_checkpoint(source), names)
    _report_classes(bundle, add_classes(bundle, bank).names, json_path)


def remove(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Class names to remove.")],
    json_path: JsonOption = None,
) -> None:
    """Remove classes from the class bank."""
    from stale_edge.bundle import remove_classes

    _report_classes(bundle, remove_classes(bundle, names).names, json_path)


def _report_classes(bundle: Path, names: tuple[str, ...], json_path: Path | None) -> None:
    write_json({"bundle": str(bundle), "classes": list(names)}, json_path)
    console(json_path).print(f"{bundle}: {len(names)} classes", markup=False)
