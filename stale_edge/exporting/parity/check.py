"""The parity gate: an artifact must decide as the model does that it was made from, or it is not kept.

STALE's foreground gate is discontinuous, so no tolerance on its class logits means anything. Compared are: the tensors
before the gate, the snippets whose gate flips, the detections that come out, and mAP where there are labels.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stale_edge.bundle import ClassBank
from stale_edge.config import DecodeConfig
from stale_edge.decoding import decode
from stale_edge.evaluation import mean_average_precision
from stale_edge.evaluation.agreement import CONFIDENT, Matched, count_matched
from stale_edge.exporting.formats import ArtifactFormat
from stale_edge.exporting.graph.detector_graph import in_eval_mode, model_config
from stale_edge.exporting.parity.near_ties import outcomes
from stale_edge.exporting.parity.videos import ParityData, shape_cases
from stale_edge.progress import Progress, silent
from stale_edge.segments import Detection, FloatArray

Run = Callable[[FloatArray, FloatArray], Mapping[str, FloatArray]]
"""Features (B, T, C) and class embeddings (K, D) to the graph's outputs by name."""


@dataclass(frozen=True)
class Budget:
    """How far an artifact may be from its model. None: not limited, only reported."""

    max_difference: float | None
    """Of foreground and masks; of class logits where the gate agrees, as a part of the largest logit (at least 1)."""
    max_score_difference: float | None
    """Between matched detections."""
    max_flipped: float
    """Part of the snippets whose gate may flip, in [0, 1]."""
    min_matched: float
    """Part of the confident detections that must be there again: same label, tIoU >= 0.95, in [0, 1]."""
    max_map_change: float
    """Of average mAP, in points, either way; decided only where there are labels."""


BUDGETS: Mapping[str, Budget] = {
    "fp32": Budget(1e-4, 1e-4, max_flipped=0.0, min_matched=1.0, max_map_change=0.01),
    "fp16": Budget(None, None, max_flipped=0.001, min_matched=0.95, max_map_change=0.1),
    "int8": Budget(None, None, max_flipped=0.01, min_matched=0.75, max_map_change=0.5),
    "int8-static": Budget(None, None, max_flipped=0.01, min_matched=0.98, max_map_change=0.3),
}
"""The demo's trained detectors (200 videos, T = 100) stay inside: fp16 flips 0.01 %, matches 99 %; int8 0.1 % and 93 %.
After a quarter of the training, while scores and masks are still flat, 98 % and 84 % match; of a broken artifact few.

The allowed changes of mAP are the kit's promise. Matching is strict, since on a segment of ten snippets a boundary that
moves by one is no match; where there are no labels, it is what stands between a broken artifact and a device.
"""


class Outputs(NamedTuple):
    """What a detector says of B videos; float32."""

    class_logits: FloatArray
    masks: FloatArray
    foreground: FloatArray


@dataclass(frozen=True)
class _Judged:
    """A batch with what the model says of it."""

    features: FloatArray
    class_embeddings: FloatArray
    outputs: Outputs


