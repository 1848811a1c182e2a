"""Write the tables of our documents from the records that they cite.

    python bench/tables.py            # after a new record
    python bench/tables.py --check    # exit code 1 if a document says something else than its record

A table stands between `<!-- table KIND RECORD -->` and `<!-- end of table -->`; RECORD is a file of `bench/results`. So
no figure of such a table is typed by hand. `tests/test_documents.py` runs the check.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import mean, stdev
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
DOCUMENTS = (ROOT / "README.md", ROOT / "bench" / "README.md", *sorted((ROOT / "docs").glob("*.md")))
_TABLE = re.compile(r"(<!-- table (\S+) (\S+) -->\n).*?(<!-- end of table -->)", flags=re.DOTALL)


def latency(record: Mapping[str, Any]) -> list[list[str]]:
    """Show the rows of a detector by length: milliseconds, and times faster than eager PyTorch as trained."""
    wanted = {
        ("as-trained", "pytorch", "fp32"): "PyTorch eager, as trained",
        ("as-trained", "onnxruntime", "fp32"): "plain export, ONNX Runtime",
        ("detector", "onnxruntime", "fp32"): "**ours**, ONNX Runtime fp32",
        ("detector", "onnxruntime", "int8"): "**ours**, ONNX Runtime int8",
        ("detector", "openvino", "int8-static"): "**ours**, OpenVINO static int8",
        ("reference", "pytorch", "fp32"): "the thesis' reference",
    }
    cells = {
        (row["variant"], row["runtime"], row["precision"], row["length"]): (
            f"{milliseconds(row)}, {times(row['speedup_as_trained'])}"
            if row["variant"] == "detector"
            else milliseconds(row)
        )
        for row in record["rows"]
    }
    lengths = sorted({row["length"] for row in record["rows"]})
    kinds = [kind for kind in wanted if (*kind, lengths[0]) in cells]
    return [
        ["snippets", *(wanted[kind] for kind in kinds)],
        *([str(length), *(cells[*kind, length] for kind in kinds)] for length in lengths),
    ]


def rows(record: Mapping[str, Any]) -> list[list[str]]:
    """Show every row of a run: milliseconds by length, and times faster than eager PyTorch as trained."""
    lengths = sorted({row["length"] for row in record["rows"]})
    cells = {
        (f"{row['variant']}, {row['runtime']} {row['precision']}", row["length"]): (
            f"{milliseconds(row)}, {times(row['speedup_as_trained'])}"
        )
        for row in record["rows"]
    }
    names = dict.fromkeys(name for name, _ in cells)
    table = [[name, *(cells[name, length] for length in lengths)] for name in names]
    return [["row", *(f"T = {length}" for length in lengths)], *table]


def architectures(record: Mapping[str, Any]) -> list[list[str]]:
    """Show every architecture's time in fp32 and int8 by length, with the share of STALE's time in fp32."""
    lengths = sorted({row["length"] for row in record["rows"]})
    rows = {(row["architecture"], row["precision"], row["length"]): row for row in record["rows"]}
    table = [["detector", *(f"T = {length}" for length in lengths), "MB"]]
    for name, precision in dict.fromkeys((name, precision) for name, precision, _ in rows):
        of_length = [rows[name, precision, length] for length in lengths]
        cells = [f"{milliseconds(row)}, {row['share_of_paper']:.2f}" for row in of_length]
        table.append([f"`{name}` {precision}", *cells, f"{of_length[0]['model_bytes'] / 1e6:.1f}"])
    return table


def ladder(record: Mapping[str, Any]) -> list[list[str]]:
    """Show the average mAP of every detector over seeds, seen and unseen classes."""
    table = [["detector", "seen classes", "unseen classes", "seeds"]]
    for name, seeds in record["rows"].items():
        if seeds:
            cells = [spread([run[part] for run in seeds.values()]) for part in ("seen", "unseen")]
            table.append([name, *cells, ", ".join(seeds)])
    return table


def kinds(record: Mapping[str, Any]) -> list[list[str]]:
    """Show the average mAP of detectors on each kind of videos over seeds, seen / unseen classes."""
    measured = {detector: seeds for detector, seeds in record["kinds"].items() if seeds}
    names = list(next(iter(next(iter(measured.values())).values())))
    table = [["detector", *names, "seeds"]]
    for detector, seeds in measured.items():
        cells = [
            " / ".join(spread([run[name][part] for run in seeds.values()]) for part in ("seen", "unseen"))
            for name in names
        ]
        table.append([detector, *cells, ", ".join(seeds)])
    return table


def find(record: Mapping[str, Any]) -> list[list[str]]:
    """Show what `find` does in simulated worlds: mean over seeds of every figure."""
    seeds = record["simulated"].values()
    figures = ("average_mAP_%", "present_found_%", "absent_found_%", "nonsense_found_%")
    heads = ("average mAP, %", "present names found, %", "absent names found, %", "nonsense names found, %")
    worlds = next(iter(seeds))
    return [
        ["simulated videos", *heads],
        *([world, *(spread([seed[world][figure] for seed in seeds]) for figure in figures)] for world in worlds),
    ]


def whole_path(record: Mapping[str, Any]) -> list[list[str]]:
    """Show every way from a video file to its detections, times faster than the default of as many threads.

    Seconds are those of a clock; of a run beside other programs, processor time.
    """
    whole = [row for row in record["rows"] if row["stage"] == "whole"]
    busy = "load" in record["protocol"]["notes"]
    seconds = [row["cpu_seconds"] if busy else row["seconds"]["median"] for row in whole]
    default = {row["threads"]: second for row, second in zip(whole, seconds, strict=True) if row["default"]}
    unit = "processor s" if busy else "s"
    table = [["encoder", "threads", "pictures", unit, f"video s per {unit}", "x default"]]
    for row, second in zip(whole, seconds, strict=True):
        shortcuts = "" if row["preprocessing"] == "exact" else f", {row['preprocessing']}"
        shortcuts += "" if row["skip_similar"] is None else f", skip {row['skip_similar']:g}"
        name = f"{row['encoder_runtime']} {row['encoder_precision']}{shortcuts}"
        table.append(
            [
                f"{name} (default)" if row["default"] else name,
                str(row["threads"]),
                f"{row['frames_encoded']} of {row['frames_sampled']}",
                f"{second:.1f}",
                f"{record['video']['seconds'] / second:.1f}",
                times(default[row["threads"]] / second),
            ]
        )
    return table


def many_classes(record: Mapping[str, Any]) -> list[list[str]]:
    """Show processor time and memory of a detector by number of classes."""
    names = {"own": "its own classes", "others": "another vocabulary", "plain": "the file in a plain session"}
    table = [["detector", "K", "processor s a video", "peak MB"]]
    for row in record["rows"]:
        name = f"{row['runtime']} {row['precision']}, {names[row['classes']]}"
        cells = [f"{row['cpu_seconds']:.3f}", f"{row['peak_rss_bytes'] / 1e6:.0f}"]
        table.append([name, str(row["n_classes"]), *cells])
    return table


def video_decisions(record: Mapping[str, Any]) -> list[list[str]]:
    """Show what each way from a video file to its detections changes in them."""
    table = [["way", "average mAP, %", "change, points", "found again", "pictures encoded"]]
    for row in record["rows"]:
        encoded = f"{row['frames_encoded']} of {row['frames_sampled']}"
        mean_ap = f"{row['average_mAP']:.2f}"
        table.append([row["way"], mean_ap, f"{row['change']:+.2f}", f"{row['found_again']:.1%}", encoded])
    return table


def soft_nms(record: Mapping[str, Any]) -> list[list[str]]:
    """Show the core's soft-NMS beside a textbook version."""
    return [list(row) for row in record["soft_nms"]]


