"""Run one program on the golden bundles and on everything it must refuse, time it, and write `$RESULT`.

    conformance.py --precision fp32=exact --precision int8=0.9 -- PROGRAM [ARGUMENT...]
    conformance.py --core -- PROGRAM [ARGUMENT...]     # a program that holds the decoding core alone: PROGRAM CASE.json

README.md says what a program prints and refuses. Needs nothing but Python; `golden.py` makes the files in `$GOLDEN`.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

Detections = list[dict[str, Any]]

CLOSE_SCORE = 1e-3
"""`close`: scores may differ by this. Outputs of fp32 runtimes differ by 2e-5, and softmax multiplies that."""
CLOSE_SEGMENT = 0.01
"""`close`: times may differ by this share of the video; less than one snippet of any golden case."""
SHARE_LEAST_SCORE, SHARE_SCORE, SHARE_TIOU = 0.05, 0.1, 0.9
"""A share counts detections that score at least the first; counterparts differ in score and tIoU by the others."""
LONGEST_LINE = 1000
"""Characters of a refusal; values that are repeated in it are cut."""
TIMEOUT_S = 120
REPEATS = 20


class ConformanceError(Exception):
    """The program does not do what README.md says; the message says what."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--expect", choices=("onnxruntime", "torchscript"), default="onnxruntime")
    parser.add_argument("--precision", action="append", metavar="NAME=LEVEL", help="exact, close, or a share like 0.9")
    parser.add_argument("--graph", choices=("detector", "pipeline"), default="detector")
    parser.add_argument("--core", action="store_true", help="the program takes CASE.json: raw network outputs")
    parser.add_argument("--no-bench", action="store_true", help="do not time the program")
    parser.add_argument("--no-files", action="store_true", help="the program is handed files and opens none itself")
    parser.add_argument("--label", default="", help="put before what the table says of parity")
    parser.add_argument("--append", action="store_true", help="add to $RESULT what an earlier call wrote")
    parser.add_argument("program", nargs="+")
    arguments = parser.parse_args()
    golden = Path(os.environ["GOLDEN"])
    try:
        result = _check_core(arguments, golden) if arguments.core else _check(arguments, golden)
    except ConformanceError as failure:
        raise SystemExit(f"FAILED: {failure}") from failure
    path = Path(os.environ["RESULT"])
    if arguments.append:
        earlier = json.loads(path.read_text(encoding="utf-8"))
        result["parity"] = f"{earlier['parity']}; {result['parity']}"
        result["milliseconds"] = earlier["milliseconds"] | result["milliseconds"]
    path.write_text(json.dumps(result) + "\n", encoding="utf-8")
    print(json.dumps(result))


def _check(arguments: argparse.Namespace, golden: Path) -> dict[str, Any]:
    content = json.loads((golden / "cases.json").read_text(encoding="utf-8"))
    demanded = dict(pair.split("=") for pair in arguments.precision or ["fp32=exact"])
    graph = [] if arguments.graph == "detector" else ["--graph", arguments.graph]
    parity, milliseconds = [], {}
    prefix = "" if arguments.graph == "detector" else f"{arguments.graph} "
    ours = [case for case in content["cases"] if case.get("graph", arguments.graph) == arguments.graph]
    for precision, level in demanded.items():
        options = ["--precision", precision, *graph]
        found = [
            (case["name"], case["expected"][arguments.expect][precision], _detect(arguments, golden, case, options))
            for case in ours
            if precision in case["expected"].get(arguments.expect, {})
        ]
        durations = [case["duration_s"] for case in ours if precision in case["expected"].get(arguments.expect, {})]
        parity.append(f"{prefix}{precision} {_compare(found, durations, level)}")
        if not arguments.no_bench:
            milliseconds[f"{prefix}{precision}"] = _time(arguments, Path(os.environ["BENCH"]), options)
    refusals = [
        case
        for case in content["refusals"]
        if case.get("precision", "fp32") in demanded
        and case.get("graph", arguments.graph) == arguments.graph
        and not (arguments.no_files and case.get("opens_files"))
    ]
    wrong = [problem for case in refusals if (problem := _refusal_problem(arguments, golden, case, graph))]
    for problem in wrong:
        print(f"not refused: {problem}")
    if wrong:
        raise ConformanceError(f"{len(wrong)} of {len(refusals)} refusals; the first: {wrong[0]}")
    print(f"{len(ours)} cases, {len(refusals)} refusals")
    return {"parity": f"{arguments.label}{'; '.join(parity)}", "milliseconds": milliseconds}


