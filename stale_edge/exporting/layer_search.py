"""Search for the products to lower to int8: measure the effect of each alone, keep as few as possible in float32."""

import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from stale_edge.exporting.artifact_formats import ArtifactFormat
from stale_edge.exporting.calibration import Calibration
from stale_edge.exporting.detector_exporter import DetectorExporter
from stale_edge.exporting.graph.products import Product
from stale_edge.exporting.graph.rewriting import drop_unused
from stale_edge.exporting.parity.compare import compare_with_model
from stale_edge.exporting.parity.reference import Reference
from stale_edge.exporting.parity.result import BUDGETS, Budget, Parity, columns
from stale_edge.progress import Progress, silent
from stale_edge.runtime.onnx_session import open_session
from stale_edge.segments import FloatArray

SEARCH_BUDGET = BUDGETS["int8-static"]
"""Budget that the search must meet; the budget of the parity check may be wider."""

_TIMED_PAIRS = 9


@dataclass(frozen=True)
class LayerFinding:
    """Effect of one product when it alone is in low precision.

    signal_to_noise_db: of the product's output, over the calibration videos; infinite if nothing is lost.
    milliseconds_saved: processor time saved on one video with one thread of ONNX Runtime, paired with float32.
    flipped_snippets, matched_detections, map_change: as in `Parity`; map_change None without labels.
    kept: whether the search leaves it in float32.
    """

    product: Product
    signal_to_noise_db: float
    milliseconds_saved: float
    flipped_snippets: int
    matched_detections: float
    map_change: float | None
    kept: bool

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        values = asdict(self)
        values["signal_to_noise_db"] = self.signal_to_noise_db if np.isfinite(self.signal_to_noise_db) else None
        return {"name": self.product.name, **values.pop("product"), **values}


@dataclass(frozen=True)
class LayerReport:
    """Result of the search.

    before, after: parity of the graph with all products in low precision, and with the kept ones in float32.
    met: whether `after` is within `budget`; False if even float32 everywhere is not.
    """

    precision: str
    budget: Budget
    findings: tuple[LayerFinding, ...]
    before: Parity
    after: Parity
    met: bool

    @property
    def kept(self) -> frozenset[str]:
        """Names of the nodes that stay in float32."""
        return frozenset(finding.product.node for finding in self.findings if finding.kept)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "precision": self.precision,
            "budget": asdict(self.budget),
            "met": self.met,
            "before": self.before.to_json(),
            "after": self.after.to_json(),
            "layers": [finding.to_json() for finding in self.findings],
        }

    def to_text(self) -> str:
        """Format the findings as a table, the most harmful product first."""
        rows = [("product", "weight", "S/N dB", "ms saved", "flipped", "matched", "mAP", "")]
        for found in sorted(self.findings, key=_harm, reverse=True):
            change = "" if found.map_change is None else f"{found.map_change:+.2f}"
            shape = "activations" if found.product.weight is None else "x".join(map(str, found.product.weight))
            rows.append(
                (
                    found.product.name,
                    shape,
                    f"{found.signal_to_noise_db:.1f}",
                    f"{found.milliseconds_saved:+.2f}",
                    str(found.flipped_snippets),
                    f"{found.matched_detections:.2%}",
                    change,
                    "kept in float32" if found.kept else "",
                )
            )
        met = "within" if self.met else "NOT within"
        aim = f"{self.budget.min_matched:.0%} matched, mAP within {self.budget.max_map_loss:g} points"
        first = (
            f"{self.precision}, each product alone; all in low precision: {_said(self.before)}; "
            f"{len(self.kept)} of {len(self.findings)} kept: {_said(self.after)}, {met} {aim}"
        )
        return f"{first}\n{columns(rows)}"


