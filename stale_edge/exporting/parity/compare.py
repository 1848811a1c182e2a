"""The parity check: a file is kept only if it decides as its model does.

A network may make hard decisions, such as STALE's foreground gate: there a tiny difference flips a snippet and moves
its class logits by 12. So the check compares raw outputs, with class logits only where decisions agree; it counts the
snippets whose decision flips; and it compares detections, and mAP where there are labels.
"""

from collections.abc import Callable, Mapping

import numpy as np

from stale_edge.evaluation.agreement import Matched, count_matched
from stale_edge.exporting.parity.near_ties import outcomes
from stale_edge.exporting.parity.reference import Batch, Outputs, Reference
from stale_edge.exporting.parity.result import BUDGETS, Parity
from stale_edge.progress import Progress, silent
from stale_edge.segments import CONFIDENT, Detection, FloatArray

Run = Callable[[FloatArray, FloatArray], Mapping[str, FloatArray]]
"""Maps features (B, T, C) and class embeddings (K, D) to the graph's outputs by name."""


def compare_with_model(
    reference: Reference, run: Run, *, file: str, precision: str, progress: Progress = silent
) -> Parity:
    """Run a file on all inputs of the reference and compare.

    Args:
        reference: the model's outputs and decisions.
        run: runs the file; all its outputs must have the model's names and be float32.
        file, precision: name of the result, and precision that selects the budget.
        progress: called with ("compare <file>", done, total).
    """
    budget = BUDGETS[precision]
    problems: list[str] = []
    differences = dict.fromkeys(reference.videos[0].outputs, 0.0)
    shape_flips = 0
    for batch in reference.shapes:
        outputs, problem = _checked_run(run, batch)
        if outputs is None:
            problems.append(problem)
            continue
        shape_flips += _compare(reference, batch.outputs, outputs, differences)
    found: list[list[Detection]] = []
    matches: list[Matched] = []
    flips = snippets = near_ties = 0
    for i, batch in enumerate(reference.videos):
        progress(f"compare {file}", i, len(reference.videos))
        places = reference.undecided(batch.outputs).size
        snippets += places
        outputs, problem = _checked_run(run, batch)
        if outputs is None:
            problems.append(f"{reference.data.videos[i].name}: {problem}")
            flips += places
        else:
            flips += _compare(reference, batch.outputs, outputs, differences)
        found.append([] if outputs is None else reference.decode(i, outputs))
        match = count_matched(reference.detections[i], found[i], confident=CONFIDENT)
        limit = budget.max_score_difference
        if outputs is not None and limit is not None and not _within(match, limit):
            other = _other_outcome(reference, i, outputs, found[i], limit)
            near_ties += other is not None
            match = other or match
        matches.append(match)
    progress(f"compare {file}", len(reference.videos), len(reference.videos))
    total = sum(match.total for match in matches)
    parity = Parity(
        file=file,
        precision=precision,
        budget=budget,
        max_difference=differences,
        n_snippets=snippets,
        flipped_snippets=flips,
        shape_flips=shape_flips,
        n_videos=len(reference.videos),
        n_detections=total,
        matched_detections=sum(match.matched for match in matches) / total if total else 1.0,
        max_score_difference=max((match.max_score_difference for match in matches), default=0.0),
        near_ties=near_ties,
        **reference.compare_map(found, BUDGETS[precision].max_map_loss),
    )
    limited = snippets > 0 or budget.max_difference is not None
    return parity.checked([*problems, *_nothing_compared(parity, limited=limited)])


def compare_detections(
    reference: Reference,
    find: Callable[[int], list[Detection]],
    *,
    file: str,
    precision: str,
    progress: Progress = silent,
) -> Parity:
    """Compare only detections and mAP, for a file without the outputs that show hard decisions.

    Args:
        reference: the model's decisions.
        find: returns the file's detections in one of the reference's videos.
        file, precision: name of the result, and precision that selects the budget.
        progress: called with ("compare <file>", done, total).
    """
    found = []
    for i in range(len(reference.videos)):
        progress(f"compare {file}", i, len(reference.videos))
        found.append(find(i))
    progress(f"compare {file}", len(found), len(found))
    matches = [count_matched(*pair, confident=CONFIDENT) for pair in zip(reference.detections, found, strict=True)]
    total = sum(match.total for match in matches)
    parity = Parity(
        file=file,
        precision=precision,
        budget=BUDGETS[precision],
        n_videos=len(found),
        n_detections=total,
        matched_detections=sum(match.matched for match in matches) / total if total else 1.0,
        **reference.compare_map(found, BUDGETS[precision].max_map_loss),
    )
    return parity.checked(_nothing_compared(parity, limited=False))


def _nothing_compared(parity: Parity, *, limited: bool) -> list[str]:
    """Name the problem that no value of a file has a limit; `limited`: outputs or hard decisions have one."""
    if limited or parity.n_detections or parity.map_change is not None:
        return []
    return [
        f"nothing to compare: the model finds no confident action in {parity.n_videos} videos without labels; "
        "give labelled validation videos (--data), or a model that is trained longer"
    ]


def _compare(reference: Reference, model: Outputs, file: Outputs, differences: dict[str, float]) -> int:
    """Update the largest differences so far; return the number of flipped decisions."""
    agree = (reference.undecided(model) > 0) == (reference.undecided(file) > 0)  # (B, N)
    for name, wanted in model.items():
        scale = max(1.0, float(np.abs(wanted).max()))
        difference = _differences(wanted, file[name]) / scale
        if name == "class_logits" and agree.size:
            difference = difference.max(axis=1)[agree]  # (B, K + 1, T) at the snippets that agree
        differences[name] = max(differences[name], float(difference.max(initial=0.0)))
    return int((~agree).sum())


def _differences(wanted: FloatArray, got: FloatArray) -> FloatArray:
    return np.abs(np.subtract(wanted, got, dtype=np.float32))


def _within(match: Matched, max_score_difference: float) -> bool:
    return match.matched == match.total and match.max_score_difference <= max_score_difference


def _other_outcome(
    reference: Reference, video: int, got: Outputs, found: list[Detection], max_score_difference: float
) -> Matched | None:
    """Find an outcome of the model on this video that equals the file's; None: there is none."""
    model = reference.videos[video].outputs
    by = {name: float(_differences(model[name], got[name]).max()) for name in reference.decoded}
    for moved in outcomes(model, by=by):
        match = count_matched(reference.decode(video, moved), found, confident=CONFIDENT)
        if _within(match, max_score_difference):
            return match
    return None


def _checked_run(run: Run, batch: Batch) -> tuple[Outputs | None, str]:
    """Run a file; outputs that are not finite or have a wrong shape are returned as a problem, not raised."""
    values = run(batch.features, batch.class_embeddings)
    outputs = {name: np.asarray(values[name]) for name in batch.outputs}
    for name, wanted in batch.outputs.items():
        got = outputs[name]
        if got.shape != wanted.shape or got.dtype != wanted.dtype:
            return None, f"{name} is {got.dtype} {got.shape}, must be {wanted.dtype} {wanted.shape}"
        if not np.isfinite(got).all():
            return None, f"{name} is not finite for features of shape {batch.features.shape}"
    return outputs, ""