def _check_core(arguments: argparse.Namespace, golden: Path) -> dict[str, Any]:
    content = json.loads((golden / "cases.json").read_text(encoding="utf-8"))
    found, durations, milliseconds = [], [], {}
    for name in content["core"]:
        case = json.loads((golden / name).read_text(encoding="utf-8"))
        out, err = _accepted([*arguments.program, str(golden / name), "--repeat", str(REPEATS)], name)
        stem = Path(name).stem
        found.append((stem, case["expected"], _parse(out, stem)))
        durations.append(case["duration_s"])
        if stem == "large-paper-policy":  # the default policy, T = 200, 200 classes
            milliseconds[f"{arguments.label}decode"] = _milliseconds(err, name)
    level = _compare(found, durations, (arguments.precision or ["core=exact"])[0].partition("=")[2])
    return {"parity": f"{arguments.label}picks {level}", "milliseconds": milliseconds}


def _detect(arguments: argparse.Namespace, golden: Path, case: dict[str, Any], options: Sequence[str]) -> Detections:
    features = golden / case["features"]
    command = [*arguments.program, str(golden / case["bundle"]), str(features)]
    out, err = _accepted([*command, "--duration", str(case["duration_s"]), *options], case["name"])
    if err.strip():
        raise ConformanceError(f"{case['name']}: wrote to stderr although all is well: {err.strip()!r}")
    return _parse(out, features.stem)


def _accepted(command: Sequence[str], case: str) -> tuple[str, str]:
    done = _run(command)
    if done.returncode != 0:
        raise ConformanceError(
            f"{case}: exit code {done.returncode}: {done.stderr.strip()[-500:]!r} of {' '.join(command)}"
        )
    return done.stdout, done.stderr


def _parse(out: str, video: str) -> Detections:
    """Read ActivityNet's layout, strictly."""
    try:
        layout = json.loads(out, parse_constant=_refuse_constant)
    except ValueError as error:
        raise ConformanceError(f"{video}: stdout is not one JSON document: {error}: {out[:200]!r}") from error
    if set(layout) != {"version", "results", "external_data"} or list(layout["results"]) != [video]:
        raise ConformanceError(f"{video}: not the layout of one video called {video!r}: {out[:200]!r}")
    detections: Detections = layout["results"][video]
    for row in detections:
        if set(row) != {"label", "score", "segment"} or len(row["segment"]) != 2:
            raise ConformanceError(f"{video}: not a detection: {row}")
    scores = [row["score"] for row in detections]
    if scores != sorted(scores, reverse=True):
        raise ConformanceError(f"{video}: detections are not best first: {scores}")
    return detections


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _compare(found: Sequence[tuple[str, Detections, Detections]], durations: Sequence[float], level: str) -> str:
    """Say how well the detections of all cases agree, in the words of the table.

    Raises:
        ConformanceError: worse than the level demands; the first case that differs is named.
    """
    differing = [case for case, expected, got in found if expected != got]
    if not differing:
        return "exact"
    close, score, time = True, 0.0, 0.0
    for (case, expected, got), duration_s in zip(found, durations, strict=True):
        pairs = list(_pairs(expected, got, CLOSE_SCORE, lambda a, b, d=duration_s: _apart(a, b) <= CLOSE_SEGMENT * d))
        if len(pairs) < max(len(expected), len(got)):
            close = False
            differing.insert(0, case)
        score = max([score, *(abs(a["score"] - b["score"]) for a, b in pairs)])
        time = max([time, *(_apart(a["segment"], b["segment"]) for a, b in pairs)])
    if close and level != "exact":
        return f"same segments, scores within {score:.0e}" if time < 1e-4 else f"close, {score:.0e}, {time:.0e} s"
    matched = total = 0
    for _, expected, got in found:
        for one, other in ((expected, got), (got, expected)):
            counted = [row for row in one if row["score"] >= SHARE_LEAST_SCORE]
            total += len(counted)
            matched += len(list(_pairs(counted, other, SHARE_SCORE, lambda a, b: _tiou(a, b) >= SHARE_TIOU)))
    share = matched / total
    if level in ("exact", "close") or share < float(level):
        case, expected, got = next(row for row in found if row[0] == differing[0])
        raise ConformanceError(
            f"{case}: detections differ ({level} is demanded; {share:.1%} match over all cases)\n"
            f"  expected {expected}\n  got      {got}"
        )
    return f"{share:.0%} match"


