"""`stale-edge evaluate --protocol strict`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stale_edge.cli.output import console, table, write_bytes, write_json

if TYPE_CHECKING:
    from stale_edge.evaluation.zero_shot import StrictReport
    from stale_edge.progress import Progress
    from stale_edge.runtime.evaluate import EvaluationSettings


def measure_strictly(
    model: Path, data: Path, *, seen: Path | None, settings: "EvaluationSettings", progress: "Progress"
) -> "StrictReport":
    """Run the strict protocol with a bundle (without torch) or a checkpoint."""
    from stale_edge.data import open_data_set, read_split
    from stale_edge.runtime.contract import check_feature_spec
    from stale_edge.runtime.strict_protocol import evaluate_strictly

    data_set = open_data_set(data)
    if (model / "manifest.json").is_file():
        from stale_edge.errors import DataError
        from stale_edge.runtime import load_bundle, load_text_encoder

        if seen is None:
            raise DataError(f"{model}: a bundle does not say which classes it was trained on; give --seen FILE")
        localizer = load_bundle(model, device=settings.device)
        check_feature_spec(localizer.feature_contract, data_set.feature_spec)
        return evaluate_strictly(
            localizer,
            data_set,
            seen=read_split(seen),
            encode=lambda names: load_text_encoder(model).encode(names),
            settings=settings,
            progress=progress,
        )
    from stale_edge.model.checkpoint import encode_classes, read_checkpoint
    from stale_edge.training import TorchLocalizer
    from stale_edge.training.class_sources import bank_for

    checkpoint = read_checkpoint(model)
    bank = bank_for(checkpoint, data_set.class_names, root=data_set.root)
    opened = TorchLocalizer.of(checkpoint, class_bank=bank)
    check_feature_spec(opened.feature_contract, data_set.feature_spec)
    return evaluate_strictly(
        opened,
        data_set,
        seen=checkpoint.vocabulary if seen is None else read_split(seen),
        encode=lambda names: encode_classes(checkpoint, names).select(names),
        settings=settings,
        progress=progress,
    )


def print_strictly(reports: "Sequence[StrictReport]", *, plot: Path | None, json_path: Path | None) -> None:
    """Print and write the results of one model, or mean and deviation of several."""
    from stale_edge.evaluation.zero_shot import mean_and_deviation

    first = reports[0]
    means = mean_and_deviation(reports)
    several = {} if len(reports) == 1 else {"splits": [one.to_json() for one in reports], "over_splits": means}
    main = first.to_json()
    if several:
        main |= {figure: means[figure]["mean"] for figure in means if figure in main}
        main["false_alarms_per_hour"] = {
            kind: means[f"false_alarms_per_hour.{kind}"]["mean"] for kind in ("absent", "nonsense")
        }
    write_json({**main, **several}, json_path)
    out = console(json_path)
    rows = []
    for figure, found in means.items():
        mean, deviation = (found[key] for key in ("mean", "deviation"))
        said = "-" if mean is None else f"{mean:.2f}" + ("" if deviation is None else f" ± {deviation:.2f}")
        rows.append([figure.replace("_", " ").replace(".", ", "), said])
    title = "Strict protocol" + (f", {len(reports)} models" if several else "")
    out.print(table(title, ["", "all names at once"], rows))
    for one in reports:
        counts = ", ".join(f"{len(names)} {kind}" for kind, names in one.names.items())
        lowered = (
            ""
            if one.nonsense_lowers_by is None
            else f"; nonsense lowers mAP by {round(one.nonsense_lowers_by, 2) + 0.0:.2f}"
        )
        out.print(f"{counts} names in {one.hours:.2f} hours, alarms at a score of {one.operating_score:.2f}{lowered}")
        for note in one.notes:
            out.print(note, markup=False)
    if plot is not None:
        from stale_edge.report.reliability import reliability_figure

        write_bytes(plot, reliability_figure(first))
        out.print(f"{plot}: reliability of scores", markup=False)