def post_processing(record: Mapping[str, Any]) -> list[list[str]]:
    """Show the core's milliseconds from a network's outputs to detections."""
    return [list(row) for row in record["post_processing"]]


def cold_start(record: Mapping[str, Any]) -> list[list[str]]:
    """Show seconds from the start of a process to its end."""
    table = [["process", "seconds", "processor seconds", "to the second row"]]
    for name, row in record["rows"].items():
        table.append([f"`{name}`", f"{row['seconds']:.3f}", f"{row['cpu_seconds']:.3f}", f"{row['ratio']:.2f} x"])
    return table


def evaluator(record: Mapping[str, Any]) -> list[list[str]]:
    """Show processor seconds of the evaluator and of a loop over single predictions."""
    names = {
        "loop": "loop over single predictions and thresholds",
        "evaluator": "evaluator, layouts in memory",
        "files": "evaluator, from two JSON files",
    }
    seconds = record["median_cpu_s"]
    return [
        ["what", "processor seconds", "x the loop"],
        *([name, f"{seconds[key]:.3f}", times(seconds["loop"] / seconds[key])] for key, name in names.items()),
    ]


def detectors(record: Mapping[str, Any]) -> list[list[str]]:
    """Show mAP, time and size of every detector trained on the same data."""
    first = next(iter(record["rows"].values()))
    free = [f"{mean([run[f'training-free, {part}'] for run in first.values()]):.1f}" for part in ("seen", "unseen")]
    lengths = list(next(iter(record["milliseconds"].values())))
    heads = ["mAP seen", "mAP unseen", *(f"ms, T = {length}" for length in lengths), "MB fp32", "MB int8", "epochs"]
    table = [["`--arch`", *heads, "s to train"], ["training-free", *free, *["-"] * (len(heads) - 1)]]
    for name, seeds in record["rows"].items():
        runs = list(seeds.values())
        cells = [f"{mean([run['seen'] for run in runs]):.1f}"]
        cells.append("-" if runs[0]["unseen"] is None else f"{mean([run['unseen'] for run in runs]):.1f}")
        cells += [f"{record['milliseconds'][name][length]:.1f}" for length in lengths]
        for key, digits in (("megabytes_fp32", 2), ("megabytes_int8", 2), ("epochs", 0), ("training_seconds", 0)):
            cells.append(f"{mean([run[key] for run in runs]):.{digits}f}")
        table.append([name, *cells])
    return table


