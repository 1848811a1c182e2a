"""Description of how a run was made, in words and numbers, so that its results can be checked."""

import importlib.util
from collections.abc import Sequence
from typing import Any

from stale_edge.benchmarking.cpus import BUSY_LOAD
from stale_edge.benchmarking.jobs import TRIAL_RULE, WARM_UP_RULE
from stale_edge.benchmarking.rounds import Measurement
from stale_edge.benchmarking.row_plan import SUPPORTED
from stale_edge.benchmarking.statistics import median_interval
from stale_edge.benchmarking.synthetic import PLAUSIBLE
from stale_edge.benchmarking.target import Target
from stale_edge.config import BenchConfig

NOTES = {
    "order": "rows of one length take turns: in every round each is asked for one trial, in an order drawn anew",
    "isolation": "each row is measured in a fresh process of its own, which stays alive, idle, between its trials",
    "seconds": "of one call, over all timed calls of all trials",
    "median_interval": "of the median, bootstrap percentiles of 1000 resamplings of whole trials, 95 %",
    "memory": "largest resident set of the row's process from its start to its end, interpreter and libraries included",
    "model_bytes": "of the weights where PyTorch runs the network, of the file where a bundle's artifact runs",
    "macs": "multiply-accumulates of matrix products and convolutions, attention included, counted by fvcore on the "
    "PyTorch network at the row's length, without what the row does not compute (see detector); the reference's is not "
    "folded; quantized and converted artifacts have the same count",
    "detector": "the outputs that decoding reads: detect drops what only `foreground` needs, where the runtime allows "
    "it; PyTorch and TorchScript compute it too",
    "speedup": "median of the reference of the same device and length, divided by the row's median",
    "as-trained": "the network as it was trained, class embeddings computed once: PyTorch eager, and the file of its "
    "exporter for one length, in ONNX Runtime with default settings; `speedup_as_trained` is the median in eager "
    "PyTorch, divided by the row's median",
    "postprocess": "decodes made-up outputs of a trained detector, about one action in 40 snippets; random weights "
    "would leave it almost nothing to do",
}


def describe_protocol(
    config: BenchConfig,
    target: Target,
    measured: Sequence[Measurement],
    *,
    cpus: Sequence[int] | None,
    load_average_before: Sequence[float] | None,
) -> dict[str, Any]:
    """Describe the protocol; lists have one entry per row."""
    return {
        "subject": target.title,
        "rounds": config.repeats,
        "threads": config.threads,
        "pinned_to_cpus": None if cpus is None else list(cpus),
        "seed": config.seed,
        "warm_up": WARM_UP_RULE,
        "warm_up_not_stable": [m.name for m in measured if not m.stable],
        "trial": TRIAL_RULE,
        "calls_per_trial": [m.calls for m in measured],
        "median_interval_seconds": [list(median_interval(m.trials)) for m in measured],
        "peak_device_bytes": [m.about["peak_device_bytes"] for m in measured],
        "reference": _about_reference(config, target),
        "notes": NOTES | _notes_of_this_run(target, measured, load_average_before),
    }


def _about_reference(config: BenchConfig, target: Target) -> str:
    if "reference" not in config.variants:
        return "not measured: not asked for"
    network = target.network
    if network is None or not network.has_reference:
        return f"not measured: {target.no_reference}"
    if network.text is None or not network.text_per_video:
        return (
            f"PyTorch eager fp32 in inference mode, as the public program of {network.model.architecture} runs it: "
            "the same weights, layer by layer, every video padded as there"
        )
    text = network.text
    return (
        f"PyTorch eager fp32 in inference mode; in each forward pass a CLIP text tower ({text.layers} layers of width "
        f"{text.width}, {text.heads} heads) embeds {target.n_classes} prompts padded to the longest, {text.n_tokens} "
        "tokens; attention is written out as products and a softmax. Prompts are tokenised beforehand."
    )


def _notes_of_this_run(
    target: Target, measured: Sequence[Measurement], load_average_before: Sequence[float] | None
) -> dict[str, str]:
    """Collect the exporter's notes on files, values that need a missing package, and disturbances."""
    notes, plans = {}, [m.plan for m in measured]
    if any(plan.precision == "fp16" and plan.device == "cpu" for plan in plans):
        notes["fp16 on a CPU"] = "is a size and GPU artifact: slower than fp32 here"
    if any(plan.runtime in ("torch-compile", "aot-inductor") for plan in plans):
        notes["peers"] = (
            "torch.compile and AOTInductor are compiled for one length and a batch of one, weights as constants; "
            "compared with the trained detector in eager fp32 first; the memory of torch.compile includes compiling"
        )
    if target.policy not in PLAUSIBLE:
        notes["postprocess"] = (
            f"not measured: outputs are made up for the decode policies {', '.join(PLAUSIBLE)}, not for {target.policy}"
        )
    for entry in target.manifest.detectors if target.manifest is not None else ():
        if (entry.runtime, entry.precision) not in SUPPORTED["cpu"]:
            notes[entry.path] = f"not measured: bench does not run {entry.runtime} {entry.precision}"
        elif entry.note:
            notes[entry.path] = entry.note
    resampled = next((plan.length for plan in plans if plan.variant == "localizer"), None)
    if resampled is not None and target.localizer_length(resampled) != resampled:
        notes["localizer"] = (
            f"resamples features to {target.localizer_length(resampled)} snippets first, as detect does"
        )
    if load_average_before is not None and load_average_before[0] > BUSY_LOAD:
        load = f"{load_average_before[0]:.2f}"
        notes["load"] = f"other programs were at work (load {load}): ratios hold better than seconds"
    if target.network is None or importlib.util.find_spec("fvcore") is None:
        notes["macs"] = "not counted: that needs torch, fvcore and the config the bundle was made from"
    return notes