def search_layers(
    exporter: DetectorExporter,
    row: ArtifactFormat,
    reference: Reference,
    *,
    budget: Budget = SEARCH_BUDGET,
    progress: Progress = silent,
) -> LayerReport:
    """Compare with every product alone in low precision, then keep as few products in float32 as the budget needs.

    The search is greedy. It moves products to float32, the most harmful first, until the budget is met; then it lowers
    each of them again if the budget still holds. Not every set is tried, so a smaller one may exist.

    Args:
        exporter: exporter with calibration videos; signal-to-noise and time are measured on them.
        row: the file, in ONNX.
        reference: the model's decisions.
        budget: limits to meet.
        progress: called with (stage, done, total).

    Raises:
        ValueError: the exporter has no calibration videos.
    """
    calibration = exporter.calibration
    if calibration is None:
        raise ValueError("int8 is searched layer by layer on calibration videos: give them to DetectorExporter")
    graph, products = exporter.float32_graph(row.precision), exporter.products(row.precision)
    lower = partial(exporter.lowered, row.precision)
    names = [product.node for product in products]
    findings: list[LayerFinding] = []
    for done, product in enumerate(products):
        progress(f"{row.precision}: layer by layer", done, len(products))
        alone = lower([name for name in names if name != product.node])
        parity = _parity(alone, row, reference)
        ratio, saved = _compare((graph, alone), product.node, calibration, exporter.decoded)
        findings.append(
            LayerFinding(
                product,
                ratio,
                saved,
                parity.flipped_snippets,
                parity.matched_detections,
                parity.map_change,
                kept=False,
            )
        )
    before = after = _parity(lower([]), row, reference)
    kept: list[LayerFinding] = []
    by_harm = sorted(findings, key=_harm, reverse=True)
    while not after.within(budget) and len(kept) < len(by_harm):
        progress(f"{row.precision}: search", len(kept), len(by_harm))
        kept.append(by_harm[len(kept)])
        after = _parity(lower([found.product.node for found in kept]), row, reference)
    for found in reversed(kept[:-1]) if after.within(budget) else ():
        fewer = [other for other in kept if other is not found]
        parity = _parity(lower([other.product.node for other in fewer]), row, reference)
        if parity.within(budget):
            kept, after = fewer, parity
    progress(f"{row.precision}: search", len(by_harm), len(by_harm))
    chosen = {found.product.node for found in kept}
    marked = [LayerFinding(**{**vars(found), "kept": found.product.node in chosen}) for found in findings]
    return LayerReport(row.precision, budget, tuple(marked), before, after, after.within(budget))


def _parity(proto: onnx.ModelProto, row: ArtifactFormat, reference: Reference) -> Parity:
    session = open_session(proto.SerializeToString(), threads=1)
    names = [value.name for value in proto.graph.output]

    def run(features: FloatArray, class_embeddings: FloatArray) -> dict[str, FloatArray]:
        feed = {"features": features, "class_embeddings": class_embeddings}
        return dict(zip(names, session.run(names, feed), strict=True))

    return compare_with_model(reference, run, file=row.file_name, precision=row.precision)


def _compare(
    graphs: tuple[onnx.ModelProto, onnx.ModelProto], node: str, calibration: Calibration, decoded: Collection[str]
) -> tuple[float, float]:
    """Measure a product's signal-to-noise ratio in decibels, and the milliseconds that its low precision saves.

    Args:
        graphs: the graph in float32, and the graph with this product in low precision.
        node: name of the product's node.
        decoded: outputs that decoding reads.
    """
    graph, _ = graphs
    (name,) = next(each.output for each in graph.graph.node if each.name == node)
    sessions = [open_session(_watching(proto, name, decoded), threads=1) for proto in graphs]
    signal = noise = 0.0
    for feed in calibration.feeds():
        exact, rounded = (session.run([name], dict(feed))[0].astype(np.float64) for session in sessions)
        signal += float(np.square(exact).sum())
        noise += float(np.square(exact - rounded).sum())
    ratio = 10 * float(np.log10(signal / noise)) if noise > 0 and signal > 0 else float("inf")
    feed = dict(next(iter(calibration.feeds())))
    seconds: list[NDArray[np.float64]] = []
    for _ in range(_TIMED_PAIRS):
        pair = []
        for session in sessions:
            start = time.process_time()
            session.run(list(decoded), feed)
            pair.append(time.process_time() - start)
        seconds.append(np.array(pair))
    exact_s, rounded_s = np.median(seconds, axis=0)
    return ratio, 1e3 * float(exact_s - rounded_s)


def _watching(proto: onnx.ModelProto, name: str, decoded: Collection[str]) -> bytes:
    """Add one value to a graph's outputs, and keep only the outputs that decoding reads beside it."""
    watched = onnx.ModelProto()
    watched.CopyFrom(proto)
    outputs = [value for value in watched.graph.output if value.name in decoded]
    del watched.graph.output[:]
    watched.graph.output.extend(outputs)
    if name not in decoded:
        watched.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    drop_unused(watched)
    content: bytes = watched.SerializeToString()
    return content


def _harm(found: LayerFinding) -> tuple[float, int]:
    return 1 - found.matched_detections, found.flipped_snippets


def _said(parity: Parity) -> str:
    change = parity.map_change
    return f"{parity.matched_detections:.1%} matched, {parity.flipped_snippets} of {parity.n_snippets} flipped" + (
        "" if change is None else f", mAP {change:+.2f}"
    )