class Reference:
    """What the model itself decides, computed once and compared with every artifact.

    Args:
        model: the float32 detector, on the CPU.
        bank: the vocabulary of the bundle.
        data: videos of the training distribution.
        decode_config: how outputs become detections.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        bank: ClassBank,
        data: ParityData,
        decode_config: DecodeConfig,
        progress: Progress = silent,
    ) -> None:
        self.config = model_config(model)
        self.bank, self.data, self.decode_config = bank, data, decode_config
        with in_eval_mode(model):
            self.shapes = [
                _Judged(case.features, case.class_embeddings, run_model(model, case.features, case.class_embeddings))
                for case in shape_cases(data, config=self.config, bank=bank)
            ]
            self.videos = []
            for done, video in enumerate(data.videos):
                progress("run the model", done, len(data.videos))
                features = video.features[None]
                self.videos.append(_Judged(features, bank.embeddings, run_model(model, features, bank.embeddings)))
        progress("run the model", len(data.videos), len(data.videos))
        self.detections = [self.decode(i, judged.outputs) for i, judged in enumerate(self.videos)]
        self.average_map = self.measure(self.detections)

    def decode(self, video: int, outputs: Outputs) -> list[Detection]:
        """Turn the outputs for one video into detections."""
        found: list[Detection] = decode(
            outputs.class_logits[0],
            outputs.masks[0],
            class_names=self.bank.names,
            duration_s=self.data.videos[video].duration_s,
            policy=self.decode_config.policy,
            config=self.decode_config,
        )
        return found

    def measure(self, detections: list[list[Detection]]) -> float | None:
        """Compute average mAP in percent; None where there is no truth."""
        if self.data.truth is None:
            return None
        results = {
            video.name: [{"label": d.label, "score": d.score, "segment": [d.start_s, d.end_s]} for d in found]
            for video, found in zip(self.data.videos, detections, strict=True)
        }
        truth, known = self.data.truth, set(self.bank.names)
        return mean_average_precision(truth, {"results": results}, subset="validation", classes=known).average_mAP

    @property
    def gate_margins(self) -> dict[str, float]:
        """How near the gate was to deciding otherwise: least, 1st percentile and median distance over all snippets."""
        distances = np.abs(np.concatenate([gate_margin(self.config, j.outputs).ravel() for j in self.videos]))
        return {
            "least": float(distances.min()),
            "percentile_1": float(np.percentile(distances, 1)),
            "median": float(np.median(distances)),
        }


@dataclass(frozen=True)
class ArtifactParity:
    """How one artifact compares with its model.

    max_difference: largest absolute difference by output; class logits only where the gate agrees.
    n_snippets, flipped_snippets: over the videos, and of them those whose gate decides differently.
    n_detections, matched_detections: confident detections of the model, and the part found again, in [0, 1].
    near_ties: videos compared with another outcome that the model itself reaches when its outputs move as little as the
        artifact's do; only where scores are limited.
    average_mAP: percent; None without labels, `model_average_mAP` likewise.
    failures: what is beyond the budget; empty: the artifact passes.
    """

    file: str
    precision: str
    budget: Budget
    max_difference: dict[str, float]
    n_snippets: int
    flipped_snippets: int
    shape_flips: int
    n_detections: int
    matched_detections: float
    max_score_difference: float
    near_ties: int
    average_mAP: float | None  # noqa: N815 - the name in published result files
    model_average_mAP: float | None  # noqa: N815
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the artifact may be kept."""
        return not self.failures

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("budget", "failures")}
        return {
            **values,
            "budget": {name: getattr(self.budget, name) for name in self.budget.__dataclass_fields__},
            "passed": self.passed,
            "failures": list(self.failures),
        }


def judge(reference: Reference, run: Run, row: ArtifactFormat, *, progress: Progress = silent) -> ArtifactParity:
    """Run an artifact on everything the model was run on, and compare.

    Args:
        reference: the model's decisions.
        run: runs the artifact from its file.
        row: what the artifact is; its precision chooses the budget.
    """
    budget = BUDGETS[row.precision]
    differences = dict.fromkeys(Outputs._fields, 0.0)
    problems: list[str] = []
    shape_flips = 0
    for case in reference.shapes:
        got, problem = _checked_run(run, case)
        if got is None:
            problems.append(problem)
            continue
        shape_flips += _compare(reference.config, case.outputs, got, differences)
    found: list[list[Detection]] = []
    matches: list[Matched] = []
    flips = snippets = near_ties = 0
    for i, judged in enumerate(reference.videos):
        progress(f"compare {row.file_name}", i, len(reference.videos))
        got, problem = _checked_run(run, judged)
        snippets += judged.outputs.foreground.size
        if got is None:
            problems.append(f"{reference.data.videos[i].name}: {problem}")
            flips += judged.outputs.foreground.size
            found.append([])
            matches.append(count_matched(reference.detections[i], [], confident=CONFIDENT))
            continue
        flips += _compare(reference.config, judged.outputs, got, differences)
        found.append(reference.decode(i, got))
        matches.append(count_matched(reference.detections[i], found[-1], confident=CONFIDENT))
        if budget.max_score_difference is not None and not _within(matches[-1], budget.max_score_difference):
            other = _other_outcome(reference, i, got, found[-1], budget.max_score_difference)
            if other is not None:
                matches[-1] = other
                near_ties += 1
    progress(f"compare {row.file_name}", len(reference.videos), len(reference.videos))
    total = sum(match.total for match in matches)
    parity = ArtifactParity(
        file=row.file_name,
        precision=row.precision,
        budget=budget,
        max_difference=differences,
        n_snippets=snippets,
        flipped_snippets=flips,
        shape_flips=shape_flips,
        n_detections=total,
        matched_detections=sum(match.matched for match in matches) / total if total else 1.0,
        max_score_difference=max((match.max_score_difference for match in matches), default=0.0),
        near_ties=near_ties,
        average_mAP=reference.measure(found),
        model_average_mAP=reference.average_map,
        failures=(),
    )
    failures = (*dict.fromkeys(problems), *_beyond_budget(parity, budget))
    return ArtifactParity(**{**parity.__dict__, "failures": failures})