def _pairs(expected: Detections, got: Detections, score: float, alike: Any) -> Iterator[tuple[Any, Any]]:
    """Pair detections one to one: same label, scores at most `score` apart, segments alike."""
    left = list(got)
    for row in expected:
        for other in left:
            same = row["label"] == other["label"] and abs(row["score"] - other["score"]) <= score
            if same and alike(row["segment"], other["segment"]):
                left.remove(other)
                yield row, other
                break


def _apart(segment: Sequence[float], other: Sequence[float]) -> float:
    return max(abs(a - b) for a, b in zip(segment, other, strict=True))


def _tiou(segment: Sequence[float], other: Sequence[float]) -> float:
    intersection = min(segment[1], other[1]) - max(segment[0], other[0])
    union = max(segment[1], other[1]) - min(segment[0], other[0])
    return max(intersection, 0.0) / union if union > 0 else 0.0


def _refusal_problem(
    arguments: argparse.Namespace, golden: Path, case: dict[str, str], options: Sequence[str]
) -> str | None:
    """Run the program on what it must refuse; say what it did instead, or None."""
    command = [*arguments.program, str(golden / case["bundle"]), str(golden / case["features"])]
    options = ["--duration", case.get("duration", "60"), "--precision", case.get("precision", "fp32"), *options]
    why = case["why"]
    try:
        done = _run([*command, *options])
    except ConformanceError as problem:
        return f"{why}: {problem}"
    said = done.stderr.removesuffix("\n")
    if done.returncode not in (1, 2):
        return f"{why}: exit code 1 is demanded; got {done.returncode}, {done.stdout[:200]!r}, {said[-300:]!r}"
    if done.stdout.strip():
        return f"{why}: refused, but stdout is not empty: {done.stdout[:200]!r}"
    if not said or not said.isprintable() or len(said) > LONGEST_LINE:
        return (
            f"{why}: one line on stderr is demanded, at most {LONGEST_LINE} characters, all printable; "
            f"got {len(said)} characters, {said[:LONGEST_LINE]!r}"
        )
    print(f"refused, {why}: {said}")
    return None


def _time(arguments: argparse.Namespace, bench: Path, options: Sequence[str]) -> float:
    duration_s = json.loads((bench / "bench.json").read_text(encoding="utf-8"))["duration_s"]
    command = [*arguments.program, str(bench / "bundle"), str(bench / "features.npy"), "--duration", str(duration_s)]
    _, err = _accepted([*command, *options, "--repeat", str(REPEATS)], "the bundle of full size")
    return _milliseconds(err, "the bundle of full size")


def _milliseconds(err: str, case: str) -> float:
    last = re.fullmatch(r"milliseconds: ([0-9.]+)", (err.strip().splitlines() or [""])[-1])
    if last is None:
        raise ConformanceError(f"{case}: --repeat must end stderr with 'milliseconds: MEDIAN'; got {err[-200:]!r}")
    return float(last[1])


def _run(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="backslashreplace", timeout=TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConformanceError(f"cannot run {' '.join(command)}: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