TABLES: dict[str, Callable[[Mapping[str, Any]], list[list[str]]]] = {
    "latency": latency,
    "rows": rows,
    "architectures": architectures,
    "ladder": ladder,
    "kinds": kinds,
    "find": find,
    "whole_path": whole_path,
    "many_classes": many_classes,
    "video_decisions": video_decisions,
    "soft_nms": soft_nms,
    "post_processing": post_processing,
    "cold_start": cold_start,
    "evaluator": evaluator,
    "detectors": detectors,
}


def milliseconds(row: Mapping[str, Any]) -> str:
    """Format a row's median with three digits."""
    value = 1e3 * row["seconds"]["median"]
    return f"{value:#.3g} ms".replace(". ms", " ms") if value < 1000 else f"{value:.0f} ms"


def times(ratio: float) -> str:
    """Format how many times faster a row is."""
    return f"{ratio:.2f} x" if ratio < 1 else f"{ratio:.1f} x" if ratio < 100 else f"{ratio:.0f} x"


def spread(values: list[float]) -> str:
    """Format mean and standard deviation; one value alone has no deviation."""
    middle = f"{mean(values):.1f}"
    return f"{middle} ± {stdev(values):.1f}" if len(values) > 1 else middle


def rewritten(text: str) -> str:
    """Write every table of a document anew.

    Raises:
        ValueError: a table is of an unknown kind.
        FileNotFoundError: there is no such record.
    """

    def table(match: re.Match[str]) -> str:
        begin, kind, name, end = match.groups()
        if kind not in TABLES:
            raise ValueError(f"a table of kind {kind!r}; allowed: {', '.join(TABLES)}")
        head, *rows = TABLES[kind](json.loads((RESULTS / name).read_text(encoding="utf-8")))
        lines = [head, ["---"] * len(head), *rows]
        return begin + "".join(f"| {' | '.join(line)} |\n" for line in lines) + end

    return _TABLE.sub(table, text)


def main() -> int:
    """Rewrite the documents, or check them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 1 if a table is out of date")
    check = parser.parse_args().check
    stale = []
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        new = rewritten(text)
        if new != text:
            stale.append(path)
            if not check:
                path.write_text(new, encoding="utf-8")
    for path in stale:
        print(f"{path.relative_to(ROOT)}: {'out of date: run bench/tables.py' if check else 'written'}")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