def gate_margin(config: Any, outputs: Outputs) -> NDArray[np.float64]:
    """Compute how far above its threshold each snippet (B, T) is; the gate is open where `gate_open` of it holds.

    `paper`: foreground - θ_bin. `release`: the mean of the snippet's mask minus the mean of those (stale_model.py,
    crop_features).
    """
    if config.architecture == "paper":
        return np.asarray(outputs.foreground.astype(np.float64) - config.foreground_threshold)
    means = outputs.masks.astype(np.float64).mean(axis=2)  # (B, T)
    return np.asarray(means - means.mean(axis=1, keepdims=True))


def gate_open(config: Any, margin: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Decide by margin: `paper` lets through what is above the threshold, `release` what is not below it."""
    return margin > 0 if config.architecture == "paper" else margin >= 0


def _compare(config: Any, model: Outputs, artifact: Outputs, differences: dict[str, float]) -> int:
    """Raise the largest differences seen so far; return the number of flipped snippets."""
    ours, theirs = (gate_open(config, gate_margin(config, outputs)) for outputs in (model, artifact))
    agree = ours == theirs  # (B, T)
    scale = max(1.0, float(np.abs(model.class_logits).max()))
    logits = np.abs(model.class_logits - artifact.class_logits).max(axis=1)[agree] / scale
    for name, difference in (
        ("class_logits", logits),
        ("masks", np.abs(model.masks - artifact.masks)),
        ("foreground", np.abs(model.foreground - artifact.foreground)),
    ):
        differences[name] = max(differences[name], float(difference.max(initial=0.0)))
    return int((~agree).sum())


def _within(match: Matched, max_score_difference: float) -> bool:
    return match.matched == match.total and match.max_score_difference <= max_score_difference


def _other_outcome(
    reference: Reference, video: int, got: Outputs, found: list[Detection], max_score_difference: float
) -> Matched | None:
    """Look for an outcome of the model on this video that the artifact reached; None: there is none."""
    model = reference.videos[video].outputs
    for outcome in outcomes(
        model.class_logits[0],
        model.masks[0],
        lambda logits, masks: reference.decode(video, Outputs(logits[None], masks[None], model.foreground)),
        logits_by=float(np.abs(model.class_logits - got.class_logits).max()),
        masks_by=float(np.abs(model.masks - got.masks).max()),
    ):
        match = count_matched(outcome, found, confident=CONFIDENT)
        if _within(match, max_score_difference):
            return match
    return None


def _beyond_budget(parity: ArtifactParity, budget: Budget) -> Iterator[str]:
    """Say what is beyond the budget."""
    if budget.max_difference is not None:
        for name, value in parity.max_difference.items():
            if not value <= budget.max_difference:
                yield f"{name} differs by {value:.2g}, allowed {budget.max_difference:g}"
    if budget.max_flipped == 0 and parity.shape_flips:
        yield f"{parity.shape_flips} snippets flip on batches of other sizes, allowed none"
    flipped = parity.flipped_snippets / max(1, parity.n_snippets)
    if not flipped <= budget.max_flipped:
        yield f"{parity.flipped_snippets} of {parity.n_snippets} snippets flip, allowed {budget.max_flipped:.1%}"
    if not parity.matched_detections >= budget.min_matched:
        yield f"{parity.matched_detections:.1%} of detections match, at least {budget.min_matched:.1%} must"
    if budget.max_score_difference is not None and not parity.max_score_difference <= budget.max_score_difference:
        yield f"scores differ by {parity.max_score_difference:.2g}, allowed {budget.max_score_difference:g}"
    if parity.average_mAP is not None and parity.model_average_mAP is not None:
        change = parity.average_mAP - parity.model_average_mAP
        if not abs(change) <= budget.max_map_change:
            yield f"average mAP changes by {change:+.2f} points, allowed {budget.max_map_change:g}"


def _checked_run(run: Run, case: _Judged) -> tuple[Outputs | None, str]:
    """Run an artifact; outputs of the wrong shape or not finite are a finding, not a crash."""
    values = run(case.features, case.class_embeddings)
    outputs = Outputs(*(np.asarray(values[name]) for name in Outputs._fields))
    for name, got, wanted in zip(Outputs._fields, outputs, case.outputs, strict=True):
        if got.shape != wanted.shape or got.dtype != wanted.dtype:
            return None, f"{name} is {got.dtype} {got.shape}, must be {wanted.dtype} {wanted.shape}"
        if not np.isfinite(got).all():
            return None, f"{name} is not finite for features of shape {case.features.shape}"
    return outputs, ""


def run_model(model: nn.Module, features: FloatArray, class_embeddings: FloatArray) -> Outputs:
    """Run the detector itself, in the mode that it is in, on (B, T, C) features and (K, D) class embeddings."""
    # Copies: torch has no read-only tensors, and the class bank's array is read-only.
    output = model(torch.from_numpy(features.copy()), torch.from_numpy(class_embeddings.copy()))
    return Outputs(output.class_logits.numpy(), output.masks.numpy(), output.foreground.numpy())
