"""The model card of a bundle: everything in it comes from the manifest and from the result of `bench`."""

import json
from collections.abc import Mapping
from typing import Any

from stale_edge.bundle import Bundle

MOST_CLASSES = 200
_ABSENT = "not recorded"


def model_card(bundle: Bundle, *, bench: Mapping[str, Any] | None = None) -> str:
    """Write the README.md of a bundle on a hub.

    Args:
        bundle: the bundle.
        bench: what `bench --json` wrote; None: the card has no times.
    """
    manifest, bank = bundle.manifest, bundle.class_bank
    contract = manifest.feature_contract
    head = {
        "library_name": "stale-edge",
        "pipeline_tag": "video-classification",
        "tags": ["temporal-action-localization", "onnx", manifest.architecture],
    }
    data = _of(manifest.parity, "data")
    config = _of(manifest.provenance, "config")
    text_source = _of(_of(config, "model"), "text").get("source") or _ABSENT
    more = f" and {len(bank) - MOST_CLASSES} more" if len(bank) > MOST_CLASSES else ""
    lines = [
        "---",
        *(f"{key}: {json.dumps(value)}" for key, value in head.items()),
        "---",
        f"# {manifest.architecture}: {len(bank)} classes",
        "",
        "A bundle of stale-edge, which finds which action happens when in",
        "untrimmed videos. This card is made from its manifest.",
        "",
        "    from stale_edge import load_bundle",
        '    localizer = load_bundle("ORG/NAME")',
        "",
        "## Features",
        "",
        f"(T, {contract.channels}) of the encoder `{_line(contract.encoder)}`, {contract.fps or '?'} frames per "
        f"second, a snippet every {contract.stride or '?'} frames. The encoder has a licence of its own; see where it "
        "comes from.",
        f"Text encoder: `{_line(text_source)}`.",
        "",
        "## Data and accuracy",
        "",
        f"Compared with its checkpoint on: {_line(data.get('description', _ABSENT))}.",
    ]
    if data.get("source") == "simulated":
        lines.append("**These data are simulated**: figures on them say nothing about real videos.")
    lines += ["", *_table(_of(manifest.parity, "artifacts")), ""]
    if bench is not None:
        lines += ["## Time", "", *_times(bench), ""]
    names = ", ".join(_line(name) for name in bank.names[:MOST_CLASSES])
    return "\n".join([*lines, "## Classes", "", f"{names}{more}", ""])


def _table(artifacts: Mapping[str, Any]) -> list[str]:
    rows = ["| file | matched detections | flipped snippets | average mAP, % |", "|---|---|---|---|"]
    for name, found in artifacts.items():
        if isinstance(found, Mapping):
            matched = found.get("matched_detections")
            share = _ABSENT if matched is None else f"{100 * float(matched):.1f} %"
            flipped, accuracy = found.get("flipped_snippets", _ABSENT), found.get("average_mAP")
            rows.append(f"| `{_line(name)}` | {share} | {flipped} | {_ABSENT if accuracy is None else accuracy} |")
    return rows


def _times(bench: Mapping[str, Any]) -> list[str]:
    machine = _of(bench, "machine")
    rows = [
        f"On {_line(machine.get('cpu', _ABSENT))}, medians:",
        "",
        "| variant | runtime | T | ms |",
        "|---|---|---|---|",
    ]
    for row in bench.get("rows", ()):
        median = _of(row, "seconds").get("median")
        if median is not None:
            what = f"{row.get('runtime')} {row.get('precision')}, {row.get('threads')} thread(s)"
            rows.append(f"| {row.get('variant')} | {what} | {row.get('length')} | {1000 * float(median):.1f} |")
    return rows


def _of(table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = table.get(key)
    return value if isinstance(value, Mapping) else {}


def _line(value: Any) -> str:
    """Put a value on one line without Markdown's and HTML's signs of structure."""
    text = " ".join(str(value).split())
    return text.replace("|", "\\|").replace("<", "&lt;").replace("`", "'")
